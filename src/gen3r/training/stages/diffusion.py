"""Stage `diffusion`: the joint denoiser of appearance and geometry latents (Gen3R, sec. 3.3)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.errors import InputError
from gen3r.models.conditioning import Conditions, camera_condition, control_latents
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import exact_products
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.video_vae import VideoVAE
from gen3r.training.latent_cache.shards import LatentCache, joint_latents, kinds_of, make_command
from gen3r.training.lora import add_adapters
from gen3r.training.stages.losses import flow_matching_loss
from gen3r.training.stages.stage import Batch, Stage


class DiffusionStage(Stage):
    """Flow matching on Z = [A; G], with nano's text and image encoders trained along.

    Without encoders, what frozen ones say is taken from the latent cache, which must hold contexts. With a rank,
    `lora`, the transformer and the encoders stay as they are, and adapters of that rank are trained in its blocks.

    Text is dropped for 20 % of the samples, cameras for 50 % in the paper; nano drops fewer, and gives all views to
    fewer samples, because its task is the scene from one view along a path.

    no_views: the share of samples without a view. Their time is drawn late, with density 3t^2, for words choose before
        there is a picture.
    stills: the share of micro-batches that are the first frames of more clips, as many latents in all, of which text is
        all that is told: where a view or a render is given, words are hardly needed, and so hardly learned.
    still_latents: whose first frames these are, by default those of `latents`. Many scenes of one frame each teach more
        words than few of many frames, and are sooner made.
    """

    name = "diffusion"

    def __init__(
        self,
        transformer: Gen3RTransformer,
        text_encoder: UMT5EncoderModel | None,
        image_encoder: CLIPVisionModelWithProjection | None,
        tokenizer: PreTrainedTokenizerBase,
        vae: VideoVAE,
        latents: LatentCache,
        text_length: int,
        frames: int = 17,
        size: tuple[int, int] = (112, 112),
        shift: float = 2.0,
        drop_text: float = 0.1,
        drop_cameras: float = 0.25,
        all_views: float = 0.05,
        no_views: float = 0.2,
        stills: float = 0.0,
        still_latents: LatentCache | None = None,
        lora: int = 0,
    ) -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.image_encoder = transformer, text_encoder, image_encoder
        self.tokenizer, self.latents, self.size = tokenizer, latents, size
        self.still_latents = latents if still_latents is None else still_latents
        self.text_length, self.shift = text_length, shift
        self.drop_text, self.drop_cameras = drop_text, drop_cameras
        self.all_views, self.no_views, self.stills = all_views, no_views, stills
        self.latent_frames = 1 + (frames - 1) // 4
        self.joint = transformer.config["layout"] != "appearance"
        self.renders = transformer.config["unseen_frames"] != "black"
        for kind in kinds_of(transformer.config):
            if kind not in latents.kinds:
                again = make_command(latents.folder, kind)
                raise InputError(f"this transformer learns from {kind} latents too; make them with: {again}")
        if lora:
            add_adapters(transformer, lora)
        else:
            transformer.requires_grad_(True)
            if text_encoder is not None and image_encoder is not None:
                _train_along(text_encoder, image_encoder)
        nothing = torch.zeros(1, 1, 1, 1, 1)  # stands where no sample is without a view
        if no_views or stills:
            given = torch.zeros(1, frames, dtype=torch.bool)
            with torch.no_grad():
                nothing = control_latents(vae, torch.zeros(1, frames, 3, *size), given)
        self.nothing: Tensor
        self.register_buffer("nothing", nothing, persistent=False)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        still = self.stills > 0 and rng.random() < self.stills
        latents, size = (self.still_latents, self.latent_frames * size) if still else (self.latents, size)
        index = torch.from_numpy(rng.integers(len(latents), size=size))
        batch: Batch = latents.take(index)
        told = rng.random(size) >= self.drop_text
        batch["captions"] = [latents.captions[int(i)] if t else "" for i, t in zip(index, told, strict=True)]
        if self.text_encoder is None:
            pairs = zip(batch.pop("prompt_embeds"), batch.pop("negative_prompt_embeds"), told, strict=True)
            texts = [text if t else no_text for text, no_text, t in pairs]
            batch["prompt_embeds"] = torch.stack(
                [F.pad(x, (0, 0, 0, self.text_length - len(x))) for x in texts]
            ).float()
        batch["views"] = torch.from_numpy(
            rng.choice(3, size, p=[1 - self.all_views - self.no_views, self.all_views, self.no_views])
        )
        batch["with_cameras"] = torch.from_numpy(rng.random(size) >= self.drop_cameras).float()
        batch = _stills_of(batch) if still else batch
        time = torch.from_numpy(rng.random(size)).float()
        batch["time"] = torch.where(batch["views"] == 2, time ** (1 / 3), time)
        return batch

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        sample = self.sample(batch)
        noise = torch.randn_like(sample)
        sigma = self.shift * batch["time"] / (1 + (self.shift - 1) * batch["time"])
        s = sigma[:, None, None, None, None]
        told = self.conditions(batch)
        velocity = self.transformer(
            (1 - s) * sample + s * noise, 1000 * sigma, told.prompt_embeds, told.image_embeds, told.control, told.rays
        ).float()
        if not self.joint:
            velocity, sample, noise = (x.chunk(2, dim=-1)[0] for x in (velocity, sample, noise))
        loss = flow_matching_loss(velocity, sample, noise)
        with torch.no_grad():
            error = (velocity - (noise - sample)).square()
        if not self.joint:
            return loss, {"appearance": error.mean()}
        appearance, geometry = error.chunk(2, dim=-1)
        return loss, {"appearance": appearance.mean(), "geometry": geometry.mean()}

    def sample(self, batch: Batch) -> Tensor:
        """The clips as Z = [A; G], [B, 16, f, h, 2w]."""
        return joint_latents(batch)

    def conditions(self, batch: Batch) -> Conditions:
        """What the transformer is told of them."""
        with exact_products(batch["K_px"].device):
            rays = camera_condition(batch["T_world_camera"], batch["K_px"], *self.size)
        rays.mul_(batch["with_cameras"][:, None, None, None, None])
        text, image = self._contexts(batch)
        return Conditions(text, None, image, self._control(batch), rays)

    def _contexts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Text and image contexts; no image for samples without a view."""
        if self.text_encoder is None or self.image_encoder is None:
            text, image = batch["prompt_embeds"], batch["image_embeds"]
        else:
            device = batch["first_frame"].device
            text = encode_text(self.tokenizer, self.text_encoder, batch["captions"], self.text_length, device)
            image = encode_image(self.image_encoder, batch["first_frame"] / 255)
        if "control" not in batch:
            image = image[:, :1]
        return text, image * (batch["views"] != 2)[:, None, None]

    def _control(self, batch: Batch) -> Tensor:
        """Control latents for the drawn views: as cached, all frames, or none; renders where there are cameras."""
        if "control" not in batch:
            return self.nothing[:, :, :1].expand(len(batch["views"]), -1, -1, -1, -1)
        control, views = batch["control"], batch["views"][:, None, None, None, None]
        mean = batch["appearance"]
        half = mean.shape[-1]
        full = torch.zeros_like(control)
        full[:, : mean.shape[1], ..., :half] = mean
        full[:, mean.shape[1] :, ..., :half] = 1
        if self.renders:
            control = torch.where(batch["with_cameras"].view_as(views) == 1, batch["warped"], control)
        return torch.where(views == 1, full, torch.where(views == 2, self.nothing[:, :, : control.shape[2]], control))


