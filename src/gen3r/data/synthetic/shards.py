"""Clips of the procedural world in shards: rendered by many processes, resumable."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from gen3r.data.photos import photos_in
from gen3r.data.shards import SHARD_CLIPS, open_shard, write_shard
from gen3r.data.synthetic.clip import render_clip
from gen3r.data.synthetic.options import WorldOptions
from gen3r.data.workers import in_parallel
from gen3r.errors import InputError

VERSION = 2  # of the world; the first had small and large ones


@dataclass(frozen=True)
class _Job:
    """The clips of one shard."""

    path: Path
    first: int
    seeds: range
    frames: int
    size: int
    split: str
    options: WorldOptions

    @property
    def made(self) -> str:
        """The settings that the clips are drawn with, for the shard's header."""
        return json.dumps(
            {"world": VERSION, "split": self.split, "options": asdict(self.options), "seed": self.first}, default=str
        )


def synthesize(
    folder: Path,
    count: int,
    split: str = "train",
    frames: int = 17,
    size: int = 112,
    workers: int = 2,
    options: WorldOptions | None = None,
    seed: int = 0,
) -> None:
    """Renders `count` clips of a split into `folder`, with the seeds from `seed` on.

    Whole shards of these clips are kept; a last one with fewer clips is rendered again.

    Raises:
        InputError: a shard is damaged, or holds clips of another size, split, version of the world, options or first
            seed; there are no photos where `options` say.
    """
    options = options or WorldOptions()
    if options.textures:
        photos_in(options.textures)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        _Job(
            folder / f"clips-{start:06d}.safetensors", seed,
            range(seed + start, seed + min(start + SHARD_CLIPS, count)), frames, size, split, options,
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
            f"{job.path} holds clips of another size, split, world or seed; choose another folder or remove it"
        )
    return clips >= len(job.seeds)


def _render_shard(job: _Job) -> int:
    clips = [render_clip(seed, job.frames, job.size, job.size, job.split, job.options) for seed in job.seeds]
    write_shard(job.path, clips, job.made)
    return len(clips)
