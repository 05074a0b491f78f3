"""Where the weights of a pipeline are while it works: the tiers of memory."""

from collections.abc import Mapping
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
    """

    def __init__(
        self, components: Mapping[str, Any], weights: Mapping[str, Weights], device: torch.device, tier: str
    ) -> None:
        """components: modules with parameters on the meta device. weights: of each, by the names of its parameters."""
        self.tier, self.device = tier, device
        self._layers: dict[nn.Module, list[_Layer]] = {}
        self._loaded: list[_Layer] = []
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
            add_hook_to_module(layer.module, kind(layer), append=True)

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
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()


class _Layer:
    """A module's own parameters, without those of its parts. places: their names here and among the weights."""

    def __init__(self, module: nn.Module, places: dict[str, str], weights: Weights, device: torch.device) -> None:
        self.module, self.places, self.weights, self.device = module, places, weights, device
        self._absent = {name: getattr(module, name) for name in places}

    def fill(self) -> None:
        for name, place in self.places.items():
            setattr(self.module, name, nn.Parameter(self.weights[place].to(self.device), requires_grad=False))

    def empty(self) -> None:
        for name, parameter in self._absent.items():
            setattr(self.module, name, parameter)


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

    def __init__(self, layer: _Layer) -> None:
        self.layer = layer

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.layer.fill()
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
