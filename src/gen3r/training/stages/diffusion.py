"""Stage `diffusion`: the joint denoiser of appearance and geometry latents (Gen3R, sec. 3.3)."""

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.checkpoints.identity import component_hash
from gen3r.data.records import Clip
from gen3r.errors import InputError
from gen3r.geometry.normalise import normalise_scene
from gen3r.models.components import Components
from gen3r.models.conditioning import (
    Conditions,
    add_noise,
    camera_condition,
    control_latents,
    control_layout,
    shift_timestep,
    velocity_target,
)
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import exact_products
from gen3r.models.presets import ModelConfig
from gen3r.models.transformer import Gen3RTransformer
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.checkpoint import checkpoint_settings
from gen3r.training.latent_cache.shards import HALVES, LatentCache, joint_latents, kinds_of, make_command
from gen3r.training.sheets import depth_colours
from gen3r.training.stages.config import DiffusionConfig
from gen3r.training.stages.losses import flow_matching_loss
from gen3r.training.stages.stage import Batch, Row, Stage

if TYPE_CHECKING:
    from gen3r.training.run import Run

ALL_VIEWS, NO_VIEWS = 1, 2  # in a batch's `views`; 0 stands for the cached conditioning frames


class DiffusionStage(Stage):
    """Flow matching on Z = [A; G], with nano's text and image encoders trained along.

    The encoders are frozen where the latent cache holds embeddings.

    Single-frame clips teach the text: where frames or warped views are conditions, text hardly matters. A micro-batch
    of them has as many latents as one of clips. Many single-frame clips teach more than few clips, and are cheaper.
    Without `single_frame_latents`, the first frames of `latents` serve.

    model: sizes, text length and timestep shift.
    """

    name = "diffusion"
    trains = ("transformer", "text_encoder", "image_encoder")
    needs = ("vae", "vggt", "geo_adapter", "tokenizer")
    other_base: ClassVar[str] = ""  # what to do with a checkpoint that started from another transformer

    def __init__(
        self,
        components: Components,
        latents: LatentCache,
        model: ModelConfig,
        config: DiffusionConfig,
        single_frame_latents: LatentCache | None = None,
    ) -> None:
        super().__init__()
        for kind in kinds_of(components.transformer.config):
            if kind not in latents.kinds:
                again = make_command(latents.folder, kind)
                raise InputError(f"this transformer learns from {kind} latents too; make them with: {again}")
        self.latents, self.model, self.config = latents, model, config
        self.single_frame_latents = single_frame_latents or latents
        self.latent_frames = 1 + (model.num_frames - 1) // 4
        self.warped = components.transformer.config["unseen_frames"] == "warped"
        cached = "embeddings" in latents.kinds
        self.transformer, self.tokenizer = components.transformer, components.tokenizer
        self.text_encoder = None if cached else components.text_encoder
        self.image_encoder = None if cached else components.image_encoder
        self.choose_trained()
        control = torch.zeros(1, 1, 1, 1, 1)
        if config.no_views or config.single_frame:
            black = torch.zeros(1, model.num_frames, 3, model.height, model.width)
            with torch.no_grad():
                control = control_latents(components.vae, black, torch.zeros(black.shape[:2], dtype=torch.bool))
        self.no_views_control: Tensor
        self.register_buffer("no_views_control", control, persistent=False)

    @classmethod
    def of(cls, run: "Run", components: Components, config: DiffusionConfig) -> Self:
        """As `Stage.of`; refuses a checkpoint that started from another transformer, where `other_base` is set."""
        base = cls.check_base(run, components.transformer) if cls.other_base else ""
        single_frame = run.single_frame_latents(components) if config.single_frame else None
        stage = cls(components, run.latents(components), run.model, config, single_frame)
        stage.settings = {"base": base}
        return stage

    @classmethod
    def check_base(cls, run: "Run", transformer: Gen3RTransformer) -> str:
        """The hash of the transformer that the stage starts from.

        Raises:
            InputError: the stage's checkpoint started from another one.
        """
        base = component_hash(transformer)
        if checkpoint_settings(run.folder / cls.name).get("base", base) != base:
            raise InputError(f"{run.folder / cls.name} {cls.other_base}")
        return base

    def choose_trained(self) -> None:
        """Selects the parameters that are trained: all, apart from those of encoders that no output depends on."""
        self.transformer.requires_grad_(True)
        if self.text_encoder is None or self.image_encoder is None:
            return
        self.text_encoder.requires_grad_(True)
        self.image_encoder.requires_grad_(True)
        last = self.image_encoder.config.num_hidden_layers - 1  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
        unused = (f"vision_model.encoder.layers.{last}.", "vision_model.post", "visual_projection")
        for name, parameter in self.image_encoder.named_parameters():
            if name.startswith(unused):
                parameter.requires_grad_(False)

    def freeze_encoders(self) -> None:
        """Leaves the text and image encoders as they are."""
        for encoder in (self.text_encoder, self.image_encoder):
            if encoder is not None:
                encoder.requires_grad_(False)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        config = self.config
        single = config.single_frame > 0 and rng.random() < config.single_frame
        latents, size = (self.single_frame_latents, self.latent_frames * size) if single else (self.latents, size)
        index = torch.from_numpy(rng.integers(len(latents), size=size))
        batch: Batch = latents.take(index)
        with_text = rng.random(size) >= config.drop_text
        batch["captions"] = [latents.captions[int(i)] if t else "" for i, t in zip(index, with_text, strict=True)]
        if self.text_encoder is None:
            pairs = zip(batch.pop("prompt_embeds"), batch.pop("negative_prompt_embeds"), with_text, strict=True)
            embeds = [prompt if t else empty for prompt, empty, t in pairs]
            length = self.model.text_length
            batch["prompt_embeds"] = torch.stack([F.pad(x, (0, 0, 0, length - len(x))) for x in embeds]).float()
        shares = [1 - config.all_views - config.no_views, config.all_views, config.no_views]
        batch["views"] = torch.from_numpy(rng.choice(3, size, p=shares))
        batch["with_cameras"] = torch.from_numpy(rng.random(size) >= config.drop_cameras).float()
        batch = _first_frames(batch) if single else batch
        time = torch.from_numpy(rng.random(size)).float()
        batch["time"] = torch.where(batch["views"] == NO_VIEWS, time ** (1 / 3), time)
        return batch

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        sample = joint_latents(batch)
        noise = torch.randn_like(sample)
        sigma = shift_timestep(batch["time"], self.model.shift)
        velocity = predict_velocity(self.transformer, add_noise(sample, noise, sigma), sigma, self.conditions(batch))
        return self.compare(velocity, velocity_target(sample, noise))

    def compare(self, velocity: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the mean squared error of each half of Z."""
        appearance, geometry = (velocity.detach() - target).square().chunk(2, dim=-1)
        loss = flow_matching_loss(velocity, target)
        return loss, {"appearance": appearance.mean(), "geometry": geometry.mean()}

    def conditions(self, batch: Batch) -> Conditions:
        """The conditions of a batch, without those that were drawn to be dropped."""
        with exact_products(batch["K_px"].device):
            rays = camera_condition(batch["T_world_camera"], batch["K_px"], self.model.height, self.model.width)
        rays.mul_(batch["with_cameras"][:, None, None, None, None])
        prompt_embeds, image_embeds = self._embeds(batch)
        return Conditions(prompt_embeds, None, image_embeds, self.control(batch), rays)

    def _embeds(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings of prompts and images; zeros for images without conditioning frames."""
        if self.text_encoder is None or self.image_encoder is None:
            prompt_embeds, image_embeds = batch["prompt_embeds"], batch["image_embeds"]
        else:
            device, length = batch["first_frame"].device, self.model.text_length
            prompt_embeds = encode_text(self.tokenizer, self.text_encoder, batch["captions"], length, device)
            image_embeds = encode_image(self.image_encoder, batch["first_frame"] / 255)
        if "control" not in batch:
            image_embeds = image_embeds[:, :1]
        return prompt_embeds, image_embeds * (batch["views"] != NO_VIEWS)[:, None, None]

    def control(self, batch: Batch) -> Tensor:
        """The control [B, 20, f, h, 2w] for the drawn views: as cached, all frames or none.

        Cached ones are warped views, for transformers that take them, in samples with cameras.
        """
        if "control" not in batch:
            return self.no_views_control[:, :, :1].expand(len(batch["views"]), -1, -1, -1, -1)
        control, views = batch["control"], batch["views"][:, None, None, None, None]
        if self.warped:
            control = torch.where(batch["with_cameras"].view_as(views) == 1, batch["warped"], control)
        every = control_layout(batch["appearance"], torch.ones_like(batch["appearance"][:, :4]))
        none = self.no_views_control[:, :, : control.shape[2]]
        return torch.where(views == ALL_VIEWS, every, torch.where(views == NO_VIEWS, none, control))

    def sheet_rows(self, pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
        """The clip from its first frame, its caption and its cameras."""
        images = clip.images[None].to(pipe.device)
        _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
        path = Cameras(poses, clip.cameras.K_px, *images.shape[-2:])
        length = pipe.defaults["text_length"]
        embeds = encode_text(pipe.tokenizer, pipe.text_encoder, [clip.caption], length, images.device)
        scene = pipe(
            images[:, :1], cameras=path, num_frames=len(clip.frames), generator=torch.Generator().manual_seed(0),
            prompt_embeds=embeds, geometry_from="latents",
        )[0]  # fmt: skip
        assert not isinstance(scene, Tensor)
        return [("from the first frame", scene.frames), ("its depth", depth_colours(scene.depth))]


def predict_velocity(transformer: Gen3RTransformer, latents: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
    """The velocity [B, 16, f, h, 2w] of noisy latents at the noise levels sigma [B]."""
    c = conditions
    return transformer(latents, 1000 * sigma, c.prompt_embeds, c.image_embeds, c.control, c.rays).float()


def _first_frames(batch: Batch) -> Batch:
    """The first latent frames of a batch, without conditioning frames and cameras.

    One image embedding is kept, because all are zero without conditioning frames.
    """
    kept = {k: batch[k] for k in ("captions", "prompt_embeds") if k in batch}
    latents = {k: batch[k][:, :, :1] for k in HALVES}
    cameras = {k: batch[k][:, :1] for k in ("T_world_camera", "K_px")}
    image = {k: batch[k][:1] for k in ("first_frame", "image_embeds") if k in batch}
    dropped = {
        "views": torch.full_like(batch["views"], NO_VIEWS), "with_cameras": torch.zeros_like(batch["with_cameras"])
    }  # fmt: skip
    return {**kept, **latents, **cameras, **image, **dropped}
