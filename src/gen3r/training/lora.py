"""LoRA (Hu et al. 2021): adapters of low rank beside the transformer's frozen weights, with peft's layers."""

from pathlib import Path

from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE

from gen3r.checkpoints.lora import check_peft
from gen3r.files import whole_file
from gen3r.models.transformer import Gen3RTransformer
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.checkpoint import CHECKPOINT, open_checkpoint

# The products of every block: self-attention, cross-attention with text and image, feed-forward.
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "ffn.net.0.proj", "ffn.net.2")
_PREFIX = "ema/transformer."


def add_adapters(transformer: Gen3RTransformer, rank: int) -> None:
    """Adapters that change nothing yet; they alone require gradients.

    Raises:
        InputError: peft is not installed.
    """
    check_peft()
    from peft import LoraConfig

    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ADAPTED)))


def save_adapters(folder: Path, transformer: Gen3RTransformer) -> Path:
    """Writes the averaged adapters of the checkpoint in `folder`, beside it, as diffusers' pipelines read them."""
    with open_checkpoint(folder / CHECKPOINT) as file:
        names = {name: name.removeprefix(_PREFIX).replace(".default.", ".") for name in file.keys()}
        tensors = {new: file.get_tensor(name) for name, new in names.items() if name.startswith(_PREFIX)}
    path = folder / LORA_WEIGHT_NAME_SAFE
    with whole_file(path) as partial:
        Gen3RPipeline.save_lora_weights(
            partial.parent,
            tensors,
            weight_name=partial.name,
            transformer_lora_adapter_metadata=transformer.peft_config["default"].to_dict(),
        )
    return path
