"""Generation and reconstruction: the whole story on one page (Gen3R, sec. 3)."""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.loaders import WanLoraLoaderMixin
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose, square_pixels
from gen3r.cameras.names import BETWEEN, FREE
from gen3r.cameras.paths import resample, trajectory
from gen3r.checkpoints.cost import fitting_tier, own_clip
from gen3r.checkpoints.geometry import load_geometry
from gen3r.checkpoints.load import load_components, open_components, resolve_model, save_components
from gen3r.checkpoints.lora import check_peft, lora_file, lora_sampling
from gen3r.errors import InputError
from gen3r.geometry.image_based_rendering import render_photos
from gen3r.geometry.joining import overlapping_chunks, windows
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.geometry.refinement import matched_size, refine
from gen3r.geometry.structure_from_motion import MIN_FRAMES
from gen3r.locations import in_package
from gen3r.media.crop import Size
from gen3r.media.images import Images, count_images, first_size, image_batch, image_list, resize
from gen3r.media.sequence import ImageSequence, open_paths
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.components import MODULES, Components
from gen3r.models.conditioning import (
    Conditions,
    add_noise,
    camera_condition,
    control_latents,
    free_cameras,
    known_latents,
    photo_depth,
    warped_control,
)
from gen3r.models.depth_estimation import depth_ratio
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.fast_sampling import fast_scheduler, measured_ratios, step_cache
from gen3r.models.geometry import (
    GeometryModel,
    fitting_size,
    patch_size,
    resize_maps,
    usual_pixels,
    with_averaged_depth,
)
from gen3r.models.memory import TIERS, Offload
from gen3r.models.precision import exact_products, fast_products, fast_weights, store_weights
from gen3r.models.presets import least_steps
from gen3r.models.tokens import unpack_tokens
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT, GeometryPrediction
from gen3r.models.video_vae import VideoVAE
from gen3r.request import SIZE_STEP, Request, batch_size, check_patches, sample_count
from gen3r.scene import Scene, join_scenes

