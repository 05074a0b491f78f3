"""What a clip costs before it is made: operations and memory of each stage, counted on the meta device."""

import copy
import weakref
from collections.abc import Callable, Iterable
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
from gen3r.models.geometry import SMALLER, fitting_size, usual_pixels
from gen3r.models.memory import STREAMED
from gen3r.models.tokens import packed_tokens, unpack_tokens

TILE = 256  # pixels of diffusers' tiles of video autoencoders
SHORT = 3  # latents of the clips that are counted in place of longer ones


@dataclass(frozen=True)
class Clip:
    """The size of what is made. views: conditioning frames. generates: False of `reconstruct`.

    steps: of sampling; None means the model's own. guided: with a negative prompt; None means as the model's own.
    """

    frames: int
    height: int
    width: int
    views: int = 1
    steps: int | None = None
    guided: bool | None = None
    generates: bool = True


@dataclass(frozen=True)
class Stage:
    """One component at work.

    parameters, weights [bytes]: of the component; layer [bytes]: of its largest layer; model [bytes]: of all
    components. operations: of all calls of the stage, where a multiplication and an addition are two. live, tiled
    [bytes]: the most that inputs, outputs and what lies between take at once, without weights; tiled: in the tier low.
    dtype: of most products.
    """

    name: str
    component: str
    parameters: int
    weights: int
    layer: int
    model: int
    operations: int
    live: int
    tiled: int
    dtype: torch.dtype

    def memory(self, tier: str) -> int:
        """The most memory in a tier [bytes]."""
        if tier == "high":
            return self.model + self.live
        streamed = tier == "low" or self.component in STREAMED
        return (self.layer if streamed else self.weights) + (self.tiled if tier == "low" else self.live)


def most_memory(stages: list[Stage], tier: str) -> int:
    """The most memory that any stage takes in a tier [bytes]."""
    return max(stage.memory(tier) for stage in stages)


def count_stages(components: Components, clip: Clip) -> list[Stage]:
    """The stages of making a clip, in their order. components: with parameters on the meta device, or anywhere."""
    return StageCounter(components, clip).stages()


