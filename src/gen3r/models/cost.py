"""What a clip costs before it is made: operations and memory of each stage, counted on the meta device."""

import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from gen3r.models.components import Components
from gen3r.models.geometry import fitting_size, usual_pixels
from gen3r.models.memory import STREAMED
from gen3r.models.tokens import pack_tokens, unpack_tokens


@dataclass(frozen=True)
class Clip:
    """The size of what is made. views: conditioning frames. samples: made at once. generates: False of `reconstruct`.

    steps: of sampling; None means the model's own. guided: with a negative prompt; None means as the model's own.
    """

    frames: int
    height: int
    width: int
    views: int = 1
    samples: int = 1
    steps: int | None = None
    guided: bool | None = None
    generates: bool = True


@dataclass(frozen=True)
class Stage:
    """One component at work.

    parameters, weights [bytes]: of the component; layer [bytes]: of its largest layer. operations: of all calls of
    the stage, where a multiplication and an addition are two. live, tiled [bytes]: the most that inputs, outputs and
    what lies between take at once, without weights; tiled: in the tier low. dtype: of most products.
    """

    name: str
    component: str
    parameters: int
    weights: int
    layer: int
    operations: int
    live: int
    tiled: int
    dtype: torch.dtype

    def memory(self, tier: str) -> int:
        """The most memory of this component alone [bytes]."""
        streamed = tier == "low" or (tier == "balanced" and self.component in STREAMED)
        return (self.layer if streamed else self.weights) + (self.tiled if tier == "low" else self.live)


def most_memory(stages: list[Stage], tier: str) -> int:
    """The most memory that the stages take in a tier [bytes], if all components of a model are among them."""
    if tier != "high":
        return max(stage.memory(tier) for stage in stages)
    return sum({s.component: s.weights for s in stages}.values()) + max(s.live for s in stages)


def count_stages(components: Components, clip: Clip) -> list[Stage]:
    """The stages of making a clip, in their order. components: with parameters on the meta device, or anywhere."""
    modules = {name: copy.deepcopy(module).to("meta") for name, module in components.modules().items()}
    whole = Components(**modules, defaults=components.defaults)
    plain = list(_run_stages(whole, clip))
    whole.vae.enable_tiling()
    whole.vggt.frames_chunk = 1
    tiled = [count.most for *_, count in _run_stages(whole, clip)]
    return [
        _stage(name, component, modules[component], count, calls, low)
        for (name, component, calls, count), low in zip(plain, tiled, strict=True)
    ]


