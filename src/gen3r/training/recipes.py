"""Recipes: how each stage is trained, for nano and, with the paper's numbers, for models of the published size."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig
from gen3r.training.stages.config import (
    AdapterConfig,
    AutoencoderConfig,
    DiffusionConfig,
    DistillConfig,
    GeometryConfig,
    LoraConfig,
    StageConfig,
)

GPUS = 24  # of the published training; the paper does not state the clips per GPU, here it is one


@dataclass(frozen=True)
class Phase:
    """Successive steps of a stage that are trained in one way."""

    train: TrainConfig
    stage: StageConfig


Recipe = Mapping[str, tuple[Phase, ...]]  # stage -> its phases in order


def nano() -> Recipe:
    """The recipe of nano: every stage, on one machine."""
    return {
        "autoencoder": (Phase(
            TrainConfig(steps=3450, batch_size=2, learning_rate=2e-3, weight_decay=0.0, ema_decay=0.998),
            AutoencoderConfig(),
        ),),
        "geometry": (Phase(
            TrainConfig(steps=4000, batch_size=34, learning_rate=2.5e-3, ema_decay=0.998, decay_fraction=0.5),
            GeometryConfig(),
        ),),
        "adapter": (Phase(
            TrainConfig(steps=1450, batch_size=40, learning_rate=6e-4, ema_decay=0.99, weight_decay=0.0, warmup=30),
            AdapterConfig(depth_weight=6.0, translation_weight=2.0),
        ),),
        "text": (Phase(
            TrainConfig(
                steps=2000, batch_size=64, learning_rate=2e-3, ema_decay=0.99, warmup=50, schedule="cosine"
            ),
            StageConfig(),
        ),),
        "diffusion": (Phase(
            TrainConfig(
                steps=2000, batch_size=8, learning_rate=2e-3, ema_decay=0.995, warmup=50, decay_fraction=0.4
            ),
            DiffusionConfig(single_frame=0.5, no_views=0.3),
        ),),
        "distill": (Phase(
            TrainConfig(steps=800, batch_size=8, learning_rate=2e-4, ema_decay=0.99, warmup=50, decay_fraction=0.5),
            DistillConfig(text_guidance=3.0, no_views=0.3),
        ),),
        "lora": (Phase(
            TrainConfig(
                steps=500, batch_size=8, learning_rate=1e-3, optimizer="adamw", weight_decay=0.0, ema_decay=0.99,
                warmup=20,
            ),
            LoraConfig(),
        ),),
    }  # fmt: skip


def published() -> Recipe:
    """The paper's recipe, which starts from a model of the published size (Gen3R, sec. 4.1)."""
    adapter = TrainConfig(
        steps=15_000, batch_size=GPUS * 25, micro_batches=GPUS, learning_rate=1e-5, optimizer="adamw",
        schedule="cosine", floor=0.2, warmup=0, weight_decay=1e-4, ema_decay=0.0, checkpoint_seconds=1800,
    )  # fmt: skip
    longer = replace(adapter, first_step=15_000, steps=21_000, batch_size=GPUS * 49)
    diffusion = TrainConfig(
        steps=20_000, batch_size=GPUS, micro_batches=GPUS, learning_rate=1e-5, optimizer="adamw", decay_fraction=0.0,
        warmup=0, weight_decay=3e-2, ema_decay=0.0, gradient_checkpointing=True, checkpoint_seconds=1800,
    )  # fmt: skip
    lora = replace(diffusion, steps=2000, learning_rate=1e-4, weight_decay=0.0)
    student = replace(lora, ema_decay=0.99)
    shares: dict[str, Any] = {"drop_text": 0.2, "drop_cameras": 0.5, "all_views": 1 / 3, "no_views": 0.0}
    return {
        "adapter": (
            Phase(adapter, AdapterConfig(frames=(25,), as_published=True)),
            Phase(longer, AdapterConfig(frames=(49,), as_published=True)),
        ),
        "diffusion": (Phase(diffusion, DiffusionConfig(**shares)),),
        "distill": (Phase(student, DistillConfig(rank=64, **shares)),),
        "lora": (Phase(lora, LoraConfig(**shares)),),
    }


RECIPES = {"nano": nano, "published": published}


def phases(recipe: Recipe, stage: str, changes: Mapping[str, Any]) -> list[Phase]:
    """The phases of a stage with other values for fields of their configurations. `steps` is the end of the last one.

    Raises:
        InputError: the recipe does not train that stage.
        TypeError: a change is a field of neither configuration.
    """
    if stage not in recipe:
        raise InputError(f"this recipe trains {', '.join(recipe)}; {stage} is taken from the starting model")
    names = {field.name for field in fields(TrainConfig)}
    engine = {name: value for name, value in changes.items() if name in names}
    own = {name: value for name, value in changes.items() if name not in names}
    steps = changes.get("steps", recipe[stage][-1].train.steps)
    begun = [phase for phase in recipe[stage] if phase.train.first_step < steps]
    ends = [phase.train.steps for phase in begun[:-1]] + [steps]
    return [
        Phase(replace(phase.train, **{**engine, "steps": end}), replace(phase.stage, **own))
        for phase, end in zip(begun, ends, strict=True)
    ]