class StageCounter:
    """Runs the stages of a clip on the meta device. Convolutions are counted for short clips, since they stream."""

    def __init__(self, components: Components, clip: Clip) -> None:
        modules = {name: copy.deepcopy(module).to("meta") for name, module in components.modules().items()}
        self.models = models = Components(**modules, defaults=components.defaults)
        self.clip, self.patch = clip, models.vggt.config["patch_size"]
        self.model = sum(_bytes(module.parameters()) for module in modules.values())
        self.found: list[Stage] = []

    def stages(self) -> list[Stage]:
        clip, defaults = self.clip, self.models.defaults
        size = clip.height, clip.width
        if not clip.generates:
            self._geometry("geometry", clip.frames, *size)
            return self.found
        steps = clip.steps or defaults["num_inference_steps"]
        guided = defaults["guidance_scale"] != 1 if clip.guided is None else clip.guided
        self._text(1 + guided)
        if clip.views:
            pixels = usual_pixels(defaults, clip.views)
            self._geometry("photos", clip.views, *fitting_size(*size, pixels, self.patch))
            if clip.views == 1 and defaults.get("photo_size"):
                for share in SMALLER:
                    self._geometry("photo, smaller", 1, *fitting_size(*size, share * pixels, self.patch))
            self._image()
        if self.models.transformer.config["unseen_frames"] == "warped" and 0 < clip.views < clip.frames:
            self._add("views: tokens", "vggt", self._view_tokens)
            self.add_streamed("views: latents", "geo_adapter", self._encode_tokens)
        self.add_streamed("conditions", "vae", self._encode_video, tiles=True)
        self._add("denoising", "transformer", lambda: self._denoise(1 + guided), calls=steps)
        self.add_streamed("frames", "vae", self.decode_video, tiles=True)
        if defaults["geometry_from"] == "frames":
            self._geometry("geometry", clip.frames, *size)
            return self.found
        self.add_streamed("tokens", "geo_adapter", self._decode_tokens)
        self._add("geometry", "vggt", self._heads, chunks=True)
        return self.found

    def _add(self, name: str, component: str, work: Callable[[], Any], calls: int = 1, chunks: bool = False) -> None:
        """A stage of so many equal calls. chunks: fewer frames at once go through VGGT's heads in the tier low."""
        count = self._run(component, work)
        self._note(name, component, calls * count.operations, count.most, self._few(work) if chunks else count.most)

    def _few(self, work: Callable[[], Any]) -> int:
        self.models.vggt.frames_chunk = 1
        most = self._run("vggt", work).most
        self.models.vggt.frames_chunk = type(self.models.vggt).frames_chunk
        return most

    def add_streamed(
        self, name: str, component: str, work: Callable[[int, int, int], Any], tiles: bool = False
    ) -> None:
        """A stage that goes through time by 1, 4, 4, ... frames: what one more chunk adds is counted once.

        work: on latents of a length, height and width. tiles: of the tier low.
        """
        f, h, w = self._grid()
        small = min(h, TILE // 8), min(w, TILE // 8)
        operations, live, both = self._extrapolated(component, lambda n: work(n, h, w), f)
        tiled = live
        if tiles and small != (h, w):
            tiled = min(live, self._extrapolated(component, lambda n: work(n, *small), f)[1] + 2 * both)
        self._note(name, component, operations, live, tiled)

    def _extrapolated(self, component: str, work: Callable[[int], Any], f: int) -> tuple[int, int, int]:
        """Operations, the most bytes, and those of inputs and outputs, for f latents from those of two and three."""
        if f <= SHORT:
            last = self._run(component, lambda: work(f))
            return last.operations, last.most, last.kept
        before, last = (self._run(component, lambda n=n: work(n)) for n in (SHORT - 1, SHORT))
        operations, most, kept = (
            getattr(last, x) + (f - SHORT) * (getattr(last, x) - getattr(before, x))
            for x in ("operations", "most", "kept")
        )
        return operations, max(most, 2 * kept), kept  # the chunks are joined in the end

    def _run(self, component: str, work: Callable[[], Any]) -> "Count":
        count = Count(getattr(self.models, component))
        with torch.no_grad(), _FusedAttention(count), count:
            result = work()
            count.kept = count.now
            del result
        return count

    def _note(self, name: str, component: str, operations: int, live: int, tiled: int) -> None:
        module = getattr(self.models, component)
        layers = [[*m.parameters(recurse=False)] for m in module.modules() if not isinstance(m, nn.Embedding)]
        self.found.append(Stage(
            name, component, sum(p.numel() for p in module.parameters()), _bytes(module.parameters()),
            max(map(_bytes, layers)), self.model, operations, live, tiled, next(module.parameters()).dtype,
        ))  # fmt: skip

    def _grid(self) -> tuple[int, int, int]:
        return 1 + (self.clip.frames - 1) // 4, self.clip.height // 8, self.clip.width // 8

    def _zeros(self, like: nn.Module | None, *shape: int) -> Tensor:
        """Zeros [1, ...] in a module's type."""
        dtype = torch.float32 if like is None else next(like.parameters()).dtype
        return torch.zeros(1, *shape, dtype=dtype, device="meta")

    def _text(self, texts: int) -> None:
        encoder, length = self.models.text_encoder, self.models.defaults["text_length"]
        ids = torch.zeros(texts, length, dtype=torch.long, device="meta")
        self._add("text", "text_encoder", lambda: encoder(input_ids=ids))

    def _image(self) -> None:
        encoder = self.models.image_encoder
        side = int(encoder.config.image_size)  # pyright: ignore[reportArgumentType]
        pixels = self._zeros(encoder, 3, side, side)
        self._add("image", "image_encoder", lambda: encoder(pixel_values=pixels, output_hidden_states=True))

    def _geometry(self, name: str, frames: int, height: int, width: int) -> None:
        vggt = self.models.vggt

        def work() -> None:
            images = self._zeros(vggt.aggregator, frames, 3, height, width)
            vggt.heads(vggt.tokens(images), height, width, points=False)

        self._add(name, "vggt", work, chunks=frames > 1)

    def _view_tokens(self) -> Tensor:
        clip, vggt = self.clip, self.models.vggt
        return packed_tokens(vggt, self._zeros(vggt.aggregator, clip.frames, 3, clip.height, clip.width))

    def _tokens(self, frames: int, h: int, w: int) -> Tensor:
        """Packed tokens, of the grid that h x w latents have."""
        adapter = self.models.geo_adapter
        return self._zeros(adapter, adapter.config["token_channels"], frames, 8 * h // self.patch, 8 * w // self.patch)

    def _encode_tokens(self, f: int, h: int, w: int) -> Any:
        packed = self._tokens(4 * f - 3, h, w)
        return packed, self.models.geo_adapter.encode(packed).mean

    def _decode_tokens(self, f: int, h: int, w: int) -> Any:
        shown = self._zeros(None, 4 * f - 3, 3, 8 * h, 8 * w)  # the decoded frames wait meanwhile
        return shown, self.models.geo_adapter.decode(self._zeros(self.models.geo_adapter, 16, f, h, w))

    def _encode_video(self, f: int, h: int, w: int) -> Any:
        video = self._zeros(self.models.vae, 3, 4 * f - 3, 8 * h, 8 * w)
        return video, self.models.vae.encode_video(video).mean

    def decode_video(self, f: int, h: int, w: int) -> Any:
        return self.models.vae.decode_latents(self._zeros(self.models.vae, 16, f, h, w)).float()

    def _heads(self) -> Any:
        clip, vggt = self.clip, self.models.vggt
        shown = self._zeros(None, clip.frames, 3, clip.height, clip.width)
        levels = unpack_tokens(self._tokens(clip.frames, *self._grid()[1:]))
        return shown, vggt.heads(levels, clip.height, clip.width, points=False)

    def _denoise(self, inputs: int) -> Tensor:
        """A step of so many inputs, and what is held meanwhile."""
        net, (f, h, w) = self.models.transformer, self._grid()
        config, image = net.config, self.models.image_encoder.config
        cameras = net.embed_cameras(self._zeros(None, config["camera_channels"], f, 8 * h, 16 * w).to(net.dtype))

        def zeros(*shape: int) -> Tensor:
            return self._zeros(net, *shape).repeat(inputs, *[1] * len(shape))

        cameras = torch.cat([cameras] * inputs)
        side = int(image.image_size) // int(image.patch_size)  # pyright: ignore[reportArgumentType]
        return net(
            latents=zeros(config["out_channels"], f, h, 2 * w), timestep=zeros(1)[:, 0],
            prompt_embeds=zeros(self.models.defaults["text_length"], config["text_dim"]),
            image_embeds=zeros(1 + side**2, config["image_dim"]), control=zeros(20, f, h, 2 * w), camera_embeds=cameras,
        )  # fmt: skip


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


class Count(TorchDispatchMode):
    """Counts the operations of products, and the most bytes that tensors take at once, a module's own aside."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.operations = self.now = self.most = self.kept = 0
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
        named: Any = kwargs or {}
        query, key, value = (*args, *(named[n] for n in ("query", "key", "value")[len(args) :]))[:3]
        shapes = (x.flatten(0, -4).shape for x in (query, key, value))
        self.count.operations += sdpa_flop_count(*shapes)
        return query.new_empty(*query.shape[:-1], value.shape[-1])
