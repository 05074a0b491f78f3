"""Trains and evaluates variants from the same frozen models, on the same clips, with the same number of steps.

train/            clips
latents/          the latent cache that variants share
settings.json     what all results have in common
NAME-SEED.json    the result of a variant and a seed
NAME-SEED/        the run of a variant and a seed, until it has a result
"""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.ablations.variants import BOTH, DIFFUSION, VARIANTS, Variant
from gen3r.checkpoints.identity import component_hash
from gen3r.data.records import Clip
from gen3r.data.synthesis import synthesize
from gen3r.errors import InputError
from gen3r.evaluation.protocol import evaluate, held_out_clips
from gen3r.files import link, write_text
from gen3r.models.components import MODULES, Components
from gen3r.models.presets import ModelConfig
from gen3r.options import option
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.logs import read_metrics
from gen3r.training.latent_cache.options import EncodeOptions
from gen3r.training.latent_cache.shards import shards_of
from gen3r.training.run import Run
from gen3r.training.stages.stage import Stage

BATCH = {"adapter": 20, "diffusion": 4}  # frames and clips per step
EVALUATED = {"adapter": "geometry", "diffusion": "generation"}  # parts of the evaluation
TRAINED = {"adapter": "geo_adapter", "diffusion": "transformer"}
FROZEN = ("vae", "vggt", "geo_adapter")
LINES = 24  # of a curve


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a variant and a seed.

    parameters, seconds: number of trained parameters, and time of training, by stage. curves: the lines of
    metrics.jsonl, by stage.
    """

    variant: str
    seed: int
    parameters: dict[str, int]
    seconds: dict[str, float]
    scores: dict[str, float]
    curves: dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class VariantRun(Run):
    """A run that trains a variant. steps: of each stage."""

    variant: Variant = field(kw_only=True)
    steps: int = field(kw_only=True)

    def stage_class(self, name: str) -> type[Stage]:
        """As `Run.stage_class`."""
        return self.variant.stages.get(name) or super().stage_class(name)

    def pipeline(self, components: Components, config: ModelConfig) -> Gen3RPipeline:
        """As `Run.pipeline`."""
        plain = super().pipeline(components, config)
        pipe = self.variant.pipeline(**plain.components, defaults=plain.defaults)
        pipe.mixed_precision = plain.mixed_precision
        pipe.set_progress_bar_config(disable=True)
        return pipe


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A folder of results, and the settings that they have in common."""

    out: Path = option(
        Path("runs/ablations"), "folder for clips, latents, results and report (default: runs/ablations)"
    )
    start: str = option("nano", "model whose VGGT, autoencoder and adapter are frozen (default: nano)", metavar="MODEL")
    steps: int = option(120, "steps of each stage (default: 120)", positive=True)
    clips: int = option(64, "training clips (default: 64)", positive=True)
    scenes: int = option(12, "held-out scenes (default: 12)", positive=True)

    def run(self, runs: Iterable[tuple[str, int]], done: Callable[[], object]) -> None:
        """Trains and evaluates variants and seeds that have no result. `done` is called after each.

        Raises:
            InputError: the folder has results with other settings.
        """
        self._check_settings()
        left = [(name, seed) for name, seed in runs if not self.path(name, seed).exists()]
        if not left:
            return
        self.prepare([VARIANTS[name] for name, _ in left])
        with tqdm(left, desc="ablations", unit="run") as bar:
            for name, seed in bar:
                bar.set_postfix_str(f"{name}-{seed}")
                self._finish(name, seed)
                done()

    def path(self, name: str, seed: int) -> Path:
        """The file of a result."""
        return self.out / f"{name}-{seed}.json"

    def estimate(self, name: str) -> float:
        """Roughly the seconds that a run of nano's variant takes on one core with bfloat16 units."""
        trains = VARIANTS[name].trains
        adapter = 0.07 * BATCH["adapter"] * self.steps if "adapter" in trains else 0.0
        diffusion = 0.3 * BATCH["diffusion"] * self.steps + self.scenes if "diffusion" in trains else 0.0
        latents = 0.37 * (self.clips + min(self.clips, 48)) if trains == BOTH else 0.0
        return 1.5 * self.scenes + adapter + diffusion + latents

    def _check_settings(self) -> None:
        """Writes the settings that all results share, or refuses to mix results."""
        components = self._shared.components(FROZEN)
        models = {name: component_hash(getattr(components, name)) for name in FROZEN}
        now = {"steps": self.steps, "clips": self.clips, "scenes": self.scenes, "models": models}
        path = self.out / "settings.json"
        if not path.exists():
            write_text(json.dumps({"start": str(self.start), **now}, indent=1), path)
        for name, value in json.loads(path.read_text()).items():
            if now.get(name, value) != value:
                other = "the weights of another model" if name == "models" else f"--{name} {value}"
                raise InputError(f"{self.out} was begun with {other}; go on with that, or choose another --out")

    def prepare(self, variants: list[Variant]) -> None:
        """Renders the clips, and fills the latent cache that the variants share."""
        model = self._shared.model
        synthesize(self.out / "train", self.clips, frames=model.num_frames, size=model.height, workers=1)
        kinds = ["appearance"] if any("diffusion" in v.trains for v in variants) else []
        kinds += ["geometry"] if any(v.trains == DIFFUSION for v in variants) else []
        if kinds := [*dict.fromkeys([*kinds, *(kind for v in variants for kind in v.latents)])]:
            self._shared.encode_latents(EncodeOptions(clips=self.clips), kinds=kinds)

    def _finish(self, name: str, seed: int) -> None:
        """Trains and evaluates a variant, and leaves nothing but its result."""
        variant, run = VARIANTS[name], self._open(name, seed)
        for stage in variant.trains:
            if stage == "diffusion" and variant.trains == BOTH:
                self._encode_own(run)
            run.train(stage, self._changes(stage, seed))
        components = run.components((*MODULES, "tokenizer"))
        pipe = run.pipeline(components, replace(run.model, geometry_from=variant.geometry_from)).to(run.device)
        scores = evaluate(pipe, self._held_out, [EVALUATED[stage] for stage in variant.trains])
        curves = {stage: read_metrics(run.folder / stage) for stage in variant.trains}
        sizes = {s: sum(p.numel() for p in getattr(components, TRAINED[s]).parameters()) for s in variant.trains}
        result = Result(
            variant=name,
            seed=seed,
            parameters=sizes,
            seconds={stage: training_seconds(lines, self.steps) for stage, lines in curves.items()},
            scores={name: mean.value for name, mean in scores.items()},
            curves=curves,
        )
        write_text(json.dumps(asdict(result), indent=1), self.path(name, seed))
        shutil.rmtree(run.folder)

    def _open(self, name: str, seed: int) -> VariantRun:
        """The run of a variant and a seed, with the clips and latents that it shares."""
        variant, folder = VARIANTS[name], self.out / f"{name}-{seed}"
        folder.mkdir(exist_ok=True)
        for shared in ("train", "latents") if variant.trains == DIFFUSION else ("train",):
            link(folder / shared, self.out / shared)
        return VariantRun(folder, self.start, remake=variant.remake, variant=variant, steps=self.steps)

    def _encode_own(self, run: VariantRun) -> None:
        """The geometry latents of a run's own adapter, beside the shared latents of appearance."""
        run.latents_folder().mkdir(exist_ok=True)
        for path in shards_of(self.out / "latents", "appearance").values():
            link(run.latents_folder() / path.name, path)
        run.encode_latents(EncodeOptions(clips=self.clips), kinds=["geometry"])

    def _changes(self, stage: str, seed: int) -> dict[str, Any]:
        """Values in place of those of nano's recipe."""
        return {
            "steps": self.steps, "batch_size": BATCH[stage], "seed": seed, "warmup": self.steps // 10,
            "log_every": max(1, self.steps // LINES),
        }  # fmt: skip

    @cached_property
    def _shared(self) -> Run:
        return Run(self.out, self.start)

    @cached_property
    def _held_out(self) -> list[Clip]:
        model = self._shared.model
        return list(held_out_clips(self.scenes, model.num_frames, model.height, model.width))


def training_seconds(lines: list[dict[str, float]], steps: int) -> float:
    """The time of all steps. Every launch starts the clock at 0, and the last step may have no line."""
    clock = [line["seconds"] for line in lines]
    spent = sum(now for now, after in zip(clock, [*clock[1:], 0.0], strict=True) if after < now)
    return spent * steps / (lines[-1]["step"] + 1)
