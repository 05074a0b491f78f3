"""Stage `lora`: adapters of low rank for the transformer."""

from typing import TYPE_CHECKING

from gen3r.training.stages.adapters import add_adapters, write_adapters
from gen3r.training.stages.config import LoraConfig
from gen3r.training.stages.diffusion import DiffusionStage

if TYPE_CHECKING:
    from gen3r.training.run import Run


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
        self.freeze_encoders()
        add_adapters(self.transformer, self.config.rank)

    def finish(self, run: "Run") -> None:
        """Writes the averaged adapters beside the checkpoint, as diffusers' pipelines read them."""
        write_adapters(run.folder / self.name, self.transformer)
