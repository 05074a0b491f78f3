"""Loading, saving and converting model folders. Only safetensors, JSON and tokenizer files are read."""

import json
import math
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import FlowMatchEulerDiscreteScheduler, ModelMixin, UniPCMultistepScheduler
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    UMT5Config,
    UMT5EncoderModel,
)

from gen3r.checkpoints.lora import lora_file, lora_sampling
from gen3r.checkpoints.published import COMPONENTS, PublishedComponent, published_config
from gen3r.checkpoints.retired import current_arguments, current_defaults
from gen3r.checkpoints.weights import (
    StoredWeights,
    check_finite,
    find_slots,
    has_variant,
    open_tensors,
    read_json,
)
from gen3r.errors import InputError
from gen3r.files import whole_folder, write_tensors, write_text
from gen3r.locations import local_model
from gen3r.models import presets
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.components import MODULES, Components
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

_CLASSES = {"transformer": Gen3RTransformer, "vae": VideoVAE, "geo_adapter": GeometryAdapter, "vggt": VGGT}
_SCHEDULERS = {c.__name__: c for c in (FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler)}
_KINDS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LARGEST_ARGUMENT = 1 << 20  # of a configuration; the largest real one is the count of words, 256384
LARGEST_HEAD = 1024  # of an attention; tables of its angles are made with the model, at any size
_ALLOWED = ["*.json", "*.safetensors", "*.model", "*.txt"]


def resolve_model(model: str | Path, accepted: str = "nano, a model folder,") -> Path:
    """The folder of a model: `nano` (in the package), a folder, or a Hub id, which is downloaded without pickles.

    accepted: what an error names besides a Hub id.

    Raises:
        InputError: it is none of these, or cannot be fetched.
    """
    if (folder := local_model(model, accepted)) is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(model), allow_patterns=_ALLOWED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"cannot fetch {model} from the Hub ({type(error).__name__}); give a local folder") from error


def is_published_layout(folder: Path) -> bool:
    """Whether a model folder is laid out as the public checkpoint rather than as ours."""
    return (folder / "wan_vae").is_dir() or (folder / "clip_image_encoder").is_dir()


def model_defaults(model: str | Path, lora: str | Path | None = None) -> dict[str, Any]:
    """The clip length, size, steps and guidance of a model, and its `least_steps`, without loading it.

    lora: adapters for it, which may be those of a distilled student.
    """
    folder = resolve_model(model)
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    student = lora_sampling(lora_file(lora)) if lora else {}
    least = presets.least_steps(schedule | student.pop("schedule", {}))
    return _stored_defaults(folder) | student | {"least_steps": least}


def _stored_defaults(folder: Path) -> dict[str, Any]:
    path = folder / "model_index.json"
    return _checked_defaults(read_json(path).get("defaults", {}), path)


def _checked_defaults(given: Any, path: Path) -> dict[str, Any]:
    """The defaults of a model_index.json, with the published ones where it has none; each of its kind."""
    plain = presets.published().defaults
    if not isinstance(given, dict):
        raise InputError(f"{path} has defaults that are no object; fetch the model again")
    values = {**plain, **current_defaults(given)}
    for key, usual in plain.items():
        value, kind = values[key], (int, type(None)) if usual is None else type(usual)
        whole_for_float = kind is float and type(value) is int
        numbers = not isinstance(value, list) or all(isinstance(x, float | int) and math.isfinite(x) for x in value)
        of_kind = (isinstance(value, kind) or whole_for_float) and numbers
        if not of_kind or isinstance(value, bool) != isinstance(usual, bool):
            raise InputError(f"{path} has a default {key} of {json.dumps(value)[:40]}; fetch the model again")
    return values


def store_defaults(folder: Path, **values: Any) -> None:
    """Changes some defaults in the model_index.json of a model folder.

    Raises:
        InputError: it cannot be read or written.
    """
    index = read_json(folder / "model_index.json")
    index["defaults"] = index.get("defaults", {}) | values
    write_text(json.dumps(index, indent=2) + "\n", folder / "model_index.json")


