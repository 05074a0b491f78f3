"""Stage `lora`: adapters of low rank beside the transformer's frozen weights (Hu et al. 2021), with peft's layers."""

from typing import TYPE_CHECKING

from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE

from gen3r.checkpoints.lora import check_peft
from gen3r.files import whole_file
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.checkpoint import CHECKPOINT, open_checkpoint
from gen3r.training.stages.config import LoraConfig
from gen3r.training.stages.diffusion import DiffusionStage

if TYPE_CHECKING:
    from gen3r.training.run import Run

# The products of every block: self-attention, cross-attention with text and image, feed-forward.
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "ffn.net.0.proj", "ffn.net.2")
_PREFIX = "ema/transformer."


class LoraStage(DiffusionStage):
    """The diffusion stage where only adapters of low rank are trained.

    Raises:
        InputError: peft is not installed.
    """

    name = "lora"
    trains = ()
    needs = (*DiffusionStage.needs, *DiffusionStage.trains)
    config: LoraConfig
    other_base = "adapts another transformer; remove it and start anew, or from the model that it was trained for"

    def choose_trained(self) -> None:
        """Adds adapters that change nothing yet, and selects them."""
        check_peft()
        from peft import LoraConfig as Layers

        for module in (self.transformer, self.text_encoder, self.image_encoder):
            if module is not None:
                module.requires_grad_(False)
        rank = self.config.rank
        self.transformer.add_adapter(Layers(r=rank, lora_alpha=rank, target_modules=list(ADAPTED)))

    def finish(self, run: "Run") -> None:
        """Writes the averaged adapters beside the checkpoint, as diffusers' pipelines read them."""
        folder = run.folder / self.name
        with open_checkpoint(folder / CHECKPOINT) as file:
            names = {name: name.removeprefix(_PREFIX).replace(".default.", ".") for name in file.keys()}
            tensors = {new: file.get_tensor(name) for name, new in names.items() if name.startswith(_PREFIX)}
        metadata = self.transformer.peft_config["default"].to_dict()
        with whole_file(folder / LORA_WEIGHT_NAME_SAFE) as partial:
            Gen3RPipeline.save_lora_weights(
                partial.parent, tensors, weight_name=partial.name, transformer_lora_adapter_metadata=metadata
            )
