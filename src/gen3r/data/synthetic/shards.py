"""Clips of the procedural worlds in shards: rendered by many processes, resumable."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from gen3r.data.shards import SHARD_CLIPS, open_shard, write_shard
from gen3r.data.synthetic.clip import render_clip
from gen3r.data.synthetic.options import LargeOptions, WorldName
from gen3r.data.synthetic.skies import replace_sky
from gen3r.data.workers import in_parallel
from gen3r.errors import InputError


@dataclass(frozen=True)
class _Job:
    """The clips of one shard."""

    path: Path
    first: int
    seeds: range
    frames: int
    size: int
    split: str
    world: WorldName
    options: LargeOptions | None
    skies: float

    @property
    def made(self) -> str:
        """The settings that the clips are drawn with, for the shard's header."""
        options = asdict(self.options) if self.options else None
        made = {"split": self.split, "world": self.world, "options": options, "seed": self.first}
        return json.dumps(made | ({"skies": self.skies} if self.skies else {}))


def synthesize(
    folder: Path,
    count: int,
    split: str = "train",
    frames: int = 17,
    size: int = 112,
    workers: int = 2,
    world: WorldName = "small",
    options: LargeOptions | None = None,
    seed: int = 0,
    skies: float = 0.0,
) -> None:
    """Renders `count` clips of a split of a procedural world into `folder`, with the seeds from `seed` on.

    Whole shards of these clips are kept; a last one with fewer clips is rendered again. skies: the share of the clips
    whose sky, if they have one, is replaced (`replace_skies`); depth 0 must mean sky.

    Raises:
        InputError: a shard is damaged, or holds clips of another size, split, world, options, skies or first seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        _Job(
            folder / f"clips-{start:06d}.safetensors", seed,
            range(seed + start, seed + min(start + SHARD_CLIPS, count)), frames, size, split, world, options, skies,
        )
        for start in range(0, count, SHARD_CLIPS)
    ]  # fmt: skip
    jobs = [job for job in jobs if not _is_done(job)]
    with tqdm(total=count, desc="clips", unit="clip") as bar:
        bar.update(count - sum(len(job.seeds) for job in jobs))
        for written in in_parallel(_render_shard, jobs, workers):
            bar.update(written)


def _is_done(job: _Job) -> bool:
    """Whether the shard is there with all of its clips."""
    if not job.path.exists():
        return False
    file = open_shard(job.path)
    clips, *shape = file.get_slice("frames").get_shape()
    if shape[:3] != [job.frames, job.size, job.size] or file.metadata().get("made") != job.made:
        raise InputError(
            f"{job.path} holds clips of another size, split, world or seed, or with other skies; choose another folder "
            "or remove it"
        )
    return clips >= len(job.seeds)


def _render_shard(job: _Job) -> int:
    clips = [render_clip(seed, job.frames, job.size, job.size, job.split, job.world, job.options) for seed in job.seeds]
    if job.skies:
        clips = [replace_sky(clip, job.skies, seed) for clip, seed in zip(clips, job.seeds, strict=True)]
    write_shard(job.path, clips, job.made)
    return len(clips)
