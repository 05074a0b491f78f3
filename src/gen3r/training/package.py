"""The package of a run: a model folder for `Gen3RPipeline.from_pretrained`."""

from pathlib import Path
from typing import Any

import torch

from gen3r.checkpoints.load import load_components, save_components
from gen3r.models.components import MODULES, Components
from gen3r.models.presets import build_scheduler, distilled
from gen3r.training import weights
from gen3r.training.engine.checkpoint import CHECKPOINT, checkpoint_settings, load_average
from gen3r.training.run import Run
from gen3r.training.stages.adapters import add_adapters
from gen3r.training.stages.distill import DistillStage


def package(run: Run, target: Path, teacher: bool = False, max_shard_size: str = "5GB") -> None:
    """Writes a pipeline folder: averaged weights of the run's stages in bfloat16, other components as they are.

    The transformer is the distilled one, if there is one and `teacher` is False; scheduler and defaults follow.

    Raises:
        InputError: a stage is missing, or the distilled transformer was made from an older one.
    """
    trained = [name for name in MODULES if run.start is None or weights.is_trained(run.folder, name)]
    components, sampler = run.components((*trained, "tokenizer")), run.sampler
    if run.start:
        for name, module in load_components(run.start, only={*MODULES} - {*trained}).modules().items():
            setattr(components, name, module)
    if not teacher and (run.folder / "distill" / CHECKPOINT).exists():
        DistillStage.check_base(run, components.transformer)
        load_student(run.folder / "distill", components.transformer)
        student = distilled(run.model)
        sampler = Components(scheduler=build_scheduler(student), defaults=student.defaults)
    for name in trained:
        getattr(components, name).to(torch.bfloat16)
    components.scheduler, components.defaults = sampler.scheduler, sampler.defaults
    save_components(components, target, max_shard_size)


def load_student(folder: Path, transformer: Any) -> None:
    """Gives the teacher's transformer the averaged weights of the stage `distill`; its adapters are folded in."""
    rank = checkpoint_settings(folder).get("rank")
    if not rank:
        load_average(folder, transformer, "transformer.")
        return
    dtype = transformer.dtype
    transformer.float()
    add_adapters(transformer, rank)
    load_average(folder, transformer, "transformer.")
    transformer.fuse_lora()
    transformer.unload_lora()
    transformer.to(dtype=dtype)
