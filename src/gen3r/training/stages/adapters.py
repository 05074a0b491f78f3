"""Adapters of low rank beside a transformer's frozen weights (Hu et al. 2021), with peft's layers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gen3r.checkpoints.lora import check_peft, write_lora
from gen3r.models.transformer import Gen3RTransformer
from gen3r.training.engine.checkpoint import CHECKPOINT, open_checkpoint

# The products of every block: self-attention, cross-attention with text and image, feed-forward.
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "ffn.net.0.proj", "ffn.net.2")
_PREFIX = "ema/transformer."


def add_adapters(transformer: Gen3RTransformer, rank: int) -> None:
    """Adds adapters that change nothing yet; they alone require gradients.

    Raises:
        InputError: peft is not installed.
    """
    check_peft()
    from peft import LoraConfig as Layers

    transformer.requires_grad_(False)
    transformer.add_adapter(Layers(r=rank, lora_alpha=rank, target_modules=list(ADAPTED)))


def write_adapters(folder: Path, transformer: Gen3RTransformer, sampling: Mapping[str, Any] | None = None) -> None:
    """Writes the averaged adapters of a stage's checkpoint beside it, as diffusers' pipelines read them.

    sampling: as in `write_lora`.
    """
    with open_checkpoint(folder / CHECKPOINT) as file:
        averages = (name for name in file.keys() if name.startswith(_PREFIX))
        tensors: dict[str, Any] = {
            name.removeprefix(_PREFIX).replace(".default.", "."): file.get_tensor(name) for name in averages
        }
    write_lora(folder, tensors, transformer.peft_config["default"].to_dict(), sampling or {})