OVERLAP = 4  # of this many parts of a chunk, neighbours share one
TEXT_ONLY_FOV = math.radians(60)  # of a named path without an image
StepCallback = Callable[["Gen3RPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]
Paths = Cameras | str | Sequence[Cameras | str]


@dataclass(frozen=True)
class Views:
    """What a generation knows before it samples, of each sample.

    photos: the conditioning frames [B, n, 3, H, W] in [0, 1]. predictions: the geometry of each sample's frames; none
    where nothing needs it. path: where the cameras will be, at the photos' size, relative to the first; None where the
    model is free. depth: of each sample's photos [n, H, W], in the unit of its path; none where nothing needs it.
    """

    photos: Tensor
    predictions: list[GeometryPrediction]
    path: list[Cameras] | None
    depth: list[Tensor]


class Gen3RPipeline(DiffusionPipeline, WanLoraLoaderMixin):
    """From no, one, two or all frames of a clip, with optional text and cameras, to a scene.

    Components: transformer (the joint denoiser), vggt and geo_adapter (geometry <-> latents), vae (frames <->
    latents), tokenizer and text_encoder, image_encoder, scheduler (Euler or UniPC, flow matching).

    `geometry`: what `load_geometry` loaded; it sees the conditioning frames in place of vggt.
    `mixed_precision`: float32 weights multiply in bfloat16 where the device does that fast; False keeps float32 exact.
    VGGT's heads always run in float32.
    `on_progress`: called with what is being done after the denoising, how much of it is done, and of how much.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae->geo_adapter->vggt"
    _callback_tensor_inputs = ("latents",)
    mixed_precision = False
    on_progress: Callable[[str, int, int], None] | None = None
    geometry: GeometryModel | None = None
    offload: Offload | None = None  # where weights stay in their files until they are used
    _without_student: tuple[Any, dict[str, Any]] | None = None  # scheduler and defaults before a student's adapters

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
        for module, names in ((text_encoder, ["encoder"]), (image_encoder, ["vision_model", "encoder"])):
            if module is not None:
                vars(module)["_group_offload_block_modules"] = names  # their blocks lie deeper than diffusers looks

    @property
    def defaults(self) -> dict[str, Any]:
        """The model's own clip length, size, steps, guidance, negative prompt and text length."""
        return dict(self.config["defaults"])

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        model: str | Path = "nano",
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        memory: str = "high",
        device: torch.device | str = "cpu",
    ) -> Self:
        """The pipeline of `nano` (in the package), a folder (ours or the published layout), or a Hub id.

        torch_dtype: the weights' type; None keeps the stored one, but gives models of the package in float32 with
            `mixed_precision`, which is fast on any machine and small anyway.
        variant: "fp16" reads files such as `model.fp16.safetensors`, where a component has them.
        memory: "high" loads all weights; "balanced" and "low" leave them in their files until they are used
            (`gen3r.models.memory.Offload` says how); "auto" takes the first of these for which the device has the
            memory to make the model's own clip.
        device: where everything runs.

        Raises:
            InputError: there is no such model, variant or tier; a tensor is missing, left over, misshapen, not finite,
                damaged or pickled; or the device's memory clearly does not suffice.
        """
        folder, device = resolve_model(model), torch.device(device)
        packaged = torch_dtype is None and in_package(folder)
        dtype = torch.float32 if packaged else torch_dtype
        if memory not in TIERS:
            memory = fitting_tier(folder, dtype, own_clip(folder), device, memory, variant)
        if memory == "high":
            pipe = cls(**vars(load_components(folder, dtype, variant=variant)))
            pipe = pipe if device.type == "cpu" else pipe.to(device)
        else:
            components, weights = open_components(folder, dtype, variant)
            offload = Offload(components.modules(), weights, device, memory)
            pipe = cls(**vars(components))
            pipe.offload = offload
        pipe.mixed_precision = packaged
        return pipe

    def save_pretrained(self, save_directory: str | Path, max_shard_size: str = "5GB") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes our pipeline folder, sharded safetensors, whole or not at all."""
        self._check_loaded()
        save_components(Components(**self.components, defaults=self.defaults), Path(save_directory), max_shard_size)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As in diffusers; a pipeline whose weights stay in their files stays on its device.

        Raises:
            InputError: the weights are in their files.
        """
        self._check_loaded()
        return super().to(*args, **kwargs)

    def fuse_lora(self, *args: Any, **kwargs: Any) -> None:
        """As in diffusers; adapters cannot be folded into weights that stay in their files.

        Raises:
            InputError: the weights are in their files.
        """
        self._check_loaded()
        super().fuse_lora(*args, **kwargs)
        self._without_student = None  # what is folded in stays

    def unload_lora_weights(self, *args: Any, **kwargs: Any) -> None:
        """As in diffusers; a student's way of sampling goes with its adapters."""
        super().unload_lora_weights(*args, **kwargs)
        if self._without_student:
            scheduler, defaults = self._without_student
            self.register_modules(scheduler=scheduler)
            self.register_to_config(defaults=defaults)
            self._without_student = None

    def remove_all_hooks(self) -> None:
        """As in diffusers, which calls it before it offloads in its own way.

        Raises:
            InputError: the weights are in their files.
        """
        self._check_loaded()
        super().remove_all_hooks()

    def _check_loaded(self) -> None:
        if self.offload is not None:
            raise InputError('the weights are in their files; use from_pretrained(..., memory="high") for this')

    def maybe_free_model_hooks(self) -> None:
        """As in diffusers; takes weights that stay in their files off the device."""
        super().maybe_free_model_hooks()
        if self.offload is not None:
            self.offload.free()

    def load_lora(self, path: str | Path) -> None:
        """Adds the LoRA adapters of a safetensors file, or of a folder with one, to the transformer.

        diffusers' `set_adapters`, `fuse_lora` and `unload_lora_weights` scale them, fold them in and take them off.
        Those of a distilled student (`gen3r train distill --rank`) bring its few steps, its schedule and its guidance.

        Raises:
            InputError: peft is not installed; there is no such file; or it does not fit this transformer.
        """
        check_peft()
        file = lora_file(path)
        student = lora_sampling(file)
        if self.offload is not None:
            self.offload.load(self.transformer)  # adapters are put where the weights are
        try:
            self.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True)
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(f"{file} does not fit this transformer: {str(error).splitlines()[-1].strip()}") from error
        if not self.get_active_adapters():
            raise InputError(f"{file} holds nothing for this transformer")
        if student:
            self._without_student = self._without_student or (self.scheduler, self.defaults)
            self.register_modules(scheduler=FlowMatchEulerDiscreteScheduler(**student.pop("schedule")))
            self.register_to_config(defaults=self.defaults | student)

    def load_geometry(self, model: str | Path, torch_dtype: torch.dtype | None = None) -> None:
        """Loads a model for the cameras and depth of conditioning frames, and of `reconstruct`, in place of vggt.

        model: the folder or Hub id of a VGGT in its own public layout, or of a depth-estimation model of transformers,
            with which the cameras stay those of vggt. torch_dtype: of its weights; None means bfloat16 for a VGGT,
            whose heads stay in float32, and float32 for the others.

        Raises:
            InputError: it is neither, or it is damaged.
        """
        self.geometry = load_geometry(model, self._own_geometry, torch_dtype)

    def enable_layerwise_casting(
        self, storage_dtype: torch.dtype = torch.float8_e4m3fn, compute_dtype: torch.dtype | None = None
    ) -> None:
        """Keeps the weights of all components in a small type; each layer is cast to another as it runs.

        compute_dtype: None means the transformer's. Norms, tables, first and last layers and VGGT's heads keep their
        types.
        """
        self._check_loaded()
        compute = compute_dtype or self.transformer.dtype
        for name in MODULES:
            if (module := getattr(self, name)) is not None:
                store_weights(module, storage_dtype, compute)

    def enable_group_offload(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, onload_device: torch.device | str, *, offload_to_disk_path: str | Path | None = None, **options: Any
    ) -> None:
        """diffusers' group offload of all components, with its options.

        offload_to_disk_path: where a folder for each component keeps weights that are not on the device, not memory.
        """
        from diffusers.hooks import apply_group_offloading

        self._check_loaded()
        excluded = options.pop("exclude_modules", None) or []
        excluded = [excluded] if isinstance(excluded, str) else excluded
        if self.text_encoder is not None:  # one layer for the two with these weights, which must be on disk once
            self.text_encoder.set_input_embeddings(self.text_encoder.get_input_embeddings())
        for name in MODULES:
            module = getattr(self, name)
            if name in excluded and module is not None:
                module.to(onload_device)
            elif module is not None:
                place = offload_to_disk_path and str(Path(offload_to_disk_path) / name)
                apply_group_offloading(module, onload_device, offload_to_disk_path=place, **options)

    def enable_attention_slicing(self, slice_size: str | int | None = "auto") -> None:
        """Refuses: diffusers' slices exist for older models only.

        Raises:
            InputError: always.
        """
        raise InputError("attention is never held whole here; pipe.transformer.set_attention_backend chooses how")

    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None:
        """Refuses: diffusers sets it for older models only.

        Raises:
            InputError: always.
        """
        raise InputError('use pipe.transformer.set_attention_backend("xformers")')

    @torch.no_grad()
    def __call__(
        self,
        images: Request | ImageSequence | Images = None,
        prompt: str | list[str] | None = "",
        cameras: Paths | None = None,
        *,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "scene",
        callback_on_step_end: StepCallback | None = None,
        **options: Any,
    ) -> list[Scene] | Tensor:
        """Generates scenes, one per sample.

        images, prompt, cameras and options are the fields of a `Request`, which explains them. `pipe(request)` takes a
        request itself.

        generator: one per sample makes results independent of the batch. latents: the noise to start from,
            [B, 16, f, h, 2w]. callback_on_step_end: called with (pipeline, step, timestep, {"latents": ...}); it may
            return other latents.
        output_type: "scene", or "latent" for the denoised latents [B, 16, f, h, 2w], which `decode` turns into scenes.

        Raises:
            InputError: sizes, counts or names do not fit.
        """
        # 1. check the request, and draw the noise
        if not isinstance(images, Request):
            images = Request(images=images, prompt=prompt, cameras=cameras, **options)
        request = images.resolve(self.defaults | {"least_steps": least_steps(self.scheduler.config)})
        photos = request.read_images().to(self._execution_device)
        batch = self.check_inputs(request, len(photos), generator, latents, output_type)
        prompts = [request.prompt] if isinstance(request.prompt, str) else list(request.prompt or ())
        prompts = prompts * batch if len(prompts) == 1 else prompts
        latents = self.prepare_latents(request, batch, generator, latents)
        # 2. predict the geometry of the conditioning frames, and place the cameras
        if self.geometry is not None and not self._needs_geometry(request):
            warnings.warn("the geometry model has no effect without an image and a camera path", stacklevel=2)
        views = self.prepare_views(request, photos, batch)
        photos, predictions, path, depth = views.photos, views.predictions, views.path, views.depth
        self.maybe_free_model_hooks()
        # 3. encode the conditions
        frames = resize(photos, request.height, request.width)
        prompt_embeds, negative_prompt_embeds = self.encode_prompt(request, prompts)
        image_embeds = self.encode_image(frames, request.image_embeds)
        control = self.prepare_control(request, frames, path, depth)
        embeds = (prompt_embeds, negative_prompt_embeds, image_embeds)
        self.maybe_free_model_hooks()
        # 4. denoise Z = [A; G]; the rays are large, and freed once they are embedded, so no name keeps them
        with self._fast_sampling(request):
            latents = self.denoise(
                latents,
                Conditions(*embeds, control, self.prepare_rays(request, batch, path)),
                request,
                callback_on_step_end,
            )
        if output_type == "latent":
            self.maybe_free_model_hooks()
            return latents
        # 5. decode both halves, and draw the photos over the frames
        scenes = self.decode(latents, prompts, self._settings(request), request.geometry_from)
        if path is not None and request.renders_photos:
            samples = zip(scenes, photos, depth, path, strict=True)
            scenes = [self.render_photos(*sample, request.frame_indices) for sample in samples]
        for scene, asked in zip(scenes, request.paths(batch), strict=True):
            scene.settings["camera"] = asked if isinstance(asked, str) else "given"
        for scene, prediction in zip(scenes, predictions, strict=False):  # no predictions where the cameras are free
            scene.settings.update(_metres(prediction, scene.depth[:1]))
        return scenes

    def check_inputs(
        self, request: Request, num_samples: int, generator: Any, latents: Tensor | None, output_type: str
    ) -> int:
        """Refuses what this model cannot do with a resolved request; returns the number of samples.

        num_samples: of the images.

        Raises:
            InputError: says what to give instead.
        """
        self._check_scheduler()
        cache = self.transformer._cache_config
        partly = request.guidance_scale == 1 or request.guided_share < 1
        if partly and getattr(cache, "is_guidance_distilled", True) is False:
            raise InputError("FasterCache without guidance in every step needs is_guidance_distilled=True")
        if output_type not in ("scene", "latent"):
            raise InputError(f"output_type is scene or latent, not {output_type}")
        return batch_size(
            images=num_samples,
            prompts=sample_count(request.prompt),
            camera_paths=sample_count(request.cameras),
            generators=sample_count(generator),
            latents=sample_count(latents),
            prompt_embeds=sample_count(request.prompt_embeds),
            image_embeds=sample_count(request.image_embeds),
        )

    def denoising_work(self, request: Request) -> float:
        """The multiplications of the denoising of a resolved request, one sample."""
        blocks = self.transformer.blocks
        weights = sum(p.numel() for p in blocks.parameters())
        width = self.transformer.config.num_attention_heads * self.transformer.config.attention_head_dim
        tokens = request.num_tokens
        evaluations = request.num_inference_steps * (1 if request.guidance_scale == 1 else 1 + request.guided_share)
        return evaluations * tokens * (weights + 2 * len(blocks) * tokens * width)

    def denoising_seconds(self, request: Request) -> float:
        """How long the denoising of a resolved request will take here, from a step for a small clip."""
        frames, side = min(5, request.num_frames), SIZE_STEP
        small = replace(request, num_frames=frames, height=side, width=side, num_inference_steps=2, guided_share=1.0)
        device, latent_frames = self._execution_device, 1 + (frames - 1) // 4
        text = torch.zeros(1, self.defaults["text_length"], self.transformer.config.text_dim, device=device)
        image = self.encode_image(torch.zeros(1, 0, 3, side, side, device=device))
        control = torch.zeros(1, 20, latent_frames, side // 8, 2 * side // 8, device=device)
        times: list[float] = []

        def after_step(_: Any, step: int, t: Tensor, tensors: dict[str, Tensor]) -> None:
            tensors["latents"].sum().item()  # waits for the device
            times.append(time.perf_counter())

        bar, self._progress_bar_config = getattr(self, "_progress_bar_config", {}), {"disable": True}
        conditions = Conditions(
            text, None if request.guidance_scale == 1 else text, image, control, self.prepare_rays(small, 1, None)
        )
        with torch.no_grad():
            self.denoise(torch.zeros_like(control[:, :16]), conditions, small, after_step)
        self._progress_bar_config = bar
        self.maybe_free_model_hooks()
        return (times[1] - times[0]) * self.denoising_work(request) / self.denoising_work(small) * 2

    def _check_scheduler(self) -> None:
        """Refuses schedulers of diffusers that do not integrate a flow, which would give noise."""
        scheduler, config = self.scheduler, self.scheduler.config
        flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or (
            config.get("use_flow_sigmas") and config.get("prediction_type") == "flow_prediction"
        )
        if not flow:
            raise InputError(
                f"{type(scheduler).__name__} does not sample a flow as it is configured; make it with from_config(..., "
                'use_flow_sigmas=True, prediction_type="flow_prediction"), or keep the model\'s own'
            )

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        prompts: str | list[str] = "",
        settings: dict[str, Any] | None = None,
        geometry_from: str | None = None,
    ) -> list[Scene]:
        """The scenes of denoised latents [B, 16, f, h, 2w]: frames from A; geometry from G, or from the frames.

        prompts: one, or one per sample, for the scenes' records. geometry_from: as in `Request`.

        Raises:
            InputError: the number of prompts fits neither.
        """
        prompts = [prompts] if isinstance(prompts, str) else prompts
        if len(prompts) not in (1, len(latents)):
            raise InputError(f"{len(prompts)} prompts for {len(latents)} samples; give one, or one per sample")
        prompts = prompts * len(latents) if len(prompts) == 1 else prompts
        appearance, geometry = latents.to(self._execution_device).chunk(2, dim=-1)
        frames = self.decode_frames(appearance)
        from_frames = (geometry_from or self.defaults["geometry_from"]) == "frames"
        prediction = self.predict_geometry(frames) if from_frames else self.decode_geometry(geometry)
        self.maybe_free_model_hooks()
        return [self._scene(frames[i], prediction, i, text, settings or {}) for i, text in enumerate(prompts)]

    @torch.no_grad()
    def render_photos(
        self, scene: Scene, photos: Tensor, depth: Tensor, path: Cameras, frame_indices: list[int]
    ) -> Scene:
        """A generated scene at the size of its photos: image-based rendering along the path that was asked for.

        photos: [n, 3, H, W] in [0, 1]. depth: theirs [n, H, W], in the unit of the path. path: F cameras at the photos'
        size. frame_indices: where the photos stand. Each frame shows the photos, drawn by their depth, and what the
        scene's frames show elsewhere. Depth and points are those that were drawn. Elsewhere they are the scene's depth,
        moved to that of the photos. The cameras are the path.
        """
        device = photos.device if photos.is_cuda else torch.device("cpu")
        size, indices = photos.shape[-2:], self._each(range(len(path)), "rendering", "frame")
        frames, far, photos, depth = (x.to(device).float() for x in (scene.images, scene.depth, photos, depth))
        with exact_products(device):
            drawn = [
                (eight_bits(colour[None])[0].cpu(), z.cpu(), source.cpu())
                for colour, z, source in render_photos(
                    frames, far, photos, depth, frame_indices, path.to(device), indices
                )
            ]
        frames, depth, source = (torch.stack(x) for x in zip(*drawn, strict=True))
        confidence = F.interpolate(scene.confidence[None], size, mode="bilinear", align_corners=False)[0]
        return Scene(
            frames=frames,
            depth=depth,
            confidence=confidence.half().float(),  # no finer than it was predicted; `Scene.save` keeps it small
            points=unproject(depth, path.T_world_camera, path.K_px),
            mask=valid_depth_mask(depth),
            cameras=path,
            prompt=scene.prompt,
            settings=scene.settings | {"output_size": max(size)},
            source=source,
        )

    @contextmanager
    def _counted(self, total: int, doing: str, unit: str) -> Iterator[Callable[..., None]]:
        """A progress bar like that of the denoising steps, and a function that counts one more."""
        config: dict[str, Any] = {"delay": 1.0, "leave": None, **getattr(self, "_progress_bar_config", {})}
        config.update(desc=str(config.get("desc", "")).replace("denoising", doing), unit=unit, total=total)
        done = 0
        with tqdm(**config) as bar:

            def count(*_: Any) -> None:
                nonlocal done
                done += 1
                bar.update()
                if self.on_progress is not None:
                    self.on_progress(doing, done, total)

            yield count

    def _each(self, items: Sequence[int], doing: str, unit: str) -> Iterator[int]:
        """The items, counted."""
        with self._counted(len(items), doing, unit) as count:
            for item in items:
                yield item
                count()

    @contextmanager
    def _calls(self, modules: Sequence[nn.Module], total: int, doing: str, unit: str) -> Iterator[None]:
        """Counts the calls of modules meanwhile, unless they are compiled: a graph has no place for it."""
        with self._counted(total, doing, unit) as count:
            counted = (module for module in modules if module._compiled_call_impl is None)
            hooks = [module.register_forward_hook(count) for module in counted]
            try:
                yield
            finally:
                for hook in hooks:
                    hook.remove()

    @torch.no_grad()
    def decode_frames(self, appearance: Tensor) -> Tensor:
        """Frames [B, F, 3, H, W] in [0, 1] of appearance latents [B, 16, f, h, w]."""
        with self._autocast(), self._calls([self.vae.decoder], appearance.shape[2], "decoding", "latent frame"):
            video = self.vae.decode_latents(appearance.to(self.vae.dtype)).float()
        return (video / 2 + 0.5).clamp(0, 1).transpose(1, 2)

    @torch.no_grad()
    def decode_geometry(self, geometry: Tensor, points: bool = False) -> GeometryPrediction:
        """Cameras and depth of geometry latents [B, 16, f, h, w]; the points of VGGT's own head, if asked for."""
        with self._autocast():
            levels = unpack_tokens(self.geo_adapter.decode(geometry.to(self.geo_adapter.dtype)))
        return self.vggt.heads(levels, 8 * geometry.shape[-2], 8 * geometry.shape[-1], points=points)

    @torch.no_grad()
    def predict_geometry(self, frames: Tensor, points: bool = False) -> GeometryPrediction:
        """Cameras and depth of frames [B, F, 3, H, W] in [0, 1], by VGGT; the points of its own head, if asked for."""
        blocks = self.vggt.aggregator.global_blocks
        with self._autocast(), self._calls([*blocks], len(blocks), "predicting the geometry", "block"):
            levels = self.vggt.tokens(frames.to(self.vggt.dtype))
        return self.vggt.heads(levels, *frames.shape[-2:], points=points)

    @torch.no_grad()
    def predict_photos(self, photos: Tensor) -> GeometryPrediction:
        """Cameras and depth of one sample's conditioning frames [n, 3, H, W] in [0, 1], a batch of one.

        VGGT sees each frame whole, at the model's usual number of pixels, in multiples of its patch size. The model of
        `load_geometry` chooses its size.
        """
        if self.geometry is not None:
            return self.geometry.predict(photos[None])
        return self._averaged(self._own_geometry(photos[None]), photos[None])

    def _averaged(self, prediction: GeometryPrediction, photos: Tensor) -> GeometryPrediction:
        """The prediction of vggt for photos [B, n, 3, H, W]; that of a single one averaged if the model asks for it."""
        if photos.shape[1] > 1 or not self.defaults.get("photo_size"):
            return prediction
        return with_averaged_depth(prediction, photos, self.predict_geometry, self.vggt.config.patch_size)

    def _own_geometry(self, photos: Tensor) -> GeometryPrediction:
        """The prediction of vggt for photos [B, n, 3, H, W], seen whole."""
        height, width = photos.shape[-2:]
        return self.predict_geometry(resize(photos, *self._own_size(photos.shape[1], height, width)))

    def _own_size(self, frames: int, height: int, width: int) -> Size:
        pixels = usual_pixels(self.defaults, frames)
        return fitting_size(height, width, pixels, self.vggt.config.patch_size)

    @torch.no_grad()
    def reconstruct(
        self,
        images: ImageSequence | Images,
        height: int | None = None,
        width: int | None = None,
        feed_forward: bool = False,
        num_frames: int | None = None,
    ) -> Scene:
        """The scene of any number of frames, with nothing generated.

        VGGT predicts cameras and depth. More frames than the model's number go through it in chunks of that number,
        which overlap by about a quarter and are joined by similarities (`gen3r.geometry.joining`). Three or more frames
        that can be matched refine the result: structure from motion finds the cameras and the lens, and multi-view
        stereo the depth (`gen3r.geometry.refinement`).

        images: the frames of one clip, in any form that `Request` takes. height, width: multiples of the patch size,
            14. By default they have the shape of the first frame and the model's number of pixels; after
            `load_geometry`, a longer side of at most 518. Frames are resized to cover the size and cropped in the
            centre.
        feed_forward: VGGT's prediction as it is.
        num_frames: of one video or folder, evenly spaced; None means at most the model's number. They are read as they
            are needed.

        Raises:
            InputError: the size does not fit, or the images are not those of one clip.
        """
        pictures: Any = open_paths(images)
        in_files = isinstance(pictures, ImageSequence)
        usual = self.defaults["num_frames"]
        if getattr(pictures, "ndim", 0) == 5:
            if len(pictures) != 1:
                raise InputError(f"give the images of one clip, not of {len(pictures)}")
            pictures = pictures[0]
        frames = pictures.meant(usual, num_frames) if in_files else count_images(pictures)
        if not frames:
            raise InputError("give the images of one clip")
        own = pictures.first_size() if in_files else first_size(pictures)
        size = patch_size(*own) if self.geometry is not None else self._own_size(min(frames, usual), *own)
        size = size[0] if height is None else height, size[1] if width is None else width
        check_patches(*size, self.vggt.config.patch_size)
        chunks = overlapping_chunks(frames, usual, usual // OVERLAP)
        refined = not feed_forward and frames >= MIN_FRAMES
        read_size = matched_size(*size) if refined or frames == 1 else size
        shown = pictures.stream(frames, *read_size) if in_files else image_list(pictures)
        matched: list[Tensor] = []

        def noted() -> Iterator[Any]:
            for picture in shown:
                if refined:
                    matched.append(eight_bits(image_batch([picture], *read_size)[0].cpu())[0])
                yield picture

        scene = self._feed_forward(noted(), chunks, size)
        return self._refined(scene, torch.stack(matched)) if refined else scene

    def _feed_forward(self, pictures: Iterable[Any], chunks: list[range], size: Size) -> Scene:
        """The scene of images, each chunk of which goes through VGGT at once."""
        scenes = (self._feed_forward_chunk(x, size) for x in windows(pictures, chunks))
        if len(chunks) == 1:
            return next(scenes)
        numbers = self._each(range(len(chunks)), "reconstructing", "chunk")
        scene = join_scenes(chunks, (scene for _, scene in zip(numbers, scenes, strict=True)))
        scene.settings.update(frames=len(scene.frames), chunks=len(chunks))
        return scene

    def _feed_forward_chunk(self, pictures: list[Any], size: Size) -> Scene:
        frames = image_batch(pictures, *size)[0].to(self._execution_device)
        if self.geometry is None:
            prediction = self.predict_geometry(frames[None])
            if len(frames) == 1:
                photo = image_batch(pictures, *matched_size(*size)).to(frames)
                prediction = self._averaged(prediction, photo)
        else:
            prediction = resize_maps(self.geometry.predict(frames[None]), *size)
        settings = {"task": "reconstruct", "frames": len(frames), "height": size[0], "width": size[1]}
        scene = self._scene(frames, prediction, 0, "", settings | _metres(prediction, prediction.depth[0]))
        self.maybe_free_model_hooks()
        return scene

    def _refined(self, scene: Scene, matched: Tensor) -> Scene:
        """A reconstruction with cameras and depth refined by its frames in `matched_size`, if they can be matched."""
        frames = partial(self._each, range(len(scene.frames)), "refining the depth", "frame")
        refined = refine(matched, scene.images, scene.depth, scene.cameras, frames)
        if refined is None:
            return scene
        depth, cameras = refined
        points = unproject(depth, cameras.T_world_camera, cameras.K_px)
        changes = {"depth": depth, "cameras": cameras, "points": points, "mask": valid_depth_mask(depth)}
        return replace(scene, **changes, settings=scene.settings | {"refined": True})

    @torch.no_grad()
    def prepare_views(self, request: Request, photos: Tensor, batch: int = 1) -> Views:
        """What a generation knows before it samples.

        request: resolved. photos: its images as `Request.read_images` gives them, of one sample or of all `batch`.
        """
        photos = photos.to(self._execution_device)
        predictions = [self.predict_photos(x) for x in photos] if self._needs_geometry(request) else []
        if len(photos) == 1:
            photos, predictions = photos.expand(batch, -1, -1, -1, -1), predictions * batch
        path = self.prepare_cameras(request, photos, predictions)
        return Views(photos, predictions, path, self.prepare_depth(request, photos, path, predictions))

    def prepare_latents(
        self, request: Request, batch: int, generator: Any = None, latents: Tensor | None = None
    ) -> Tensor:
        """The latents to start from [B, 16, f, h, 2w]: standard normal noise, or the given ones."""
        f, h, w = 1 + (request.num_frames - 1) // 4, request.height // 8, 2 * request.width // 8
        shape = (batch, self.transformer.config.out_channels, f, h, w)
        if latents is None:
            return self._noise(shape, generator)
        if latents.shape != shape:
            raise InputError(f"latents have shape {list(latents.shape)}, this request needs {list(shape)}")
        return latents.to(self._execution_device, torch.float32)

    def _noise(self, shape: tuple[int, ...], generator: Any) -> Tensor:
        """Standard normal numbers of one generator, or of one per sample, each drawn on its own device."""
        generators = generator if isinstance(generator, list | tuple) else [generator]
        if not all(g is None or isinstance(g, torch.Generator) for g in generators):
            raise InputError(
                f"a generator is torch.Generator().manual_seed(0), or a list of them; not {generator!r:.80}"
            )
        shape = shape if len(generators) == 1 else (1, *shape[1:])
        devices = [self._execution_device if g is None else g.device for g in generators]
        noise = [torch.randn(shape, generator=g, device=d) for g, d in zip(generators, devices, strict=True)]
        return torch.cat([x.to(self._execution_device) for x in noise])

    def _needs_geometry(self, request: Request) -> bool:
        """Whether cameras, warped views or frames depend on VGGT's prediction for the conditioning frames."""
        named = request.cameras != FREE and any(isinstance(path, str) for path in request.paths(1))
        return request.num_views > 0 and (named or self._needs_depth(request))

    def _needs_depth(self, request: Request) -> bool:
        return request.renders_photos or self._warps(request)

    def _warps(self, request: Request) -> bool:
        warped = self.transformer.config.unseen_frames == "warped"
        return warped and request.cameras != FREE and 0 < request.num_views < request.num_frames

    def prepare_cameras(
        self, request: Request, photos: Tensor, predictions: list[GeometryPrediction]
    ) -> list[Cameras] | None:
        """A path per sample, relative to its first camera, at the photos' size; None where the model is free.

        photos: the conditioning frames [B, n, 3, H, W]. predictions: of each sample's frames.
        """
        if request.cameras == FREE:
            return None
        height, width = photos.shape[-2:]
        paths = request.paths(len(photos))
        seen = predictions or [None] * len(photos)
        return [self._path(request, path, x, height, width) for path, x in zip(paths, seen, strict=True)]

    @staticmethod
    def _path(
        request: Request, path: Cameras | str, prediction: GeometryPrediction | None, height: int, width: int
    ) -> Cameras:
        """The cameras of one sample. prediction: of its conditioning frames; None without, or where `path` is given."""
        if isinstance(path, Cameras):
            return resample(path, request.num_frames).resize_and_crop(height, width).relative_to_first()
        if prediction is None:
            seen, depth = Cameras.from_fov(torch.eye(4)[None], TEXT_ONLY_FOV, height, width), 1.0
        else:
            seen = _predicted_cameras(prediction, 0, height, width)
            depth = _median_depth(prediction.depth[0].float().cpu())
        if path == BETWEEN:
            return resample(seen, request.num_frames)
        options = (height, width, depth, request.extent, request.easing)
        return trajectory(path, request.num_frames, seen.K_px[0], *options)

    def prepare_depth(
        self, request: Request, photos: Tensor, path: list[Cameras] | None, predictions: list[GeometryPrediction]
    ) -> list[Tensor]:
        """The depth [n, H, W] of each sample's photos [B, n, 3, H, W], in the unit of its path; empty where nothing
        needs it. It steers the warped views, and draws the photos."""
        if path is None or not self._needs_depth(request):
            return []
        samples = zip(photos, predictions, path, strict=True)
        return [photo_depth(x, prediction.depth[0], request.frame_indices, c) for x, prediction, c in samples]

    def encode_prompt(self, request: Request, prompts: list[str]) -> tuple[Tensor, Tensor | None]:
        """Text features [B, L, D] of the prompts and, where there is guidance, of the negative prompt."""
        device, length = self._execution_device, self.defaults["text_length"]

        def encode(texts: list[str]) -> dict[str, Tensor]:
            if not texts:
                return {}
            tokens = max(len(ids) for ids in self.tokenizer(texts, verbose=False)["input_ids"])  # pyright: ignore[reportArgumentType]
            if tokens > length:
                warnings.warn(f"the prompt has {tokens} tokens; only the first {length} count", stacklevel=5)
            return dict(zip(texts, encode_text(self.tokenizer, self.text_encoder, texts, length, device), strict=True))

        def expand(features: Tensor) -> Tensor:
            return features.to(device).expand(len(prompts), -1, -1)

        embeds, negative = request.prompt_embeds, request.negative_prompt_embeds
        guided = request.guidance_scale != 1
        wanted = prompts if embeds is None else []
        others = [request.negative_prompt] if guided and negative is None else []
        features = encode(list(dict.fromkeys([*wanted, *others])))  # one batch, each text once
        prompt_embeds = torch.stack([features[x] for x in wanted]) if embeds is None else expand(embeds)
        if not guided:
            return prompt_embeds, None
        return prompt_embeds, expand(features[request.negative_prompt] if negative is None else negative)

    def encode_image(self, frames: Tensor, image_embeds: Tensor | None = None) -> Tensor:
        """CLIP features [B, N, D'] of the first conditioning frame; zeros of the same shape for text alone."""
        if image_embeds is not None:
            return image_embeds.to(frames.device).expand(len(frames), -1, -1)
        if frames.shape[1]:
            return encode_image(self.image_encoder, frames[:, 0])
        config = self.image_encoder.config
        return frames.new_zeros(len(frames), 1 + (config.image_size // config.patch_size) ** 2, config.hidden_size)

    def prepare_control(
        self, request: Request, frames: Tensor, path: list[Cameras] | None, depth: list[Tensor]
    ) -> Tensor:
        """The control [B, 20, f, h, 2w] of conditioning frames [B, n, 3, H, W], with warped views along the path.

        path, depth: of each sample, at the size of its photos.
        """
        indices = request.frame_indices
        if path is not None and self._warps(request):
            return torch.cat([self._warped_control(*x, indices) for x in zip(frames, depth, path, strict=True)])
        batch, num_frames = len(frames), request.num_frames
        video = frames.new_zeros(batch, num_frames, 3, request.height, request.width)
        mask = torch.zeros(batch, num_frames, dtype=torch.bool, device=frames.device)
        video[:, indices], mask[:, indices] = frames, True
        with self._autocast():
            return control_latents(self.vae, video.to(self.vae.dtype), mask).float()

    def _warped_control(self, frames: Tensor, depth: Tensor, path: Cameras, indices: list[int]) -> Tensor:
        """The control of one sample's conditioning frames [n, 3, H, W] and of their warped views."""
        models, size = (self.vae, self.vggt, self.geo_adapter), frames.shape[-2:]
        depth = F.interpolate(depth[None], size, mode="nearest-exact")[0]
        with self._autocast():
            return warped_control(*models, [frames], [depth], [indices], [path.resize(*size)]).float()

    def prepare_rays(self, request: Request, batch: int, path: list[Cameras] | None) -> Tensor:
        """The camera condition [B, 24, f, H, 2W] of the paths, or the one that leaves the cameras free."""
        device = self._execution_device
        if path is None:
            return free_cameras(batch, request.num_frames, request.height, request.width, device)
        path = [c.resize(request.height, request.width) for c in path]
        T, K = (torch.stack([getattr(c, name) for c in path]).to(device) for name in ("T_world_camera", "K_px"))
        return camera_condition(T, K, request.height, request.width)

    def denoise(
        self, latents: Tensor, conditions: Conditions, request: Request, callback: StepCallback | None = None
    ) -> Tensor:
        """Integrates the flow from noise to data; latents stay float32, the network runs in its own type."""
        self.scheduler.set_timesteps(request.num_inference_steps, device=latents.device)
        noise = latents
        clean, known = known_latents(conditions.control)
        known = known & request.clamp_known
        inputs = self._network_inputs(conditions)
        del conditions
        weights = fast_weights(self.transformer, latents.device) if self._mixes else {}
        guided_steps = math.ceil(request.guided_share * request.num_inference_steps)
        apart = guided_steps < request.num_inference_steps
        with self.progress_bar(total=request.num_inference_steps) as bar:  # pyright: ignore[reportCallIssue]
            for i, t in enumerate(self.scheduler.timesteps):
                scale = request.guidance_scale if i < guided_steps else 1.0
                noise_pred = self._predict_velocity(latents, i, inputs, weights, scale, apart)
                latents = self.scheduler.step(noise_pred, t, latents, return_dict=False)[0]
                sigma = self.scheduler.sigmas[i + 1].to(latents.device)
                latents = torch.where(known, add_noise(clean, noise, sigma), latents)
                if callback is not None:
                    latents = (callback(self, i, t, {"latents": latents}) or {}).get("latents", latents)
                bar.update()
        if not latents.isfinite().all():
            raise InputError(f"sampling overflowed in {self.transformer.dtype}; use float32 or bfloat16")
        return latents

    def _network_inputs(self, conditions: Conditions) -> dict[str, Tensor]:
        """What the network is given at every step, by name; twice where there is guidance, for both conditions."""
        dtype, negative = self.transformer.dtype, conditions.negative_prompt_embeds
        with self._autocast():
            camera_embeds = self.transformer.embed_cameras(conditions.rays.to(dtype))
        inputs = {
            "prompt_embeds": conditions.prompt_embeds.to(dtype),
            "image_embeds": conditions.image_embeds.to(dtype),
            "control": conditions.control.to(dtype),
            "camera_embeds": camera_embeds,
        }
        if negative is None:
            return inputs
        other = inputs | {"prompt_embeds": negative.to(dtype)}
        return {name: torch.cat([other[name], x]) for name, x in inputs.items()}

    def _predict_velocity(
        self,
        latents: Tensor,
        step: int,
        inputs: dict[str, Tensor],
        weights: dict[str, Tensor],
        guidance_scale: float,
        apart: bool = False,
    ) -> Tensor:
        """The velocity noise - x; with guidance v0 + guidance_scale * (v1 - v0).

        inputs: of `_network_inputs`. weights: of the network, in place of its own. apart: both conditions run one by
        one, so that caches of steps, which remember each by itself, outlast the end of guidance; else in one batch.
        """
        self._current_timestep = t = self.scheduler.timesteps[step]
        schedule = {"timestep": t, "sigma": self.scheduler.sigmas[step], "step_index": step}
        schedule["num_inference_steps"] = len(self.scheduler.timesteps)
        batch, z = len(latents), latents.to(self.transformer.dtype)

        def run(name: str, inputs: dict[str, Tensor]) -> Tensor:
            count = len(inputs["prompt_embeds"])
            inputs = inputs | {"latents": z.repeat(count // batch, 1, 1, 1, 1)}
            inputs |= {"timestep": t.expand(count).to(z.device)}
            with self._autocast(), self.transformer.cache_context(name, **schedule):
                return torch.func.functional_call(self.transformer, weights, (), inputs).float()

        if len(inputs["prompt_embeds"]) == batch:
            return run("velocity", inputs)
        if not apart:
            unconditional, conditional = run("velocity", inputs).chunk(2)
        else:
            conditional = run("conditional", {name: x[batch:] for name, x in inputs.items()})
            if guidance_scale == 1:
                return conditional
            unconditional = run("unconditional", {name: x[:batch] for name, x in inputs.items()})
        return unconditional + guidance_scale * (conditional - unconditional)

    @contextmanager
    def _fast_sampling(self, request: Request) -> Iterator[None]:
        """UniPC and a cache of steps for a request with `fast`; a cache that is on already stays."""
        own, add_cache = self.scheduler, request.fast and not self.transformer.is_cache_enabled
        if request.fast:
            self.scheduler = fast_scheduler(own)
        if add_cache:
            self.transformer.enable_cache(step_cache(request.num_inference_steps, self.defaults.get("mag_ratios")))
        try:
            yield
        finally:
            self.scheduler = own
            if add_cache:
                self.transformer.disable_cache()

    def calibrate(self, request: Request, generator: torch.Generator | None = None) -> list[float]:
        """MagCache's ratios, one for each step of `fast`, from one generation: `mag_ratios` of a model's defaults.

        Raises:
            InputError: as in `__call__`; or the model has nothing to gain by `fast`.
        """
        request = replace(request, fast=True, guided_share=1.0).resolve(self.defaults)
        if not request.fast:
            raise InputError("models of so few steps are not calibrated: they have nothing to gain by fast")
        with measured_ratios(self.transformer, request.num_inference_steps) as ratios:
            self(request, generator=generator, output_type="latent")
        return ratios

    @property
    def current_timestep(self) -> Any:
        """The time of the step that is being taken, 1000 to 0, a tensor, for the callbacks of diffusers' caches."""
        return self._current_timestep

    @property
    def _mixes(self) -> bool:
        """Whether float32 weights multiply in bfloat16."""
        present = (x for x in (self.transformer, self.vggt, self.vae) if x is not None)  # training may need only some
        return self.mixed_precision and next(present).dtype == torch.float32

    def _autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 products of float32 weights, where `mixed_precision` asks for it and the device is fast at them."""
        if self._mixes:
            return fast_products(self._execution_device)
        return nullcontext()

    @staticmethod
    def _settings(request: Request) -> dict[str, Any]:
        """What a scene records of its request, as JSON values."""
        return {
            "task": request.task, "frames": request.num_frames, "height": request.height, "width": request.width,
            "steps": request.num_inference_steps, "guidance": request.guidance_scale, "fast": request.fast,
            "negative_prompt": request.negative_prompt,
        }  # fmt: skip

    def _scene(
        self, frames: Tensor, prediction: GeometryPrediction, i: int, prompt: str, settings: dict[str, Any]
    ) -> Scene:
        """Sample i as a scene: points are its depth unprojected with its cameras, relative to the first."""
        depth = prediction.depth[i].float().cpu()
        cameras = _predicted_cameras(prediction, i, *frames.shape[-2:])
        return Scene(
            frames=eight_bits(frames).cpu(),
            depth=depth,
            confidence=prediction.depth_confidence[i].float().cpu(),
            points=unproject(depth, cameras.T_world_camera, cameras.K_px, self.vggt.config.pixel_centre),
            mask=valid_depth_mask(depth),
            cameras=cameras,
            prompt=prompt,
            settings=dict(settings),
        )


def _predicted_cameras(prediction: GeometryPrediction, i: int, height: int, width: int) -> Cameras:
    """The cameras of sample i, relative to the first, with square pixels."""
    T, K = decode_pose(prediction.pose_enc[-1, i].float().cpu(), height, width)
    return Cameras(T, square_pixels(K), height, width).relative_to_first()


def _metres(prediction: GeometryPrediction, depth: Tensor) -> dict[str, float]:
    """A setting of a scene whose first frames have this depth [n, H, W]; none where metres are not known."""
    if prediction.metres_per_unit is None:
        return {}
    size, same = depth.shape[-2:], prediction.depth[0, : len(depth)].to(depth.device)
    unit = depth_ratio(F.interpolate(same[None], size, mode="nearest-exact")[0], depth)
    return {"metres_per_unit": prediction.metres_per_unit[0] * unit}


def _median_depth(depth: Tensor) -> float:
    """Of the valid pixels; 1 where there are none."""
    mask = valid_depth_mask(depth)
    return float(depth[mask].median()) if bool(mask.any()) else 1.0


def eight_bits(images: Tensor) -> Tensor:
    """Images [F, 3, H, W] in [0, 1] as uint8 [F, H, W, 3]."""
    return (images.permute(0, 2, 3, 1) * 255 + 0.5).clamp(0, 255).to(torch.uint8)
