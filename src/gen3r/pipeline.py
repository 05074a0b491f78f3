"""Generation and reconstruction: the whole story on one page (Gen3R, sec. 3)."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.loaders import WanLoraLoaderMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose
from gen3r.cameras.paths import BETWEEN, FREE, resample, trajectory
from gen3r.checkpoints import load_components
from gen3r.checkpoints.load import PACKAGED, resolve_model, save_components
from gen3r.checkpoints.lora import check_peft, lora_file
from gen3r.errors import InputError
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.media.images import ImageInput, image_batch
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.conditioning import (
    camera_condition,
    control_latents,
    free_cameras,
    known_latents,
    warped_control,
)
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import fast_products
from gen3r.models.tokens import unpack_tokens
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT, GeometryPrediction
from gen3r.models.video_vae import VideoVAE
from gen3r.request import batch_size, check_between, check_request, sample_count, task_name, usual_cameras
from gen3r.scene import Scene

TEXT_ONLY_FOV = math.radians(60)  # the lens of a named path when no picture tells it
StepCallback = Callable[["Gen3RPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]
Images = ImageInput | Sequence[ImageInput] | None
Paths = Cameras | Sequence[Cameras] | str


@dataclass(frozen=True)
class Conditions:
    """What the transformer is told besides the noise; B samples.

    text, no_text: [B, L, D] of the prompts and of the negative prompt, None without guidance. image: [B, N, D'].
    control: [B, 20, f, h, 2w]. rays: [B, 24, f, H, 2W].
    """

    text: Tensor
    no_text: Tensor | None
    image: Tensor
    control: Tensor
    rays: Tensor


class Gen3RPipeline(DiffusionPipeline, WanLoraLoaderMixin):
    """From no, one, two or all frames of a clip, with optional text and cameras, to a scene.

    Components: transformer (the joint denoiser), vggt and geo_adapter (geometry <-> latents), vae (frames <->
    latents), tokenizer and text_encoder, image_encoder, scheduler (Euler or UniPC, flow matching).

    `mixed_precision`: float32 weights multiply in bfloat16 where the device does that fast; False keeps float32 exact.
    VGGT's heads always run in float32.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae->geo_adapter->vggt"
    _callback_tensor_inputs = ("latents",)
    mixed_precision = False

    def __init__(
        self,
        transformer: Gen3RTransformer,
        vggt: VGGT,
        geo_adapter: GeometryAdapter,
        vae: VideoVAE,
        text_encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        image_encoder: CLIPVisionModelWithProjection,
        scheduler: FlowMatchEulerDiscreteScheduler | UniPCMultistepScheduler,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer, vggt=vggt, geo_adapter=geo_adapter, vae=vae, text_encoder=text_encoder,
            tokenizer=tokenizer, image_encoder=image_encoder, scheduler=scheduler,
        )  # fmt: skip
        self.register_to_config(defaults=defaults or {})

    @property
    def defaults(self) -> dict[str, Any]:
        """The model's own clip length, size, steps, guidance, negative prompt and text length."""
        return dict(self.config["defaults"])

    @classmethod
    def from_pretrained(cls, model: str | Path = "nano", torch_dtype: torch.dtype | None = None) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The pipeline of `nano` (in the package), a folder (ours or the published layout), or a Hub id.

        torch_dtype: the weights' type; None keeps the stored one, but gives models of the package in float32 with
            `mixed_precision`, which is fast on any machine and small anyway.

        Raises:
            InputError: there is no such model, or a tensor is missing, left over, misshapen, damaged or pickled.
        """
        folder = resolve_model(model)
        packaged = torch_dtype is None and folder.parent == PACKAGED
        pipe = cls(**load_components(folder, torch.float32 if packaged else torch_dtype))
        pipe.mixed_precision = packaged
        return pipe

    def save_pretrained(self, save_directory: str | Path, max_shard_size: str = "5GB") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes our pipeline folder, sharded safetensors, whole or not at all."""
        save_components({**self.components, "defaults": self.defaults}, Path(save_directory), max_shard_size)

    def load_lora(self, path: str | Path) -> None:
        """Adds the LoRA adapters of a safetensors file, or of a folder with one, to the transformer.

        diffusers' `set_adapters`, `fuse_lora` and `unload_lora_weights` scale them, fold them in and take them off.

        Raises:
            InputError: peft is not installed; there is no such file; or it does not fit this transformer.
        """
        check_peft()
        file = lora_file(path)
        try:
            self.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{file} does not fit this transformer: {str(error).splitlines()[-1].strip()}") from error
        if not self.get_active_adapters():
            raise InputError(f"{file} holds nothing for this transformer")

    @torch.no_grad()
    def __call__(
        self,
        images: Images = None,
        prompt: str | list[str] = "",
        cameras: Paths | None = None,
        *,
        negative_prompt: str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_steps: int | None = None,
        hold_given: bool | None = None,
        look_again: bool | None = None,
        extent: float | None = None,
        easing: str = "linear",
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        image_context: Tensor | None = None,
        output_type: str = "scene",
        callback_on_step_end: StepCallback | None = None,
    ) -> list[Scene] | Tensor:
        """Generates scenes, one a sample.

        images: the given frames: none (text alone), 1 (first), 2 (first and last), or all frames of the clip. One
            picture, a list of pictures (tensors [3, H, W] in [0, 1], or Pillow's), or a tensor [n, 3, H, W]; several
            samples are [B, n, 3, H, W]. Each is resized to cover the clip's size and cropped in the centre.
        prompt: one, or one a sample. Text alone has zeros as its image context, as in training.
        cameras: "free" leaves them to the model; "between" goes from the first of two pictures evenly to the second,
            where VGGT sees them; a name from `gen3r.cameras.paths` is scaled to the scene's median depth as VGGT
            sees it in the given frames (1 for text alone); or one `Cameras` for all samples, or one each, resampled to
            the clip, whose unit is the mean distance of the scene's points. None: the model's own choice for the task,
            or free where it has none.
        num_frames: 4k + 1. height, width: multiples of 112. Each defaults to the model's own.
        guidance_steps: only that many first steps are guided; the rest run the conditional half alone.
        hold_given: latents that given frames determine whole, such as the first frame's, follow their own straight path
            from the noise instead of the model's velocity, so that given frames come out as the autoencoder has them.
            The release leaves them to the model.
        look_again: cameras, depth and points are those that VGGT sees in the generated frames, not those of the
            denoised geometry latents, as in the release. For nano they are more accurate.
        extent, easing: of a named path. generator: one a sample makes results independent of the batch.
        latents: the noise to start from, [B, 16, f, h, 2w]. prompt_embeds, negative_prompt_embeds [B, L, D],
            image_context [B, N, D']: skip the encoders.
        output_type: "scene", or "latent" for the denoised [B, 16, f, h, 2w], which `decode` turns into scenes.
        callback_on_step_end: called with (pipeline, step, timestep, {"latents": ...}); may return other latents.

        Raises:
            InputError: sizes, counts or names do not fit.
        """
        defaults = self.defaults
        frames = defaults["num_frames"] if num_frames is None else num_frames
        height, width = self._size(height, width)
        steps = defaults["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        guidance = defaults["guidance_scale"] if guidance_scale is None else guidance_scale
        negative = defaults["negative_prompt"] if negative_prompt is None else negative_prompt
        check_request(frames, height, width, steps, guidance)
        if steps == 1 and self.scheduler.config.get("shift_terminal"):
            raise InputError(f"this model samples in {defaults['num_inference_steps']} steps; it cannot in 1")
        if output_type not in ("scene", "latent"):
            raise InputError(f"output_type is scene or latent, not {output_type}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        given = image_batch(images, height, width)
        if given.shape[1] not in (0, 1, 2, frames) or given.shape[1] > frames:
            raise InputError(
                f"{given.shape[1]} pictures given: give none, one (first), two (first and last) or all {frames} frames"
            )
        cameras = usual_cameras(defaults, given.shape[1], frames) if cameras is None else cameras
        check_between(cameras, given.shape[1])
        if isinstance(cameras, str) and cameras not in (FREE, BETWEEN):  # a wrong name is found before anything slow
            self._path_without_picture(cameras, frames, height, width, extent, easing)
        batch = batch_size(
            pictures=len(given),
            prompts=len(prompts),
            camera_paths=sample_count(cameras),
            generators=sample_count(generator),
            latents=sample_count(latents),
            prompt_embeds=sample_count(prompt_embeds),
            image_contexts=sample_count(image_context),
        )
        prompts = prompts * batch if len(prompts) == 1 else prompts
        start = self._noise(batch, frames, height, width, generator, latents)
        given = given.expand(batch, -1, -1, -1, -1).to(self._execution_device)

        # 1. what the transformer is told
        path = self._requested_cameras(cameras, given, frames, height, width, extent, easing)
        text, no_text = self._encode_prompts(prompts, negative, guidance, prompt_embeds, negative_prompt_embeds)
        seen = self._image_context(given, image_context)
        control = self._control(given, frames, height, width, path)
        rays = self._rays(path, batch, frames, height, width)
        self.maybe_free_model_hooks()
        # 2. denoise Z = [A; G]
        conditions = Conditions(text, no_text, seen, control, rays)
        guided = steps if guidance_steps is None else guidance_steps
        hold = defaults["hold_given"] if hold_given is None else hold_given
        made = self._denoise(start, conditions, steps, guidance, guided, hold, callback_on_step_end)
        if output_type == "latent":
            self.maybe_free_model_hooks()
            return made
        # 3. decode both halves
        settings = {
            "task": task_name(given.shape[1], frames), "frames": frames, "height": height, "width": width,
            "steps": steps, "guidance": guidance, "negative_prompt": negative,
            "camera": cameras if isinstance(cameras, str) else "given",
        }  # fmt: skip
        return self.decode(made, prompts, settings, look_again)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        prompts: list[str],
        settings: dict[str, Any] | None = None,
        look_again: bool | None = None,
    ) -> list[Scene]:
        """The scenes of denoised latents [B, 16, f, h, 2w]: frames from A, geometry from G, or seen in the frames."""
        appearance, geometry = latents.to(self._execution_device).chunk(2, dim=-1)
        frames = self.decode_frames(appearance)
        look_again = self.defaults["look_again"] if look_again is None else look_again
        joint = self.transformer.config.layout != "appearance"
        seen = self.decode_geometry(geometry) if joint and not look_again else self._see(frames)
        self.maybe_free_model_hooks()
        return [self._scene(frames[i], seen, i, prompt, settings or {}) for i, prompt in enumerate(prompts)]

    @torch.no_grad()
    def decode_frames(self, appearance: Tensor) -> Tensor:
        """Frames [B, F, 3, H, W] in [0, 1] of appearance latents [B, 16, f, h, w]."""
        with self._products():
            video = self.vae.decode_latents(appearance.to(self.vae.dtype)).float()
        return (video / 2 + 0.5).clamp(0, 1).transpose(1, 2)

    @torch.no_grad()
    def decode_geometry(self, geometry: Tensor) -> GeometryPrediction:
        """Cameras, depth and points of geometry latents [B, 16, f, h, w]."""
        with self._products():
            levels = unpack_tokens(self.geo_adapter.decode(geometry.to(self.geo_adapter.dtype)))
        return self.vggt.heads(levels, 8 * geometry.shape[-2], 8 * geometry.shape[-1])

    @torch.no_grad()
    def reconstruct(self, images: Images, height: int | None = None, width: int | None = None) -> Scene:
        """The scene of any number of frames as VGGT sees it, with nothing generated.

        images: as for generation, of one clip. height, width: multiples of 14; by default the pictures' own where they
            are such, else the model's. Pictures are resized to cover the size and cropped in the centre.
        """
        patch = self.vggt.config.patch_size
        own = images.shape[-2:] if isinstance(images, Tensor) else (1, 1)
        fits = height is None and width is None and not (own[0] % patch or own[1] % patch)
        height, width = own if fits else self._size(height, width)
        if min(height, width) < patch or height % patch or width % patch:
            raise InputError(f"the size must be in multiples of {patch} pixels, not {height} x {width}")
        batch = image_batch(images, height, width)
        if len(batch) != 1 or not batch.shape[1]:
            raise InputError(f"give the pictures of one clip, not {list(batch.shape[:2])} clips and pictures")
        frames = batch[0].to(self._execution_device)
        settings = {"task": "reconstruct", "frames": len(frames), "height": height, "width": width}
        scene = self._as_seen(frames, settings)
        self.maybe_free_model_hooks()
        return scene

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width, the model's own where they are left out."""
        own = self.defaults
        return own["height"] if height is None else height, own["width"] if width is None else width

    def _requested_cameras(
        self, cameras: Paths, given: Tensor, frames: int, height: int, width: int, extent: float | None, easing: str
    ) -> list[Cameras] | None:
        """One path a sample, relative to its first camera, or None where the model is free."""
        if cameras == FREE:
            return None
        if cameras == BETWEEN:
            return [resample(self._as_seen(g, {}).cameras, frames) for g in given]
        if isinstance(cameras, str):
            return [self._named_path(cameras, g, frames, height, width, extent, easing) for g in given]
        paths = [cameras] * len(given) if isinstance(cameras, Cameras) else list(cameras)
        paths = paths * len(given) if len(paths) == 1 else paths
        return [resample(c, frames).resize_and_crop(height, width).relative_to_first() for c in paths]

    def _named_path(
        self, name: str, given: Tensor, frames: int, height: int, width: int, extent: float | None, easing: str
    ) -> Cameras:
        """A named trajectory with the lens and the median depth that VGGT sees in the given frames."""
        if not len(given):
            return self._path_without_picture(name, frames, height, width, extent, easing)
        seen = self._as_seen(given, {})
        depth = float(seen.depth[seen.mask].median()) if bool(seen.mask.any()) else 1.0
        return trajectory(name, frames, seen.cameras.K_px[0], height, width, depth, extent, easing)

    def _path_without_picture(
        self, name: str, frames: int, height: int, width: int, extent: float | None, easing: str
    ) -> Cameras:
        """A named trajectory for text alone: a usual lens, and a scene as deep as VGGT's unit."""
        K = Cameras.from_fov(torch.eye(4)[None], TEXT_ONLY_FOV, height, width).K_px[0]
        return trajectory(name, frames, K, height, width, 1.0, extent, easing)

    def _encode_prompts(
        self, prompts: list[str], negative: str, guidance: float, embeds: Tensor | None, negative_embeds: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Text features [B, L, D] of the prompts and, where there is guidance, of the negative prompt."""
        device, length = self._execution_device, self.defaults["text_length"]

        def encode(texts: list[str]) -> Tensor:
            tokens = max(len(ids) for ids in self.tokenizer(texts)["input_ids"])  # pyright: ignore[reportArgumentType]
            if tokens > length:
                warnings.warn(f"the prompt has {tokens} tokens; only the first {length} count", stacklevel=5)
            return encode_text(self.tokenizer, self.text_encoder, texts, length, device)

        def expand(features: Tensor) -> Tensor:
            return features.to(device).expand(len(prompts), -1, -1)

        text = encode(prompts) if embeds is None else expand(embeds)
        if guidance == 1:
            return text, None
        return text, expand(encode([negative]) if negative_embeds is None else negative_embeds)

    def _image_context(self, given: Tensor, context: Tensor | None = None) -> Tensor:
        """Features [B, N, D'] of the first given frame; zeros of the same shape for text alone."""
        if context is not None:
            return context.to(given.device).expand(len(given), -1, -1)
        if given.shape[1]:
            return encode_image(self.image_encoder, given[:, 0])
        config = self.image_encoder.config
        return given.new_zeros(len(given), 1 + (config.image_size // config.patch_size) ** 2, config.hidden_size)

    def _control(
        self, given: Tensor, frames: int, height: int, width: int, path: list[Cameras] | None = None
    ) -> Tensor:
        """Condition latents and mask of the given frames at their places, and of what they show along the path."""
        n = given.shape[1]
        places = list(range(frames)) if n == frames else [0, frames - 1][:n]
        if path is not None and 0 < n < frames and self.transformer.config.unseen_frames == "rendered":
            return torch.cat([self._rendered(*pair, places) for pair in zip(given, path, strict=True)])
        video = given.new_zeros(len(given), frames, 3, height, width)
        mask = torch.zeros(len(given), frames, dtype=torch.bool, device=given.device)
        video[:, places], mask[:, places] = given, True
        with self._products():
            return control_latents(self.vae, video.to(self.vae.dtype), mask).float()

    def _rendered(self, given: Tensor, path: Cameras, places: list[int]) -> Tensor:
        """The control of one sample's frames and of their renders."""
        depth = self._see(given[None]).depth[0]
        with self._products():
            return warped_control(self.vae, self.vggt, self.geo_adapter, [given], [depth], [places], [path]).float()

    def _rays(self, path: list[Cameras] | None, batch: int, frames: int, height: int, width: int) -> Tensor:
        """The camera condition of the paths, or the one that leaves the cameras free."""
        device = self._execution_device
        if path is None:
            return free_cameras(batch, frames, height, width, device)
        T = torch.stack([c.T_world_camera for c in path]).to(device)
        K = torch.stack([c.K_px for c in path]).to(device)
        return camera_condition(T, K, height, width)

    def _noise(
        self, batch: int, frames: int, height: int, width: int, generator: Any, latents: Tensor | None
    ) -> Tensor:
        """The latents to start from: standard normal noise, or those given."""
        shape = (batch, self.transformer.config.out_channels, 1 + (frames - 1) // 4, height // 8, 2 * width // 8)
        if latents is None:
            return randn_tensor(shape, generator, self._execution_device, torch.float32)
        if latents.shape != shape:
            raise InputError(f"latents have shape {list(latents.shape)}, this request needs {list(shape)}")
        return latents.to(self._execution_device, torch.float32)

    def _denoise(
        self, latents: Tensor, conditions: Conditions, steps: int, guidance: float, guided: int, hold: bool,
        callback: StepCallback | None,
    ) -> Tensor:  # fmt: skip
        """Integrates the flow from noise to data; latents stay float32, the network runs in its own type."""
        self.scheduler.set_timesteps(steps, device=latents.device)
        noise = latents
        given, known = known_latents(conditions.control)
        known = known & hold
        with self.progress_bar(total=steps) as bar:  # pyright: ignore[reportCallIssue]
            for i, t in enumerate(self.scheduler.timesteps):
                velocity = self._velocity(latents, t, conditions, guidance if i < guided else 1.0)
                latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
                sigma = self.scheduler.sigmas[i + 1].to(latents.device)
                latents = torch.where(known, (1 - sigma) * given + sigma * noise, latents)
                if callback is not None:
                    latents = (callback(self, i, t, {"latents": latents}) or {}).get("latents", latents)
                bar.update()
        if not latents.isfinite().all():
            raise InputError(f"sampling overflowed in {self.transformer.dtype}; use float32 or bfloat16")
        return latents

    def _velocity(self, latents: Tensor, t: Tensor, conditions: Conditions, guidance: float) -> Tensor:
        """The velocity noise - x; with guidance, both conditions in one batch: v0 + guidance * (v1 - v0)."""
        told = [conditions.image, conditions.control, conditions.rays]
        text, inputs = conditions.text, [latents, *told]
        pair = guidance != 1 and conditions.no_text is not None
        if pair:
            text = torch.cat([conditions.no_text, text])  # pyright: ignore[reportArgumentType, reportCallIssue]
            inputs = [torch.cat([x, x]) for x in inputs]
        z, *told = (x.to(self.transformer.dtype) for x in inputs)
        with self._products():
            velocity = self.transformer(z, t.expand(len(z)).to(z.device), text.to(z.dtype), *told).float()
        if not pair:
            return velocity
        without, along = velocity.chunk(2)
        return without + guidance * (along - without)

    def _products(self) -> AbstractContextManager[Any]:
        """bfloat16 products of float32 weights, where `mixed_precision` asks for them and the device does them fast."""
        if self.mixed_precision and self.transformer.dtype == torch.float32:
            return fast_products(self._execution_device)
        return nullcontext()

    def _see(self, frames: Tensor) -> GeometryPrediction:
        """VGGT on frames [B, F, 3, H, W]."""
        with self._products():
            levels = self.vggt.tokens(frames.to(self.vggt.dtype))
        return self.vggt.heads(levels, *frames.shape[-2:])

    def _as_seen(self, frames: Tensor, settings: dict[str, Any]) -> Scene:
        """Frames [F, 3, H, W] as a scene that VGGT sees."""
        return self._scene(frames, self._see(frames[None]), 0, "", settings)

    def _scene(self, frames: Tensor, seen: GeometryPrediction, i: int, prompt: str, settings: dict[str, Any]) -> Scene:
        """Sample i as a scene: points are its depth unprojected with its cameras, relative to the first."""
        height, width = frames.shape[-2:]
        depth = seen.depth[i].float().cpu()
        T, K = decode_pose(seen.pose_enc[-1, i].float().cpu(), height, width)
        cameras = Cameras(T, K, height, width).relative_to_first()
        return Scene(
            frames=(frames.permute(0, 2, 3, 1) * 255 + 0.5).clamp(0, 255).to(torch.uint8).cpu(),
            depth=depth,
            confidence=seen.depth_confidence[i].float().cpu(),
            points=unproject(depth, cameras.T_world_camera, cameras.K_px, self.vggt.config.pixel_centre),
            mask=valid_depth_mask(depth),
            cameras=cameras,
            prompt=prompt,
            settings=dict(settings),
        )
