"""Training and measuring of variants: from the same frozen models, on the same clips, for as many steps.

The folder of an ablation holds settings.json, train/ (clips), latents/ (what variants share), and for every variant and
seed a result, NAME-SEED.json, or the folder NAME-SEED/ of a run that has not come to its end.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gen3r.ablation.variants import DIFFUSION, VARIANTS, Variant
from gen3r.checkpoints.identity import component_hash
from gen3r.data.records import Clip
from gen3r.data.synthetic import synthesize
from gen3r.errors import InputError
from gen3r.evaluation.protocol import evaluate, held_out_clips
from gen3r.files import link, whole_file
from gen3r.training.engine.logs import read_metrics
from gen3r.training.latent_cache.shards import shards_of
from gen3r.training.run import ALL, STATISTICS_CLIPS, Run

BATCH = {"adapter": 20, "diffusion": 4}  # frames and clips of a step
MEASURED = {"adapter": "geometry", "diffusion": "generation"}  # parts of the evaluation
TRAINED = {"adapter": "geo_adapter", "diffusion": "transformer"}
PLAIN = {"unseen_frames": "black"}  # as published; denoiser-renders is as nano
LINES = 24  # of a curve
FROZEN = ("vae", "vggt", "geo_adapter")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a variant and seed.

    parameters, seconds: trained and spent in training, by stage. curves: what was reported on the way, by stage.
    """

    variant: str
    seed: int
    parameters: dict[str, int]
    seconds: dict[str, float]
    scores: dict[str, float]
    curves: dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class Ablation:
    """An ablation's folder, the model whose frozen parts all variants share, and the scale of every run."""

    folder: Path
    start: str | Path = "nano"
    steps: int = 120
    clips: int = 64
    scenes: int = 12

    def run(self, runs: Iterable[tuple[str, int]], done: Callable[[], object]) -> None:
        """Brings variants and seeds to their end, those without a result; `done` is called after each.

        Raises:
            InputError: the folder's results were made with other settings.
        """
        self._check_settings()
        left = [(name, seed) for name, seed in runs if not self.path(name, seed).exists()]
        if not left:
            return
        self._prepare([VARIANTS[name] for name, _ in left])
        with tqdm(left, desc="ablation", unit="run") as bar:
            for name, seed in bar:
                bar.set_postfix_str(f"{name}-{seed}")
                self._finish(name, seed)
                done()

    def path(self, name: str, seed: int) -> Path:
        """Where a result is, or will be."""
        return self.folder / f"{name}-{seed}.json"

    def seconds(self, name: str) -> float:
        """About how long a run of a variant of nano takes, on one core with bfloat16 units."""
        stages = VARIANTS[name].stages
        total = 1.5 * self.scenes
        if "adapter" in stages:
            total += 0.07 * BATCH["adapter"] * self.steps
        if "diffusion" in stages:
            total += 0.3 * BATCH["diffusion"] * self.steps + self.scenes
        if len(stages) == 2:
            total += 0.37 * (self.clips + min(self.clips, STATISTICS_CLIPS))  # geometry latents, and their spread
        return total

    def _check_settings(self) -> None:
        """Writes what all results of the folder have in common, or refuses another of it."""
        parts = self._shared.components(FROZEN, FROZEN)
        models = {name: component_hash(parts[name]) for name in FROZEN}
        now = {"steps": self.steps, "clips": self.clips, "scenes": self.scenes, "models": models}
        path = self.folder / "settings.json"
        if not path.exists():
            with whole_file(path) as partial:
                partial.write_text(json.dumps({"start": str(self.start), **now}, indent=1))
        for name, value in json.loads(path.read_text()).items():
            if now.get(name, value) != value:
                other = "the weights of another model" if name == "models" else f"--{name} {value}"
                raise InputError(f"{self.folder} was begun with {other}; go on with that, or choose another --folder")

    def _prepare(self, variants: list[Variant]) -> None:
        """Makes the clips, and the latents that runs share."""
        model = self._shared.model
        synthesize(self.folder / "train", self.clips, frames=model.num_frames, size=model.height, workers=1)
        kinds = [
            ("appearance", any("diffusion" in v.stages for v in variants)),
            ("geometry", any(v.stages == DIFFUSION for v in variants)),
            ("warped", any("unseen_frames" in v.transformer for v in variants)),
        ]
        for kind, needed in kinds:
            if needed:
                self._shared.encode_latents(kind, self.clips)

    def _finish(self, name: str, seed: int) -> None:
        """Trains and measures a variant, and leaves nothing but its result."""
        variant, run = VARIANTS[name], self._open(name, seed)
        for stage in variant.stages:
            if stage == "diffusion" and variant.stages != DIFFUSION:
                self._encode_own(run)
            arguments: dict[str, Any] = {"kl": variant.kl} if stage == "adapter" else {}
            run.train(stage, self._changes(stage, seed), **arguments)
        parts = run.components(ALL)
        pipe = run.pipeline(parts, replace(run.model, geometry_from="latents"))  # what is denoised is what is measured
        scores = evaluate(pipe, self._held_out, [MEASURED[s] for s in variant.stages])
        curves = {stage: read_metrics(run.folder / stage) for stage in variant.stages}
        result = Result(
            variant=name,
            seed=seed,
            parameters={s: sum(p.numel() for p in parts[TRAINED[s]].parameters()) for s in variant.stages},
            seconds={stage: _seconds(lines, self.steps) for stage, lines in curves.items()},
            scores={name: found.value for name, found in scores.items()},
            curves=curves,
        )
        with whole_file(self.path(name, seed)) as partial:
            partial.write_text(json.dumps(asdict(result), indent=1))
        shutil.rmtree(run.folder)

    def _open(self, name: str, seed: int) -> Run:
        """The folder of a variant and seed, with the clips and latents that it shares."""
        variant, folder = VARIANTS[name], self.folder / f"{name}-{seed}"
        folder.mkdir(exist_ok=True)
        for shared in ("train", "latents") if variant.stages == DIFFUSION else ("train",):
            link(folder / shared, self.folder / shared)
        transformer = {**PLAIN, **variant.transformer}
        return Run(folder, self.start, anew={"geo_adapter": variant.geo_adapter, "transformer": transformer})

    def _encode_own(self, run: Run) -> None:
        """The latents of a run's own adapter, beside the shared ones of appearance."""
        (run.folder / "latents").mkdir(exist_ok=True)
        for path in shards_of(self.folder / "latents", "appearance").values():
            link(run.folder / "latents" / path.name, path)
        run.encode_latents("geometry", self.clips)

    def _changes(self, stage: str, seed: int) -> dict[str, Any]:
        """What differs from nano's own recipe."""
        return {
            "steps": self.steps, "batch_size": BATCH[stage], "seed": seed, "warmup": self.steps // 10,
            "log_every": max(1, self.steps // LINES),
        }  # fmt: skip

    @cached_property
    def _shared(self) -> Run:
        return Run(self.folder, self.start)

    @cached_property
    def _held_out(self) -> list[Clip]:
        model = self._shared.model
        return list(held_out_clips(self.scenes, model.num_frames, model.height, model.width))


def _seconds(lines: list[dict[str, float]], steps: int) -> float:
    """The time of all steps, from lines whose clock starts anew whenever the run goes on, and that end before it."""
    clock = [line["seconds"] for line in lines]
    spent = sum(now for now, after in zip(clock, [*clock[1:], 0.0], strict=True) if after < now)
    return spent * steps / (lines[-1]["step"] + 1)