def transformer_config(model: str | Path) -> dict[str, Any]:
    """The constructor arguments of a model's transformer, without loading it; none for the published layout."""
    place = resolve_model(model) / "transformer"
    if is_published_layout(place.parent):
        return {}
    return current_arguments("transformer", read_json(place / "config.json"), place)


def load_components(
    model: str | Path,
    dtype: torch.dtype | None = None,
    only: Collection[str] | None = None,
    variant: str | None = None,
) -> Components:
    """The components of a model, without a second copy of the weights in memory.

    dtype: the type of floating-point weights; None keeps the stored one. only: the modules to load, and "tokenizer";
    by default all. Scheduler and defaults are always loaded. variant: the files to read where a component has such
    ones, as in diffusers: "fp16" for `model.fp16.safetensors`.

    Raises:
        InputError: a folder, tensor or config is missing, left over, misshapen, not finite, truncated, pickled or not
            supported; or no component has the variant.
    """
    return _load(resolve_model(model), dtype, only, variant, None)


def open_components(
    model: str | Path, dtype: torch.dtype | None = None, variant: str | None = None
) -> tuple[Components, dict[str, StoredWeights]]:
    """As `load_components`, but parameters are on the meta device; and the weights of each module, still in its files.

    Values that are not finite are found when they are read.
    """
    weights: dict[str, StoredWeights] = {}
    return _load(resolve_model(model), dtype, None, variant, weights), weights


def _load(
    folder: Path,
    dtype: torch.dtype | None,
    only: Collection[str] | None,
    variant: str | None,
    stored: dict[str, StoredWeights] | None,
) -> Components:
    """Components; with their weights, or with those left in `stored`."""
    if variant and not any(has_variant(_place(name, folder), variant) for name in MODULES):
        raise InputError(f"{folder} has no weights of the variant {variant}; leave the variant out")
    wanted = {*MODULES, "tokenizer"} if only is None else {*only}
    components = Components(defaults=_stored_defaults(folder), scheduler=_load_scheduler(folder / "scheduler"))
    for name in MODULES:
        if name in wanted:
            setattr(components, name, _load_module(name, folder, dtype, variant, stored))
    if "tokenizer" in wanted:
        components.tokenizer = load_tokenizer(folder / "tokenizer")
    return components


def save_components(components: Components, folder: Path, max_shard_size: str = "5GB") -> None:
    """Writes a pipeline folder, whole or not at all; `folder` must not exist or be empty."""
    with whole_folder(folder) as partial:
        index: dict[str, Any] = {"_class_name": "Gen3RPipeline", "defaults": components.defaults}
        for name, component in vars(components).items():
            if component is None or name == "defaults":
                continue
            if isinstance(component, ModelMixin | PreTrainedModel):
                component.save_pretrained(partial / name, max_shard_size=max_shard_size)
            else:
                component.save_pretrained(partial / name)
            index[name] = [type(component).__module__.split(".")[0], type(component).__name__]
        _write_json(partial / "model_index.json", index)


def convert(source: str | Path, target: Path) -> str:
    """Converts a published folder to ours, or ours to the published layout; returns which it wrote."""
    folder = resolve_model(source)
    components = load_components(folder)
    if is_published_layout(folder):
        save_components(components, target)
        return "pipeline"
    _save_published(components, target)
    return "published"