def _train_along(text_encoder: UMT5EncoderModel, image_encoder: CLIPVisionModelWithProjection) -> None:
    """Both encoders are trained, but for what follows the image encoder's last block but one, which nothing reads."""
    text_encoder.requires_grad_(True)
    image_encoder.requires_grad_(True)
    last = image_encoder.config.num_hidden_layers - 1  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    for name, parameter in image_encoder.named_parameters():
        if name.startswith((f"vision_model.encoder.layers.{last}.", "vision_model.post", "visual_projection")):
            parameter.requires_grad_(False)


def _stills_of(batch: Batch) -> Batch:
    """The first latent frames of a batch, which stand for the first frames of its clips, without views and cameras.

    Of what an image encoder says, one picture's first token stands for all: to a sample without a view all are nothing.
    """
    latents = {k: batch[k][:, :, :1] for k in ("appearance", "geometry")}
    cameras = {k: batch[k][:, :1] for k in ("T_world_camera", "K_px")}
    told = {"views": torch.full_like(batch["views"], 2), "with_cameras": torch.zeros_like(batch["with_cameras"])}
    kept = {k: batch[k] for k in ("captions", "prompt_embeds") if k in batch}
    image = {k: batch[k][:1] for k in ("first_frame", "image_embeds") if k in batch}
    return {**latents, **cameras, **told, **kept, **image}
