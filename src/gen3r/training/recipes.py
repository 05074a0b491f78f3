"""What the stages are trained with: nano's own numbers, and the paper's for models of the published size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig

GPUS = 24  # of the published training; how many clips each had at a time it does not say, here it is one


@dataclass(frozen=True)
class Phase:
    """Steps of a stage that are trained in one way. arguments: of the stage's class, where not its own defaults."""

    config: TrainConfig
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """The phases of each stage, in order; `lora` is the diffusion stage where only adapters of low rank are trained."""

    stages: Mapping[str, tuple[Phase, ...]]

    def phases(self, stage: str, changes: Mapping[str, Any]) -> list[Phase]:
        """A stage's phases with fields of their configurations replaced; `steps` is where the last one ends.

        Raises:
            InputError: this preset does not train that stage.
        """
        if stage not in self.stages:
            raise InputError(f"this preset trains {', '.join(self.stages)}; {stage} is taken from the starting model")
        phases = self.stages[stage]
        steps = changes.get("steps", phases[-1].config.steps)
        begun = [phase for phase in phases if phase.config.first_step < steps]
        ends = [phase.config.steps for phase in begun[:-1]] + [steps]
        return [
            replace(phase, config=replace(phase.config, **{**changes, "steps": end}))
            for phase, end in zip(begun, ends, strict=True)
        ]


_ADAPTER = TrainConfig(
    steps=15_000, batch_size=GPUS * 25, micro_batches=GPUS, learning_rate=1e-5, optimizer="adamw", schedule="cosine",
    floor=0.2, warmup=0, weight_decay=1e-4, ema_decay=0.0, checkpoint_seconds=1800,
)  # fmt: skip
_DIFFUSION = TrainConfig(
    steps=20_000, batch_size=GPUS, micro_batches=GPUS, learning_rate=1e-5, optimizer="adamw", decay_fraction=0.0,
    warmup=0, weight_decay=3e-2, ema_decay=0.0, gradient_checkpointing=True, checkpoint_seconds=1800,
)  # fmt: skip
_DROPPED = {"drop_text": 0.2, "drop_cameras": 0.5, "all_views": 1 / 3, "no_views": 0.0}

PRESETS = {
    "nano": Preset({
        "autoencoder": (Phase(TrainConfig(
            steps=3450, batch_size=2, learning_rate=2e-3, weight_decay=0.0, ema_decay=0.998
        )),),
        "geometry": (Phase(TrainConfig(
            steps=4000, batch_size=34, learning_rate=2.5e-3, ema_decay=0.998, decay_fraction=0.5
        )),),
        "adapter": (Phase(TrainConfig(
            steps=1450, batch_size=40, learning_rate=6e-4, ema_decay=0.99, weight_decay=0.0, warmup=30
        ), {"depth_weight": 6.0, "baseline_weight": 2.0}),),
        "text": (Phase(TrainConfig(
            steps=2000, batch_size=64, learning_rate=2e-3, ema_decay=0.99, warmup=50, schedule="cosine"
        )),),
        "diffusion": (Phase(TrainConfig(
            steps=2000, batch_size=8, learning_rate=2e-3, ema_decay=0.995, warmup=50, decay_fraction=0.4
        ), {"stills": 0.5, "no_views": 0.3}),),
        "distill": (Phase(TrainConfig(
            steps=800, batch_size=8, learning_rate=2e-4, ema_decay=0.99, warmup=50, decay_fraction=0.5
        ), {"text_guidance": 3.0, "no_views": 0.3}),),
        "lora": (Phase(TrainConfig(
            steps=500, batch_size=8, learning_rate=1e-3, optimizer="adamw", weight_decay=0.0, ema_decay=0.99, warmup=20
        )),),
    }),
    "published": Preset({
        "adapter": (
            Phase(_ADAPTER, {"frames": (25,), "as_published": True}),
            Phase(
                replace(_ADAPTER, first_step=15_000, steps=21_000, batch_size=GPUS * 49),
                {"frames": (49,), "as_published": True},
            ),
        ),
        "diffusion": (Phase(_DIFFUSION, _DROPPED),),
        "lora": (Phase(replace(_DIFFUSION, steps=2000, learning_rate=1e-4, weight_decay=0.0), _DROPPED),),
    }),
}  # fmt: skip
