"""Where the weights of a pipeline are while it works: the tiers of memory."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import psutil
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import Tensor, nn

TIERS = ("high", "balanced", "low")
STREAMED = ("text_encoder", "image_encoder")  # in every tier but high: they use each weight once a scene


class Weights(Protocol):
    """Weights by name, which are read when they are asked for."""

    def __getitem__(self, name: str) -> Tensor: ...

    def mapped(self, name: str) -> Tensor:
        """A weight on the CPU in its stored type, of which only what is used is read."""
        ...


class Offload:
    """Components whose weights stay in their files until they run.

    balanced: a component has all its weights on the device from its first call to the first call of another one. Text
    and image encoder have those of the layer that runs.
    low: every component has the weights of the layer that runs; the video autoencoder works in tiles, VGGT's dense
    heads frame by frame.
    While a layer runs, those of the next one are read into the CPU's memory.
    """

    def __init__(
        self, components: Mapping[str, Any], weights: Mapping[str, Weights], device: torch.device, tier: str
    ) -> None:
        """components: modules with parameters on the meta device. weights: of each, by the names of its parameters."""
        self.tier, self.device = tier, device
        self._layers: dict[nn.Module, list[_Layer]] = {}
        self._loaded: list[_Layer] = []
        self._ahead = _Ahead()
        text_encoder = components["text_encoder"]  # one layer for the two with these weights
        text_encoder.set_input_embeddings(text_encoder.get_input_embeddings())
        for name, module in components.items():
            self._attach(module, weights[name], tier == "low" or name in STREAMED)
        if tier == "low":
            components["vae"].enable_tiling()
            components["vggt"].frames_chunk = 1

    def _attach(self, component: nn.Module, weights: Weights, streamed: bool) -> None:
        layers = []
        for prefix, module in component.named_modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(self.device))
            names = [name for name, _ in module.named_parameters(recurse=False)]
            if names:
                places = {name: f"{prefix}.{name}".lstrip(".") for name in names}
                layers.append(_Layer(module, places, weights, self.device))
        self._layers[component] = layers
        add_hook_to_module(component, _Turn(self, [] if streamed else layers))
        for layer in layers if streamed else ():
            kind = _Rows if isinstance(layer.module, nn.Embedding) else _Streamed
            add_hook_to_module(layer.module, kind(layer, self._ahead), append=True)

    def load(self, component: nn.Module) -> None:
        """Loads a component whole, until another one runs."""
        self.enter(self._layers[component])

    def enter(self, layers: "list[_Layer]") -> None:
        """Loads the layers of a component, after those of another one are freed."""
        if self._loaded is not layers:
            self.free()
            self._loaded = layers
            try:
                for layer in layers:
                    layer.fill()
            except BaseException:
                self.free()
                raise

    def free(self) -> None:
        """Leaves no weights on the device."""
        for layer in self._loaded:
            layer.empty()
        self._loaded = []
        self._ahead.forget()
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()


class _Layer:
    """A module's own parameters, without those of its parts. places: their names here and among the weights."""

    def __init__(self, module: nn.Module, places: dict[str, str], weights: Weights, device: torch.device) -> None:
        self.module, self.places, self.weights, self.device = module, places, weights, device
        self._absent = {name: getattr(module, name) for name in places}

    def read(self) -> dict[str, Tensor]:
        return {name: self.weights[place] for name, place in self.places.items()}

    def fill(self, weights: Mapping[str, Tensor] | None = None) -> None:
        """Gives the module its weights: these, or those that are read now."""
        for name, weight in (weights or self.read()).items():
            setattr(self.module, name, nn.Parameter(weight.to(self.device), requires_grad=False))

    def empty(self) -> None:
        for name, parameter in self._absent.items():
            setattr(self.module, name, parameter)


class _Ahead:
    """Reads the weights of the layer that ran next the last time, in a thread, while another one runs."""

    def __init__(self) -> None:
        self._next: dict[_Layer, _Layer] = {}
        self._last: _Layer | None = None
        self._read: tuple[_Layer, Future[dict[str, Tensor]]] | None = None
        self._thread = ThreadPoolExecutor(1)

    def weights(self, layer: _Layer) -> dict[str, Tensor]:
        """The weights of the layer whose turn it is."""
        if self._last is not None:
            self._next[self._last] = layer
        self._last = layer
        if self._read is None or self._read[0] is not layer:
            self._read = layer, self._thread.submit(layer.read)
        weights, following = self._read[1].result(), self._next.get(layer)
        self._read = None if following is None else (following, self._thread.submit(following.read))
        return weights

    def forget(self) -> None:
        """Keeps no weights."""
        self._read = self._last = None


class _Turn(ModelHook):
    """Of a component: loads it before it runs, and frees the one before it."""

    def __init__(self, offload: Offload, layers: list[_Layer]) -> None:
        self.offload, self.layers = offload, layers
        self.execution_device = offload.device  # where diffusers looks for it

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.offload.enter(self.layers)
        return args, kwargs


class _Streamed(ModelHook):
    """Of a layer: it has its weights while it runs."""

    def __init__(self, layer: _Layer, ahead: _Ahead) -> None:
        self.layer, self.ahead = layer, ahead

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.layer.fill(self.ahead.weights(self.layer))
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self.layer.empty()
        return output


class _Rows(_Streamed):
    """Of a table of embeddings: only the rows that are looked up are read."""

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        table = self.layer.weights.mapped(self.layer.places["weight"])
        module.weight = nn.Parameter(table, requires_grad=False)
        return (args[0].cpu(),), kwargs

    def post_forward(self, module: nn.Module, output: Tensor) -> Tensor:
        self.layer.empty()
        return output.to(self.layer.device, module.get_parameter("weight").dtype)


def free_memory(device: torch.device) -> int:
    """Bytes that a device has left; of the machine, where the device has no memory of its own."""
    backend = torch.get_device_module(device)
    if hasattr(backend, "mem_get_info"):
        return backend.mem_get_info(device)[0]
    return psutil.virtual_memory().available