def _save_published(components: Components, folder: Path) -> None:
    with whole_folder(folder) as partial:
        for name, component in COMPONENTS.items():
            module, place = getattr(components, name), partial / component.folder
            tensors = component.to_published(module.state_dict())
            write_tensors({component.prefix + k: v for k, v in tensors.items()}, place / component.file)
            _write_json(place / "config.json", published_config(name, module.config))
        components.tokenizer.save_pretrained(partial / "tokenizer")
        components.scheduler.save_pretrained(partial / "scheduler")
        folders = {c.folder: ["gen3r", c.folder] for c in COMPONENTS.values()}
        index = {"_class_name": "Gen3RPipeline", "defaults": components.defaults, **folders}
        _write_json(partial / "model_index.json", index)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _place(name: str, folder: Path) -> Path:
    """The folder of a component in a model folder of either layout."""
    return folder / (COMPONENTS[name].folder if is_published_layout(folder) else name)


def _load_module(
    name: str,
    folder: Path,
    dtype: torch.dtype | None,
    variant: str | None,
    stored: dict[str, StoredWeights] | None,
) -> nn.Module:
    """A component with the weights in a model folder of either layout; or with none, which are left in `stored`."""
    place = _place(name, folder)
    tensors = opened = open_tensors(place, variant)
    if is_published_layout(folder):
        arguments, tensors = _read_published(COMPONENTS[name], place, tensors)
    else:
        arguments = current_arguments(name, read_json(place / "config.json"), place)
    module = _empty(name, arguments, len(tensors), place)
    if stored is None:
        return _assign(module, tensors, place, dtype)
    _check_tensors(module, tensors, place)
    slots = find_slots(place, opened, tensors, variant)
    slots = {k: replace(slot, dtype=_kept_type(module, k, slot.stored, dtype)) for k, slot in slots.items()}
    stored[name] = StoredWeights(slots)
    return _fill(module, {k: torch.empty(v.shape, dtype=v.dtype, device="meta") for k, v in slots.items()})


def load_vggt(folder: Path, dtype: torch.dtype | None = None) -> VGGT:
    """VGGT from a checkpoint of it alone, in its own public layout: config.json, *.safetensors.

    The track head's tensors are not read.

    Raises:
        InputError: a tensor is missing, left over, misshapen, truncated or pickled.
    """
    arguments, tensors = _read_published(COMPONENTS["vggt"], folder, open_tensors(folder))
    vggt = _assign(_empty("vggt", arguments, len(tensors), folder), tensors, folder, dtype)
    assert isinstance(vggt, VGGT)
    return vggt


