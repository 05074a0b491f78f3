"""Generation and reconstruction: the whole story on one page (Gen3R, sec. 3)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose
from gen3r.cameras.interpolate import resample
from gen3r.cameras.trajectories import find_trajectory, trajectory
from gen3r.checkpoints import load_components
from gen3r.checkpoints.load import save_components
from gen3r.errors import InputError
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.conditioning import camera_condition, control_latents, free_cameras
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import fast_dtype
from gen3r.models.tokens import unpack_tokens
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT, GeometryPrediction
from gen3r.models.video_vae import VideoVAE
from gen3r.scene import Scene

TEXT_ONLY_FOV = 1.0  # radians, when no picture tells the lens
SIZE_STEP = 112
StepCallback = Callable[["Gen3RPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor]]


class Gen3RPipeline(DiffusionPipeline):
    """From no, one, two or all frames of a clip, with optional text and cameras, to a scene.

    Components: transformer (the joint denoiser), vggt and geo_adapter (geometry <-> latents), vae (frames <->
    latents), tokenizer and text_encoder, image_encoder, scheduler (Euler or UniPC, flow matching). `defaults` holds
    the model's own clip length, size, steps, guidance, negative prompt and text length.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->vae->transformer->geo_adapter->vggt"
    _callback_tensor_inputs = ["latents"]

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

    @classmethod
    def from_pretrained(cls, model: str | Path = "nano", torch_dtype: torch.dtype | None = None) -> "Gen3RPipeline":  # pyright: ignore[reportIncompatibleMethodOverride]
        """The pipeline of `nano` (in the package), a folder (ours or the published layout), or a Hub id."""
        return cls(**load_components(model, torch_dtype))

    def save_pretrained(self, save_directory: str | Path) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes our pipeline folder, sharded safetensors; all or nothing."""
        save_components({**self.components, "defaults": dict(self.config.defaults)}, Path(save_directory))

    @torch.inference_mode()
    def __call__(
        self,
        images: Tensor | Sequence[Tensor] | None = None,
        prompt: str | list[str] = "",
        cameras: Cameras | Sequence[Cameras] | str | None = None,
        *,
        negative_prompt: str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_steps: int | None = None,
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
        """Generates scenes.

        images: the given frames, [n, 3, H, W] in [0, 1] for one sample or [B, n, 3, H, W], already of the clip's
            size; n = 0 or None (text alone), 1 (first), 2 (first and last), or all frames of the clip.
        prompt: one, or one a sample. cameras: None leaves them to the model; a name from
            `gen3r.cameras.trajectories`, scaled to the scene's depth as VGGT sees it; or one `Cameras` for all
            samples, or one each, resampled to the clip, whose unit is the mean distance of the scene's points.
        num_frames: 4k + 1. height, width: multiples of 112. Each defaults to the model's own.
        guidance_steps: only that many first steps are guided; the rest run the conditional half alone.
        generator: one a sample makes results independent of the batch. latents: the noise to start from,
            [B, 16, f, h, 2w]. prompt_embeds, negative_prompt_embeds, image_context: skip the encoders.
        output_type: "scene", or "latent" for the denoised [B, 16, f, h, 2w].

        Raises:
            InputError: sizes, counts or names do not fit.
        """
        defaults = self.config.defaults
        frames = defaults["num_frames"] if num_frames is None else num_frames
        steps = defaults["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        guidance = defaults["guidance_scale"] if guidance_scale is None else guidance_scale
        negative = defaults["negative_prompt"] if negative_prompt is None else negative_prompt
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        height, width = self._size(images, height, width)
        check_request(frames, height, width, steps, guidance)
        given = self._given_frames(images, len(prompts), frames, height, width)
        batch = len(given)
        prompts = prompts * batch if len(prompts) == 1 else prompts
        if len(prompts) != batch:
            raise InputError(f"{len(prompts)} prompts for {batch} samples; give one prompt, or one a sample")
        device = self._execution_device
        given = given.to(device)

        # 1. what the transformer is told
        path = self._requested_cameras(cameras, given, frames, height, width, extent, easing)
        text, no_text = self._encode_prompts(prompts, negative, guidance, prompt_embeds, negative_prompt_embeds)
        seen = self._image_context(given) if image_context is None else image_context.to(device)
        control = self._control(given, frames, height, width)
        rays = self._rays(path, batch, frames, height, width)
        # 2. noise
        latents = self._noise(batch, frames, height, width, generator, latents)
        # 3. denoise Z = [A; G]
        guided = steps if guidance_steps is None else guidance_steps
        scale = guidance if guidance != 1 else None
        latents = self._denoise(latents, text, no_text, seen, control, rays, steps, scale, guided, callback_on_step_end)
        # 4. decode both halves
        if output_type == "latent":
            return latents
        settings = {
            "task": _task(given.shape[1], frames), "frames": frames, "height": height, "width": width, "steps": steps,
            "guidance": guidance, "camera": cameras if isinstance(cameras, str) else "given" if path else "free",
        }  # fmt: skip
        return self.decode(latents, prompts, settings)

    @torch.inference_mode()
    def decode(self, latents: Tensor, prompts: list[str], settings: dict[str, Any] | None = None) -> list[Scene]:
        """The scenes of denoised latents [B, 16, f, h, 2w]: frames from A, geometry from G."""
        appearance, geometry = latents.chunk(2, dim=-1)
        frames = self.decode_frames(appearance)
        seen = self.decode_geometry(geometry)
        return [self._scene(frames[i], seen, i, prompt, settings or {}) for i, prompt in enumerate(prompts)]

    @torch.inference_mode()
    def decode_frames(self, appearance: Tensor) -> Tensor:
        """Frames [B, F, 3, H, W] in [0, 1] of appearance latents [B, 16, f, h, w]."""
        with self._autocast():
            video = self.vae.decode_latents(appearance.to(self.vae.dtype)).float()
        return (video / 2 + 0.5).clamp(0, 1).transpose(1, 2)

    @torch.inference_mode()
    def decode_geometry(self, geometry: Tensor) -> GeometryPrediction:
        """Cameras, depth and points of geometry latents [B, 16, f, h, w]."""
        with self._autocast():
            levels = unpack_tokens(self.geo_adapter.decode(geometry.to(self.geo_adapter.dtype)))
        return self._heads(levels, 8 * geometry.shape[-2], 8 * geometry.shape[-1])

    @torch.inference_mode()
    def reconstruct(self, frames: Tensor) -> Scene:
        """The scene of frames [F, 3, H, W] in [0, 1] as VGGT sees it, with no generation. H and W: multiples of 14."""
        patch = self.vggt.config.patch_size
        if frames.shape[-2] % patch or frames.shape[-1] % patch:
            raise InputError(f"frames must be multiples of {patch} pixels, not {frames.shape[-2]} x {frames.shape[-1]}")
        frames = frames.to(self._execution_device)
        prediction = self._see(frames[None])
        return self._scene(frames, prediction, 0, "", {"task": "reconstruct", "frames": len(frames)})

    def _size(self, images: Any, height: int | None, width: int | None) -> tuple[int, int]:
        if isinstance(images, Tensor) and images.shape[-4:-3].numel() and height is None and width is None:
            return images.shape[-2], images.shape[-1]
        return height or self.config.defaults["height"], width or self.config.defaults["width"]

    @staticmethod
    def _given_frames(images: Any, batch: int, frames: int, height: int, width: int) -> Tensor:
        """The given frames as [B, n, 3, H, W] in [0, 1]."""
        if images is None:
            return torch.zeros(batch, 0, 3, height, width)
        given = images if isinstance(images, Tensor) else torch.stack(list(images))
        given = given[None] if given.ndim == 4 else given
        n = given.shape[1]
        if n not in (0, 1, 2, frames):
            raise InputError(f"{n} pictures given: give none, one (first), two (first and last) or all {frames} frames")
        if given.shape[2:] != (3, height, width):
            raise InputError(f"pictures are {list(given.shape[2:])}, the clip is [3, {height}, {width}]; resize them first")
        given = given.expand(batch, -1, -1, -1, -1) if len(given) == 1 else given
        return given.float()

    def _requested_cameras(
        self, cameras: Any, given: Tensor, frames: int, height: int, width: int, extent: float | None, easing: str
    ) -> list[Cameras] | None:
        """One path a sample, relative to its first camera, or None where the model is free."""
        if cameras is None:
            return None
        if isinstance(cameras, str):
            find_trajectory(cameras)
            return [self._named_path(cameras, g, frames, height, width, extent, easing) for g in given]
        paths = [cameras] * len(given) if isinstance(cameras, Cameras) else list(cameras)
        if len(paths) != len(given):
            raise InputError(f"{len(paths)} camera paths for {len(given)} samples; give one, or one a sample")
        return [resample(c, frames).resize_and_crop(height, width).relative_to_first() for c in paths]

    def _named_path(
        self, name: str, given: Tensor, frames: int, height: int, width: int, extent: float | None, easing: str
    ) -> Cameras:
        """A named trajectory with the lens and the median depth that VGGT sees in the given frames."""
        if not len(given):
            K = Cameras.from_fov(torch.eye(4)[None], TEXT_ONLY_FOV, height, width).K_px[0]
            return trajectory(name, frames, K, height, width, 1.0, extent, easing)
        seen = self._scene(given, self._see(given[None]), 0, "", {})
        depth = float(seen.depth[seen.mask].median()) if bool(seen.mask.any()) else 1.0
        return trajectory(name, frames, seen.cameras.K_px[0], height, width, depth, extent, easing)

    def _encode_prompts(
        self, prompts: list[str], negative: str, guidance: float, embeds: Tensor | None, negative_embeds: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Text features [B, L, D] of the prompts and, where there is guidance, of the negative prompt."""
        device = self._execution_device

        def encode(texts: list[str]) -> Tensor:
            return encode_text(self.tokenizer, self.text_encoder, texts, self.config.defaults["text_length"], device)

        text = encode(prompts) if embeds is None else embeds.to(device)
        if guidance == 1:
            return text, None
        return text, encode([negative] * len(text)) if negative_embeds is None else negative_embeds.to(device)

    def _image_context(self, given: Tensor) -> Tensor:
        """Features of the first given frame; zeros of the same shape for text alone."""
        first = given[:, 0] if given.shape[1] else given.new_zeros(len(given), *given.shape[2:])
        context = encode_image(self.image_encoder, first)
        return context if given.shape[1] else torch.zeros_like(context)

    def _control(self, given: Tensor, frames: int, height: int, width: int) -> Tensor:
        """Condition latents and mask of the given frames at their places."""
        n = given.shape[1]
        places = list(range(frames)) if n == frames else [0, frames - 1][:n]
        video = given.new_zeros(len(given), frames, 3, height, width)
        mask = torch.zeros(len(given), frames, dtype=torch.bool, device=given.device)
        video[:, places], mask[:, places] = given, True
        with self._autocast():
            return control_latents(self.vae, video.to(self.vae.dtype), mask).float()

    def _rays(self, path: list[Cameras] | None, batch: int, frames: int, height: int, width: int) -> Tensor:
        device = self._execution_device
        if path is None:
            return free_cameras(batch, frames, height, width, torch.zeros((), device=device))
        T = torch.stack([c.T_world_camera for c in path]).to(device)
        K = torch.stack([c.K_px for c in path]).to(device)
        return camera_condition(T, K, height, width)

    def _noise(
        self, batch: int, frames: int, height: int, width: int, generator: Any, latents: Tensor | None
    ) -> Tensor:
        shape = (batch, self.transformer.config.out_channels, 1 + (frames - 1) // 4, height // 8, 2 * width // 8)
        if latents is not None:
            if latents.shape != shape:
                raise InputError(f"latents have shape {list(latents.shape)}, this request needs {list(shape)}")
            return latents.to(self._execution_device, torch.float32)
        if isinstance(generator, list) and len(generator) != batch:
            raise InputError(f"{len(generator)} generators for {batch} samples; give one, or one a sample")
        return randn_tensor(shape, generator, self._execution_device, torch.float32)

    def _denoise(
        self, latents: Tensor, text: Tensor, no_text: Tensor | None, seen: Tensor, control: Tensor, rays: Tensor,
        steps: int, scale: float | None, guided: int, callback: StepCallback | None,
    ) -> Tensor:  # fmt: skip
        """Integrates the flow from noise to data; latents stay float32, the network runs in its own type."""
        dtype = self.transformer.dtype
        fixed = [x.to(dtype) for x in (seen, control, rays)]
        self.scheduler.set_timesteps(steps, device=latents.device)
        with self.progress_bar(total=steps) as bar:
            for i, t in enumerate(self.scheduler.timesteps):
                pair = scale is not None and no_text is not None and i < guided
                texts = torch.cat([no_text, text]) if pair else text  # pyright: ignore[reportArgumentType]
                inputs = [torch.cat([x, x]) if pair else x for x in (latents.to(dtype), *fixed)]
                time = t.expand(len(inputs[0])).to(latents.device)
                with self._autocast():
                    velocity = self.transformer(inputs[0], time, texts.to(dtype), *inputs[1:]).float()
                if pair:
                    without, along = velocity.chunk(2)
                    velocity = without + scale * (along - without)  # pyright: ignore[reportOptionalOperand]
                latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
                if callback is not None:
                    latents = callback(self, i, t, {"latents": latents}).get("latents", latents)
                bar.update()
        return latents

    def _autocast(self) -> Any:
        """bfloat16 products where they are fast and the weights are float32; else nothing."""
        device = self._execution_device.type
        fast = fast_dtype(device)
        if device == "cpu" and self.transformer.dtype == torch.float32 and fast == torch.bfloat16:
            return torch.autocast(device, fast)
        return nullcontext()

    def _see(self, frames: Tensor) -> GeometryPrediction:
        """VGGT on frames [B, F, 3, H, W]."""
        with self._autocast():
            levels = self.vggt.tokens(frames.to(self.vggt.dtype))
        return self._heads(levels, *frames.shape[-2:])

    def _heads(self, levels: list[Tensor], height: int, width: int) -> GeometryPrediction:
        """VGGT's heads, always in float32."""
        for head in (self.vggt.camera_head, self.vggt.depth_head, self.vggt.point_head):
            head.float()
        return self.vggt.heads([x.float() for x in levels], height, width)

    def _scene(self, frames: Tensor, seen: GeometryPrediction, i: int, prompt: str, settings: dict[str, Any]) -> Scene:
        """Sample i as a scene: points are its depth unprojected with its cameras."""
        height, width = frames.shape[-2:]
        depth = seen.depth[i].float()
        T, K = decode_pose(seen.pose_enc[-1, i].float(), height, width)
        T = torch.linalg.inv(T[:1]) @ T
        points = unproject(depth, T, K, self.vggt.config.pixel_centre)
        return Scene(
            frames=(frames.permute(0, 2, 3, 1) * 255 + 0.5).clamp(0, 255).to(torch.uint8).cpu(),
            depth=depth.cpu(),
            confidence=seen.depth_confidence[i].float().cpu(),
            points=points.cpu(),
            mask=valid_depth_mask(depth).cpu(),
            cameras=Cameras(T.cpu(), K.cpu(), height, width),
            prompt=prompt,
            settings=settings,
        )


def check_request(frames: int, height: int, width: int, steps: int, guidance: float) -> None:
    """Refuses sizes and counts that no model can serve, before any work.

    Raises:
        InputError: says which, and what to give instead.
    """
    if frames < 1 or (frames - 1) % 4:
        near = max(1, 4 * round((frames - 1) / 4) + 1)
        raise InputError(f"a clip has 4k + 1 frames, not {frames}; try {near}")
    for name, value in (("height", height), ("width", width)):
        if value < SIZE_STEP or value % SIZE_STEP:
            near = max(SIZE_STEP, SIZE_STEP * round(value / SIZE_STEP))
            raise InputError(f"the {name} must be a multiple of {SIZE_STEP}, not {value}; try {near}")
    if steps < 1:
        raise InputError(f"sampling needs at least 1 step, not {steps}")
    if not 0 <= guidance <= 100:
        raise InputError(f"guidance must lie between 0 and 100, not {guidance}; 1 turns it off")


def _task(given: int, frames: int) -> str:
    names = {0: "text", 1: "one view", 2: "two views"}
    return "all views" if given == frames and frames > 2 else names[given]
