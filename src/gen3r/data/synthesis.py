"""Clips of the procedural world in shards: rendered by many processes, resumable."""

import json
import pickle
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from gen3r.data.photos import photos_in
from gen3r.data.shards import SHARD_CLIPS, ClipShards, open_shard, write_shard
from gen3r.data.synthetic import render_clip
from gen3r.data.synthetic.options import WorldOptions
from gen3r.data.workers import in_parallel
from gen3r.errors import InputError
from gen3r.files import exclusive_folder

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

    Clips that are there are kept. An interruption keeps those that are rendered.

    Raises:
        InputError: another process writes in the folder, or the disk has no room; a shard is damaged, or holds clips of
            another size, split, version of the world, options or first seed; there are no photos where `options` say.
    """
    options = options or WorldOptions()
    if options.textures:
        photos_in(options.textures)
    jobs = [
        _Job(
            folder / f"clips-{start:06d}.safetensors", seed,
            range(seed + start, seed + min(start + SHARD_CLIPS, count)), frames, size, split, options,
        )
        for start in range(0, count, SHARD_CLIPS)
    ]  # fmt: skip
    with exclusive_folder(folder):
        made = {job: _count(job) for job in jobs}
        left = [(job, seed) for job in jobs for seed in job.seeds[made[job] :]]
        _check_room(folder, len(left) * frames * size**2 * (7 if options.movers else 5))
        with (
            tqdm(total=count, initial=count - len(left), desc="clips", unit="clip") as bar,
            closing(in_parallel(_render, left, workers)) as rendered,
        ):
            for job in jobs:
                _fill(job, made[job], rendered, bar)


def _count(job: _Job) -> int:
    """The number of the job's clips that are there."""
    if not job.path.exists():
        return 0
    file = open_shard(job.path)
    clips, *shape = file.get_slice("frames").get_shape()
    if shape[:3] != [job.frames, job.size, job.size] or file.metadata().get("made") != job.made:
        raise InputError(
            f"{job.path} holds clips of another size, split, world or seed; choose another folder or remove it"
        )
    return min(clips, len(job.seeds))


def _check_room(folder: Path, bytes_needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if bytes_needed > free:
        raise InputError(
            f"the clips take {bytes_needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; make fewer or "
            "smaller ones, or choose another folder"
        )


def _fill(job: _Job, made: int, rendered: Iterator[bytes], bar: tqdm) -> None:
    """Writes a shard of the clips that were there and new ones; of those that there are so far, when interrupted."""
    there = ClipShards(job.path) if made else []
    clips = [there[n] for n in range(made)]
    try:
        for _ in job.seeds[made:]:
            clips.append(pickle.loads(next(rendered)))
            bar.update()
    finally:
        if len(clips) > made:
            write_shard(job.path, clips, job.made)


def _render(clip: tuple[_Job, int]) -> bytes:
    """A clip, packed: tensors themselves would go through shared memory, of which containers have little."""
    job, seed = clip
    return pickle.dumps(render_clip(seed, job.frames, job.size, job.size, job.split, job.options))
