"""Generation: the whole story on one page (Gen3R, sec. 3)."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.names import BETWEEN, FREE
from gen3r.cameras.paths import resample, trajectory
from gen3r.errors import InputError
from gen3r.geometry.image_based_rendering import render_photos
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.geometry.refinement import matched_pair
from gen3r.media.images import Images, eight_bits, resize
from gen3r.media.sequence import ImageSequence
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
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.fast_sampling import fast_scheduler, measured_ratios, step_cache
from gen3r.models.precision import exact_products, fast_weights
from gen3r.models.presets import least_steps
from gen3r.models.vggt import GeometryPrediction
from gen3r.pipeline.reconstruction import ReconstructionPipeline
from gen3r.pipeline.scenes import metres, predicted_cameras, predicted_scene
from gen3r.request import SIZE_STEP, Request, batch_size, sample_count
from gen3r.scene import Scene

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


class Gen3RPipeline(ReconstructionPipeline):
    """From no, one, two or all frames of a clip, with optional text and cameras, to a scene."""

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
        if request.num_views == 2 and torch.equal(photos[:, 0], photos[:, 1]):
            warnings.warn("both photos are the same; give it once, or two from different places", stacklevel=2)
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
            scene.settings.update(metres(prediction, scene.depth[:1]))
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
        return [
            predicted_scene(frames[i], prediction, i, text, settings or {}, self.vggt.config.pixel_centre)
            for i, text in enumerate(prompts)
        ]

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
        device = self._execution_device
        noise = [torch.randn(shape, generator=g, device=device if g is None else g.device) for g in generators]
        return torch.cat([x.to(device) for x in noise])

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
        samples = zip(paths, photos, seen, strict=True)
        return [self._path(request, path, images, x, height, width) for path, images, x in samples]

    @staticmethod
    def _path(
        request: Request,
        path: Cameras | str,
        photos: Tensor,
        prediction: GeometryPrediction | None,
        height: int,
        width: int,
    ) -> Cameras:
        """The cameras of one sample. prediction: of its conditioning frames `photos`; None without, or where `path` is
        given."""
        if isinstance(path, Cameras):
            return resample(path, request.num_frames).resize_and_crop(height, width).relative_to_first()
        if prediction is None:
            seen, depth = Cameras.from_fov(torch.eye(4)[None], TEXT_ONLY_FOV, height, width), 1.0
            seen = seen if request.fov is None else seen.with_fov(request.fov)
        else:
            seen, maps = predicted_cameras(prediction, 0, height, width, request.fov), prediction.depth[0].float().cpu()
            if path == BETWEEN:
                return resample(matched_pair(photos.cpu(), maps, seen), request.num_frames)
            depth = _median_depth(maps)
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
        with self._autocast(video.device):
            return control_latents(self.vae, video.to(self.vae.dtype), mask).float()

    def _warped_control(self, frames: Tensor, depth: Tensor, path: Cameras, indices: list[int]) -> Tensor:
        """The control of one sample's conditioning frames [n, 3, H, W] and of their warped views."""
        models, size = (self.vae, self.vggt, self.geo_adapter), frames.shape[-2:]
        depth = F.interpolate(depth[None], size, mode="nearest-exact")[0]
        with self._autocast(frames.device):
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
        with self._autocast(conditions.rays.device):
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
            with self._autocast(z.device), self.transformer.cache_context(name, **schedule):
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

    @staticmethod
    def _settings(request: Request) -> dict[str, Any]:
        """What a scene records of its request, as JSON values."""
        return {
            "task": request.task, "frames": request.num_frames, "height": request.height, "width": request.width,
            "steps": request.num_inference_steps, "guidance": request.guidance_scale, "fast": request.fast,
            "extent": request.extent, "easing": request.easing, "fov": request.fov,
            "negative_prompt": request.negative_prompt,
        }  # fmt: skip


def _median_depth(depth: Tensor) -> float:
    """Of the valid pixels; 1 where there are none."""
    mask = valid_depth_mask(depth)
    return float(depth[mask].median()) if bool(mask.any()) else 1.0
