"""Files of LoRA adapters: safetensors, in the form of peft and diffusers."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders import WanLoraLoaderMixin
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from diffusers.utils import is_peft_available
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gen3r.errors import InputError
from gen3r.files import whole_file

SAMPLING = "gen3r_sampling"  # in the metadata of a distilled student's adapters


def check_peft() -> None:
    """Refuses to go on without peft.

    Raises:
        InputError: it is not installed.
    """
    if not is_peft_available():
        raise InputError("LoRA adapters need peft; pip install 'gen3r[lora]'")


def lora_file(path: str | Path) -> Path:
    """The file of adapters at `path`: itself, or the one of diffusers' usual name in a folder.

    Raises:
        InputError: there is none, it is no safetensors file, or it is damaged.
    """
    path = Path(path).expanduser()
    file = path / LORA_WEIGHT_NAME_SAFE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no LoRA at {file}; give a .safetensors file, or a folder with {LORA_WEIGHT_NAME_SAFE}")
    if file.suffix != ".safetensors":
        raise InputError(f"{file} is no .safetensors file; convert it to safetensors first")
    try:
        with safe_open(str(file), framework="pt") as handle:
            names = list(handle.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is damaged ({error}); fetch it again") from error
    if not any("lora" in name for name in names):
        raise InputError(f"{file} holds no LoRA; its first tensor is {names[0] if names else 'missing'}")
    return file


def write_lora(
    folder: Path, tensors: dict[str, nn.Module | Tensor], layers: Mapping[str, Any], sampling: Mapping[str, Any]
) -> None:
    """Writes adapters of a transformer into the file of diffusers' usual name in a folder.

    layers: peft's configuration. sampling: that of a distilled student, by `gen3r.models.presets.sampling_of`, or none.
    """
    with whole_file(folder / LORA_WEIGHT_NAME_SAFE) as partial:
        WanLoraLoaderMixin.save_lora_weights(
            partial.parent, tensors, weight_name=partial.name, transformer_lora_adapter_metadata={**layers}
        )
        if sampling:
            with safe_open(str(partial), framework="pt") as file:
                metadata = file.metadata() | {SAMPLING: json.dumps(dict(sampling))}
            save_file(load_file(partial), partial, metadata)


def lora_sampling(file: Path) -> dict[str, Any]:
    """How a distilled student samples, as `gen3r.models.presets.sampling_of`. Empty for other adapters.

    file: by `lora_file`.

    Raises:
        InputError: nothing can be sampled with these numbers.
    """
    with safe_open(str(file), framework="pt") as handle:
        text = (handle.metadata() or {}).get(SAMPLING)
    if text is None:
        return {}
    try:
        found = json.loads(text)
        steps, guidance, schedule = (found[x] for x in ("num_inference_steps", "guidance_scale", "schedule"))
        shift, last = schedule["shift"], schedule["shift_terminal"]
        if not (isinstance(steps, int) and steps >= 2 and math.isfinite(guidance) and 0 < shift < 1e3 and 0 < last < 1):
            raise ValueError
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} says wrongly how it samples ({text[:80]}); fetch it again") from error
    schedule = {"shift": float(shift), "shift_terminal": float(last)}
    return {"num_inference_steps": steps, "guidance_scale": float(guidance), "schedule": schedule}