def _stage(name: str, component: str, module: nn.Module, count: "Count", calls: int, tiled: int) -> Stage:
    layers = [[p for p in m.parameters(recurse=False)] for m in module.modules() if not isinstance(m, nn.Embedding)]
    return Stage(
        name, component, parameters=sum(p.numel() for p in module.parameters()),
        weights=_bytes(module.parameters()), layer=max(_bytes(layer) for layer in layers),
        operations=calls * count.operations, live=count.most, tiled=tiled, dtype=count.dtype,
    )  # fmt: skip


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _run_stages(models: Components, clip: Clip) -> Iterator[tuple[str, str, int, "Count"]]:
    """Runs each stage on the meta device: its name, component, number of calls, and what was counted in one call."""
    defaults, vggt = models.defaults, models.vggt
    B, frames, height, width = clip.samples, clip.frames, clip.height, clip.width
    patch = vggt.config.patch_size
    f, h, w = 1 + (frames - 1) // 4, height // 8, width // 8

    def zeros(*shape: int, like: nn.Module | None = None) -> Tensor:
        dtype = next(like.parameters()).dtype if like is not None else torch.float32
        return torch.zeros(shape, dtype=dtype, device="meta")

    def run(name: str, component: str, work: Callable[[], Any], calls: int = 1) -> tuple[str, str, int, Count]:
        module = getattr(models, component)
        count = Count(module)
        with torch.no_grad(), _FusedAttention(count), count:
            work()
        return name, component, calls, count

    def geometry_of(count: int, high: int, wide: int, samples: int = B) -> None:
        levels = vggt.tokens(zeros(samples, count, 3, high, wide, like=vggt.aggregator))
        vggt.heads(levels, high, wide, points=False)

    if not clip.generates:
        yield run("geometry", "vggt", lambda: geometry_of(frames, height, width))
        return
    steps = clip.steps or defaults["num_inference_steps"]
    guided = defaults["guidance_scale"] != 1 if clip.guided is None else clip.guided
    n = B * (1 + guided)
    length, encoder = defaults["text_length"], models.text_encoder
    tokens = torch.zeros(n, length, dtype=torch.long, device="meta")
    yield run("text", "text_encoder", lambda: encoder(input_ids=tokens))
    side = int(models.image_encoder.config.image_size)  # pyright: ignore[reportArgumentType]
    if clip.views:
        pixels = usual_pixels(defaults, clip.views)
        size = fitting_size(height, width, pixels, patch)
        yield run("photos", "vggt", lambda: geometry_of(clip.views, *size, samples=1))
        yield run("image", "image_encoder", lambda: models.image_encoder(
            pixel_values=zeros(B, 3, side, side, like=models.image_encoder), output_hidden_states=True
        ))  # fmt: skip
    grid = height // patch, width // patch

    def video(model: nn.Module) -> Tensor:
        return zeros(B, frames, 3, height, width, like=model)

    if models.transformer.config.unseen_frames == "warped" and 0 < clip.views < frames:
        yield run("views: tokens", "vggt", lambda: pack_tokens(vggt.tokens(video(vggt.aggregator)), grid))
        channels = models.geo_adapter.config.token_channels
        yield run("views: latents", "geo_adapter", lambda: models.geo_adapter.encode(
            zeros(B, channels, frames, *grid, like=models.geo_adapter)
        ))  # fmt: skip
    yield run("conditions", "vae", lambda: models.vae.encode_video(video(models.vae).transpose(1, 2)))
    yield run("denoising", "transformer", lambda: _denoise(models, zeros, n, B, (f, h, 2 * w), length, side), steps)
    yield run("frames", "vae", lambda: models.vae.decode_latents(zeros(B, 16, f, h, w, like=models.vae)).float())
    if defaults["geometry_from"] == "frames":
        yield run("geometry", "vggt", lambda: geometry_of(frames, height, width))
        return
    latents = lambda: zeros(B, 16, f, h, w, like=models.geo_adapter)  # noqa: E731
    yield run("tokens", "geo_adapter", lambda: (video(vggt.depth_head), models.geo_adapter.decode(latents())))

    def heads() -> None:
        shown = video(vggt.depth_head)  # the decoded frames wait meanwhile
        packed = zeros(B, models.geo_adapter.config.token_channels, frames, *grid, like=models.geo_adapter)
        levels = unpack_tokens(packed)
        del packed
        vggt.heads(levels, height, width, points=False)
        del shown

    yield run("geometry", "vggt", heads)


def _denoise(models: Components, zeros: Any, n: int, samples: int, grid: Any, length: int, side: int) -> None:
    """A step of `n` inputs of `samples` samples, and what is held meanwhile."""
    net, (f, h, w) = models.transformer, grid
    config, image = net.config, models.image_encoder.config
    rays = zeros(samples, config.camera_channels, f, 8 * h, 8 * w)
    cameras = net.embed_cameras(rays.to(net.dtype))
    del rays
    inputs = {
        "latents": zeros(n, config.out_channels, f, h, w, like=net),
        "timestep": zeros(n),
        "prompt_embeds": zeros(n, length, config.text_dim, like=net),
        "image_embeds": zeros(n, 1 + (side // image.patch_size) ** 2, config.image_dim, like=net),
        "control": zeros(n, 20, f, h, w, like=net),
        "camera_embeds": torch.cat([cameras] * (n // samples)),
    }
    del cameras
    net(**inputs)


class Count(TorchDispatchMode):
    """Counts the operations of products, and the most bytes that tensors take at once, a module's own aside."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.operations = self.now = self.most = 0
        self.dtype = next(module.parameters()).dtype
        self._known = {t.untyped_storage()._cdata for t in [*module.parameters(), *module.buffers()]}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention as one operation, as kernels do it; the meta device would take it apart."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = (*args, *((kwargs or {}).get(n) for n in ("query", "key", "value")[len(args) :]))[:3]
        shapes = (x.flatten(0, -4).shape for x in (query, key, value))
        self.count.operations += sdpa_flop_count(*shapes)
        return query.new_empty(*query.shape[:-1], value.shape[-1])

