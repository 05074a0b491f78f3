"""The components of a run with the weights that they have there: new, of the starting model, or trained by a stage."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ModelMixin
from torch import nn

from gen3r.checkpoints.load import load_components
from gen3r.errors import InputError
from gen3r.models.components import Components
from gen3r.models.presets import build_components
from gen3r.training.engine.checkpoint import CHECKPOINT, holds, load_average
from gen3r.training.latent_cache.shards import shards_of
from gen3r.training.measurements import Statistics, latent_statistics, measured_once
from gen3r.training.stages import STAGES, stage_class

if TYPE_CHECKING:
    from gen3r.training.run import Run

LATENT_MODELS = ("vae", "geo_adapter")  # their configurations hold the statistics of latents


def assemble(run: "Run", finished: Collection[str], trained: Collection[str]) -> Components:
    """`finished` components with their final weights, and `trained` ones with those that training starts from.

    Raises:
        InputError: a stage that trains a finished component has no checkpoint.
    """
    components = _starting_components(run, {*finished, *trained})
    for name, module in components.modules().items():
        final = name in finished
        own = not final or is_trained(run.folder, name)
        if own:
            module = _own(run, name, module)
            setattr(components, name, module)
        if not final:
            if run.start is None or run.remake is not None:
                _initialise(name, module)
            _load_earlier(run.folder, name, module)
        elif own or run.start is None:
            load_average(_last_folder(run.folder, name), module, f"{name}.")
            if name in LATENT_MODELS:
                module.register_to_config(**_statistics(run, name, module))
        module.requires_grad_(not final).train(not final)
    return components


def new_like(module: Any, **changes: Any) -> Any:
    """A module of the same class and configuration, apart from `changes`, with new weights."""
    kind = type(module)
    if not isinstance(module, ModelMixin):
        return kind(module.config).float()
    arguments = {name: value for name, value in module.config.items() if not name.startswith("_")}
    return kind(**(arguments | changes))


def load_start(model: str | Path, names: Collection[str], stored: Collection[str] = ()) -> Components:
    """Components of a model in float32; `stored` ones keep their type."""
    components = load_components(model, only=names)
    for name, module in components.modules().items():
        if name not in stored:
            module.float()
    return components


def load_kept(run: "Run", names: Collection[str]) -> Components:
    """Components of a run's starting model, whose latents `--keep-latents` keeps.

    Raises:
        InputError: there is no starting model.
    """
    if run.start is None:
        raise InputError("--keep-latents keeps the latents of a model; name it with --start")
    return load_start(run.start, names)


def is_trained(folder: Path, component: str) -> bool:
    """Whether a run's folder has final weights of a component."""
    return holds(_last_folder(folder, component), f"{component}.")


def starts_anew(run: "Run", stage: str) -> bool:
    """Whether a stage is at its first step, with new weights."""
    return (run.start is None or run.remake is not None) and not (run.folder / stage / CHECKPOINT).exists()


def settle_statistics(run: "Run", name: str, statistics: Mapping[str, Any]) -> None:
    """Gives the latents of a component that this run has trained these statistics, instead of measured ones."""
    module = _own(run, name, getattr(_starting_components(run, {name}), name))
    load_average(_last_folder(run.folder, name), module, f"{name}.")
    _statistics(run, name, module, {key: list(statistics[key]) for key in ("latents_mean", "latents_std")})


def _training_stages(component: str) -> list[str]:
    """The stages that train a component, in order."""
    return [name for name in STAGES if component in stage_class(name).trains]


def _last_folder(folder: Path, component: str) -> Path:
    """The folder of the last stage that trains a component. Its checkpoint holds the final weights."""
    return folder / _training_stages(component)[-1]


def _load_earlier(folder: Path, component: str, module: nn.Module) -> None:
    """The averaged weights of earlier stages that train a component, for the last one to go on from."""
    for stage in _training_stages(component)[:-1]:
        if holds(folder / stage, f"{component}."):
            load_average(folder / stage, module, f"{component}.")


def _starting_components(run: "Run", names: Collection[str]) -> Components:
    """The starting model's components in float32 (encoders that do not run stay as stored), or new ones."""
    if run.start is None:
        components = build_components(run.config)
        if "tokenizer" in names:
            components.tokenizer = run.tokenizer()
        return components
    cached = ("text_encoder", "image_encoder") if shards_of(run.folder / "latents", "embeddings") else ()
    return load_start(run.start, names, stored=cached)


def _own(run: "Run", name: str, module: Any) -> Any:
    """A component that this run trains: remade if the run says so, and with no statistics of its latents yet."""
    if run.remake is not None:
        module = run.remake(name, module)
    if name in LATENT_MODELS:
        module.register_to_config(latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16)
    return module


def _initialise(name: str, module: Any) -> None:
    """Weights to train from, where those of the constructor are not good enough."""
    if name in ("vggt", "transformer"):
        module.init_weights()
    if name == "vae":
        with torch.no_grad():  # a wide posterior would hide the input in noise
            module.quant_conv.bias[len(module.quant_conv.bias) // 2 :] = -4.0
        for layer in module.modules():  # convolutions run a quarter faster on a CPU with the channels last
            if isinstance(layer, nn.Conv3d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)


def _statistics(run: "Run", name: str, module: Any, known: Statistics | None = None) -> Statistics:
    """The statistics of a finished component's latents: measured once for its weights, or `known` already."""
    makers = [module, run.components(("vggt",)).vggt] if name == "geo_adapter" else [module]
    path = _last_folder(run.folder, name) / "statistics.json"
    return measured_once(path, makers, lambda: known or latent_statistics(run.clips(), run.device, *makers))
