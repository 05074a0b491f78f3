"""Loading, saving and converting of model folders. Only safetensors, JSON and tokenizer files are ever read."""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import FlowMatchEulerDiscreteScheduler, ModelMixin, UniPCMultistepScheduler
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    UMT5Config,
    UMT5EncoderModel,
)

from gen3r.checkpoints.identity import variations
from gen3r.checkpoints.published import COMPONENTS, KEPT, PublishedComponent
from gen3r.errors import InputError
from gen3r.files import whole_folder
from gen3r.models import presets
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

PACKAGED = Path(__file__).parent.parent / "weights"
_CLASSES = {"transformer": Gen3RTransformer, "vae": VideoVAE, "geo_adapter": GeometryAdapter, "vggt": VGGT}
_SCHEDULERS = {c.__name__: c for c in (FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler)}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_ALLOWED = ["*.json", "*.safetensors", "*.model", "*.txt"]


def resolve_model(model: str | Path) -> Path:
    """The folder of a model: `nano` (in the package), a folder, or a Hub id, which is fetched without any pickle.

    Raises:
        InputError: it is none of these, or cannot be fetched.
    """
    if (PACKAGED / str(model) / "model_index.json").is_file():
        return PACKAGED / str(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists() or str(model).count("/") != 1 or str(model).startswith((".", "/", "~")):
        raise InputError(f"no model at {model}: give nano, a model folder, or a Hub id such as owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(model), allow_patterns=_ALLOWED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"cannot fetch {model} from the Hub ({type(error).__name__}); give a local folder") from error


def is_published_layout(folder: Path) -> bool:
    """Whether a model folder is laid out as the public checkpoint (SPEC section 9) rather than as ours."""
    return (folder / "wan_vae").is_dir() or (folder / "clip_image_encoder").is_dir()


def model_defaults(model: str | Path) -> dict[str, Any]:
    """A model's own clip length, size, steps and guidance, without loading it."""
    index = _read_json(resolve_model(model) / "model_index.json")
    return {**presets.published().defaults, **index.get("defaults", {})}


def transformer_config(model: str | Path) -> dict[str, Any]:
    """The arguments that a model's transformer is built with, without loading it; none for the published layout."""
    folder = resolve_model(model)
    return {} if is_published_layout(folder) else _read_json(folder / "transformer" / "config.json")


def load_components(model: str | Path, dtype: torch.dtype | None = None, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every component of a model by its name in our pipeline, without a second copy of the weights in memory.

    dtype: the type that floating-point weights get; None keeps the stored one. skip: components to leave out (None).

    Raises:
        InputError: a folder, tensor or config is missing, left over, misshapen, truncated, or pickled.
    """
    folder = resolve_model(model)
    published = is_published_layout(folder)
    components: dict[str, Any] = {"defaults": model_defaults(folder)}
    for name, component in COMPONENTS.items():
        if name in skip:
            components[name] = None
            continue
        place = folder / (component.folder if published else name)
        tensors = _open_tensors(place)
        module, renamed = (
            _published_module(component, place, tensors) if published else (_our_module(name, place), tensors)
        )
        components[name] = _assign(module, renamed, place, dtype)
    components["tokenizer"] = None if "tokenizer" in skip else _load_tokenizer(folder / "tokenizer")
    components["scheduler"] = _load_scheduler(folder / "scheduler")
    return components


def save_components(components: dict[str, Any], folder: Path, max_shard_size: str = "5GB") -> None:
    """Writes components as our pipeline folder, whole or not at all; `folder` must not exist or be empty."""
    with whole_folder(folder) as partial:
        index: dict[str, Any] = {"_class_name": "Gen3RPipeline", "defaults": components["defaults"]}
        for name, component in components.items():
            if component is None or name == "defaults":
                continue
            if isinstance(component, ModelMixin | PreTrainedModel):
                component.save_pretrained(partial / name, max_shard_size=max_shard_size)
            else:
                component.save_pretrained(partial / name)
            index[name] = [type(component).__module__.split(".")[0], type(component).__name__]
        (partial / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def convert(source: str | Path, target: Path) -> str:
    """Converts a published folder to ours, or ours to the published layout; returns which it wrote."""
    folder = resolve_model(source)
    components = load_components(folder)
    if is_published_layout(folder):
        save_components(components, target)
        return "pipeline"
    _save_published(components, target)
    return "published"


def _save_published(components: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    for name in ("transformer", "geo_adapter"):
        for argument, value in variations(components[name].config).items():
            raise InputError(f"the published layout has no place for a {name} whose {argument} is {value}")
    with whole_folder(folder) as partial:
        for name, component in COMPONENTS.items():
            module = components[name]
            place = partial / component.folder
            place.mkdir()
            tensors = component.to_published(module.state_dict())
            tensors = {component.prefix + k: v.contiguous() for k, v in tensors.items()}
            save_file(tensors, place / f"{component.weights}.safetensors")
            (place / "config.json").write_text(json.dumps(_published_config(name, module), indent=2) + "\n")
        components["tokenizer"].save_pretrained(partial / "tokenizer")
        components["scheduler"].save_pretrained(partial / "scheduler")
        index = {
            "_class_name": "Gen3RPipeline",
            "defaults": components["defaults"],
            **{c.folder: ["gen3r", c.folder] for c in COMPONENTS.values()},
        }
        (partial / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _published_config(name: str, module: Any) -> dict[str, Any]:
    """What shapes alone do not tell."""
    config = module.config
    kept = {key: getattr(config, key) for key in KEPT.get(name, ())}
    if name in ("transformer", "image_encoder"):
        return {"num_heads": config.num_attention_heads}
    if name == "vggt":
        levels = list(config.intermediate_levels)
        kept |= {"num_heads": config.num_heads, "patch_size": config.patch_size, "intermediate_layer_idx": levels}
    return kept


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; the folder is not a complete model") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch the model again") from error


def _open_tensors(place: Path) -> dict[str, Tensor]:
    """All tensors of a component's safetensors files, mapped from disk, not read."""
    if not place.is_dir():
        raise InputError(f"{place} is missing; the folder is not a complete model")
    files = sorted(place.glob("*.safetensors"))
    if not files:
        pickles = [p.name for p in place.iterdir() if p.suffix in _PICKLES]
        if pickles:
            raise InputError(f"{place / pickles[0]} is a pickle, which can run code; convert it to safetensors first")
        raise InputError(f"{place} holds no .safetensors file; the folder is not a complete model")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as handle:
                tensors.update({name: handle.get_tensor(name) for name in handle.keys()})
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} is damaged ({error}); fetch it again") from error
    return tensors


def _published_module(
    component: PublishedComponent, place: Path, tensors: dict[str, Tensor]
) -> tuple[nn.Module, dict[str, Tensor]]:
    names = [k for k in tensors if component.ignored_prefix is None or not k.startswith(component.ignored_prefix)]
    strangers = [k for k in names if not k.startswith(component.prefix)]
    if strangers:
        raise InputError(f"{place} has an unknown tensor {strangers[0]} ({len(strangers)} in all)")
    plain = {k.removeprefix(component.prefix): tensors[k] for k in names}
    shapes = {k: list(v.shape) for k, v in plain.items()}
    config = _read_json(place / "config.json") if (place / "config.json").exists() else {}
    try:
        arguments = component.arguments(shapes, config)
        renamed = component.from_published(plain)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{place} lacks the tensor {error}; fetch the model again") from error
    name = next(n for n, c in COMPONENTS.items() if c is component)
    return _empty(name, arguments), renamed


def _our_module(name: str, place: Path) -> nn.Module:
    config = _read_json(place / "config.json")
    arguments = {k: v for k, v in config.items() if not k.startswith("_")}
    return _empty(name, arguments)


def _empty(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A component without storage for its parameters; its computed buffers are real."""
    with init_empty_weights(include_buffers=False):
        if name == "text_encoder":
            return UMT5EncoderModel(UMT5Config(**arguments))
        if name == "image_encoder":
            return CLIPVisionModelWithProjection(CLIPVisionConfig(**arguments))
        return _CLASSES[name].from_config(arguments)


def _assign(module: nn.Module, tensors: dict[str, Tensor], place: Path, dtype: torch.dtype | None) -> nn.Module:
    """Puts `tensors` into `module`, each exactly once."""
    wanted = {k: v.shape for k, v in module.state_dict().items()}
    tied = set(getattr(module, "_tied_weights_keys", None) or ())
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
    exact = tuple(f"{name}." for name in getattr(module, "_keep_in_fp32_modules", None) or ())
    tensors = {k: _typed(v, torch.float32 if k.startswith(exact) else dtype) for k, v in tensors.items()}
    module.load_state_dict(tensors, strict=not tied, assign=True)
    if tied and hasattr(module, "tie_weights"):
        module.tie_weights()  # pyright: ignore[reportCallIssue]
    return module.eval().requires_grad_(False)


def _typed(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def _load_tokenizer(place: Path) -> Any:
    if not place.is_dir():
        raise InputError(f"{place} is missing; the folder is not a complete model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the tokenizer in {place} cannot be read: {str(error).splitlines()[0]}") from error
    for how in ("is_local", "local_files_only"):  # how it was read, which would be saved as its own
        tokenizer.init_kwargs.pop(how, None)
    return tokenizer


def _load_scheduler(place: Path) -> Any:
    config = _read_json(place / "scheduler_config.json")
    kind = _SCHEDULERS.get(config.get("_class_name", ""), FlowMatchEulerDiscreteScheduler)
    return kind.from_config({k: v for k, v in config.items() if not k.startswith("_")})
