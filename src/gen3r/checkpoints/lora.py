"""Files of LoRA adapters: safetensors, in the form of peft and diffusers."""

from pathlib import Path

from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from diffusers.utils import is_peft_available
from safetensors import SafetensorError, safe_open

from gen3r.errors import InputError


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