def _read_published(
    component: PublishedComponent, place: Path, tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The constructor arguments and our tensors of a component in the published layout."""
    names = [k for k in tensors if component.ignored_prefix is None or not k.startswith(component.ignored_prefix)]
    strangers = [k for k in names if not k.startswith(component.prefix)]
    if strangers:
        raise InputError(f"{place} has an unknown tensor {strangers[0]} ({len(strangers)} in all)")
    plain = {k.removeprefix(component.prefix): tensors[k] for k in names}
    shapes = {k: list(v.shape) for k, v in plain.items()}
    config = read_json(place / "config.json") if (place / "config.json").exists() else {}
    try:
        return component.arguments(shapes, config), component.from_published(plain)
    except (KeyError, IndexError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise InputError(f"{place} lacks or misstates {_first_line(error)}; fetch the model again") from error


def _empty(name: str, arguments: dict[str, Any], tensors: int, place: Path) -> nn.Module:
    """A component whose parameters have no storage yet; its computed buffers are real.

    tensors: how many there are, which bounds the counts of layers that a damaged configuration may ask for.
    """
    try:
        for key, value in arguments.items():
            count = re.search("layers|depth|blocks", key) and isinstance(value, int) and value > tensors
            largest = LARGEST_HEAD if key == "attention_head_dim" else LARGEST_ARGUMENT
            if count or (isinstance(value, int) and value > largest):
                raise ValueError(f"{key} is {value}")
        with init_empty_weights(include_buffers=False):
            if name == "text_encoder":
                return UMT5EncoderModel(UMT5Config(**arguments))
            if name == "image_encoder":
                return CLIPVisionModelWithProjection(CLIPVisionConfig(**arguments))
            return _CLASSES[name].from_config(arguments)
    except Exception as error:  # of any kind: other libraries' constructors meet values that they do not check
        raise InputError(f"{place / 'config.json'} describes no {name} ({_first_line(error)}); "
                         "fetch the model again") from error  # fmt: skip


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _assign(module: nn.Module, tensors: dict[str, Tensor], place: Path, dtype: torch.dtype | None) -> nn.Module:
    """Puts `tensors` into `module`, each exactly once."""
    _check_tensors(module, tensors, place)
    tensors = {k: v.to(_kept_type(module, k, v.dtype, dtype)) for k, v in tensors.items()}
    for name, tensor in tensors.items():
        check_finite(name, tensor, place)
    return _fill(module, tensors)


def _check_tensors(module: nn.Module, tensors: dict[str, Tensor], place: Path) -> None:
    """Refuses tensors that are not those of a module, or of a type that is none of weights."""
    wanted = {k: v.shape for k, v in module.state_dict().items()}
    tied = _tied(module)
    missing = [k for k in wanted if k not in tensors and k not in tied]
    extra = [k for k in tensors if k not in wanted]
    wrong = [k for k in wanted if k in tensors and tensors[k].shape != wanted[k]]
    if missing:
        raise InputError(f"{place} lacks the tensor {missing[0]} ({len(missing)} in all); fetch the model again")
    if extra:
        raise InputError(f"{place} has an unknown tensor {extra[0]} ({len(extra)} in all); it is not this model")
    if wrong:
        shapes = f"{list(tensors[wrong[0]].shape)} instead of {list(wanted[wrong[0]])}"
        raise InputError(f"{place}: tensor {wrong[0]} has shape {shapes}; it is not this model")
    odd = [k for k in wanted if k in tensors and tensors[k].dtype not in _KINDS]
    if odd:
        raise InputError(f"{place}: tensor {odd[0]} holds {tensors[odd[0]].dtype}; give weights of 16 or 32 bits")


def _fill(module: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    tied = _tied(module)
    module.load_state_dict(tensors, strict=not tied, assign=True)
    if tied and hasattr(module, "tie_weights"):
        module.tie_weights()  # pyright: ignore[reportCallIssue]
    return module.eval().requires_grad_(False)


def _tied(module: nn.Module) -> set[str]:
    """The names of weights that are others' as well."""
    return set(getattr(module, "_tied_weights_keys", None) or ())


def _kept_type(module: nn.Module, name: str, stored: torch.dtype, dtype: torch.dtype | None) -> torch.dtype:
    """The type of a tensor in a module that is loaded in `dtype`."""
    exact = tuple(f"{part}." for part in getattr(module, "_keep_in_fp32_modules", None) or ())
    return torch.float32 if name.startswith(exact) else dtype or stored


def load_tokenizer(place: Path) -> Any:
    """The tokenizer in a folder.

    Raises:
        InputError: it is missing or cannot be read.
    """
    if not place.is_dir():
        raise InputError(f"{place} is missing; the folder is not a complete model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # its library raises plain ones, too
        raise InputError(f"the tokenizer in {place} cannot be read: {_first_line(error)}") from error
    for how in ("is_local", "local_files_only"):  # arguments of reading, which would be saved with the tokenizer
        tokenizer.init_kwargs.pop(how, None)
    return tokenizer


def _load_scheduler(place: Path) -> Any:
    config = read_json(place / "scheduler_config.json")
    name = str(config.get("_class_name"))
    if name not in _SCHEDULERS:
        raise InputError(f"{place} has the scheduler {name}; gen3r samples with {' or '.join(_SCHEDULERS)}")
    try:
        return _SCHEDULERS[name].from_config({k: v for k, v in config.items() if not k.startswith("_")})
    except Exception as error:  # of any kind, as in `_empty`
        raise InputError(f"{place} describes no {name} ({_first_line(error)}); fetch the model again") from error
