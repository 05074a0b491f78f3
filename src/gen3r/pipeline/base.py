"""What every task needs: components, their weights and places, progress, and single calls of the models."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self, get_type_hints

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.loaders import WanLoraLoaderMixin
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.checkpoints.cost import fitting_tier, own_clip
from gen3r.checkpoints.geometry import load_geometry
from gen3r.checkpoints.load import load_components, open_components, resolve_model, save_components
from gen3r.checkpoints.lora import check_peft, lora_file, lora_sampling
from gen3r.errors import InputError
from gen3r.locations import in_package
from gen3r.media.crop import Size
from gen3r.media.images import resize
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.components import MODULES, Components
from gen3r.models.geometry import GeometryModel, fitting_size, usual_pixels, with_averaged_depth
from gen3r.models.memory import TIERS, Offload
from gen3r.models.precision import fast_products, store_weights
from gen3r.models.tokens import unpack_tokens
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT, GeometryPrediction
from gen3r.models.video_vae import VideoVAE


class PipelineBase(DiffusionPipeline, WanLoraLoaderMixin):
    """The models of a pipeline, where their weights are, and what they give alone.

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
        **components: Any,
    ) -> Self:
        """The pipeline of `nano` (in the package), a folder (ours or the published layout), or a Hub id.

        torch_dtype: the weights' type; None keeps the stored one, but gives models of the package in float32 with
            `mixed_precision`, which is fast on any machine and small anyway.
        variant: "fp16" reads files such as `model.fp16.safetensors`, where a component has them.
        memory: "high" loads all weights; "balanced" and "low" leave them in their files until they are used
            (`gen3r.models.memory.Offload` says how); "auto" takes the first of these for which the device has the
            memory to make the model's own clip.
        device: where everything runs.
        components: used in place of the model's own, as in diffusers, such as a quantized `transformer`. They are
            loaded, and so is everything: `memory` is "high".

        Raises:
            InputError: there is no such model, variant, tier or component; a tensor is missing, left over, misshapen,
                not finite, damaged or pickled; or the device's memory clearly does not suffice.
        """
        folder, device = resolve_model(model), torch.device(device)
        kinds = {name: kind for name, kind in get_type_hints(Components).items() if name != "defaults"}
        if unknown := components.keys() - kinds.keys():
            raise InputError(f"a pipeline has no {min(unknown)}; its components are {', '.join(sorted(kinds))}")
        for name, component in components.items():
            if not isinstance(component, kinds[name]):
                wanted = getattr(kinds[name], "__name__", kinds[name])
                raise InputError(f"{name} is a {wanted}, not {type(component).__name__}")
        if components and memory != "high":
            raise InputError(f'components that are given are loaded; memory="{memory}" needs them in their files')
        packaged = torch_dtype is None and in_package(folder)
        dtype = torch.float32 if packaged else torch_dtype
        if memory not in TIERS:
            memory = fitting_tier(folder, dtype, own_clip(folder), device, memory, variant)
        if memory == "high":
            stored = load_components(folder, dtype, kinds.keys() - components.keys(), variant)
            pipe = cls(**vars(stored) | components)
            pipe = pipe if device.type == "cpu" else pipe.to(device)
        else:
            empty, weights = open_components(folder, dtype, variant)
            offload = Offload(empty.modules(), weights, device, memory)
            pipe = cls(**vars(empty))
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
        with (
            self._autocast(appearance.device),
            self._calls([self.vae.decoder], appearance.shape[2], "decoding", "latent frame"),
        ):
            video = self.vae.decode_latents(appearance.to(self.vae.dtype)).float()
        return (video / 2 + 0.5).clamp(0, 1).transpose(1, 2)

    @torch.no_grad()
    def decode_geometry(self, geometry: Tensor, points: bool = False) -> GeometryPrediction:
        """Cameras and depth of geometry latents [B, 16, f, h, w]; the points of VGGT's own head, if asked for."""
        with self._autocast(geometry.device):
            levels = unpack_tokens(self.geo_adapter.decode(geometry.to(self.geo_adapter.dtype)))
        return self.vggt.heads(levels, 8 * geometry.shape[-2], 8 * geometry.shape[-1], points=points)

    @torch.no_grad()
    def predict_geometry(self, frames: Tensor, points: bool = False) -> GeometryPrediction:
        """Cameras and depth of frames [B, F, 3, H, W] in [0, 1], by VGGT; the points of its own head, if asked for."""
        blocks = self.vggt.aggregator.global_blocks
        with self._autocast(frames.device), self._calls([*blocks], len(blocks), "predicting the geometry", "block"):
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

    @property
    def _mixes(self) -> bool:
        """Whether float32 weights multiply in bfloat16."""
        present = (x for x in (self.transformer, self.vggt, self.vae) if x is not None)  # training may need only some
        return self.mixed_precision and next(present).dtype == torch.float32

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """bfloat16 products of float32 weights, where `mixed_precision` asks for it and `device` is fast at them."""
        if self._mixes:
            return fast_products(device)
        return nullcontext()
