"""Clips in safetensors shards: written by many processes, resumable, read without loading a whole shard."""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.errors import InputError

SHARD_CLIPS = 64


def synthesize(
    folder: Path, count: int, split: str = "train", frames: int = 17, size: int = 112, workers: int = 2
) -> None:
    """Renders clips 0..count-1 of a split of the procedural world into `folder`; shards that exist are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = [s for s in range(0, count, SHARD_CLIPS) if not _shard(folder, s).exists()]
    jobs = [(folder, s, min(SHARD_CLIPS, count - s), split, frames, size) for s in starts]
    with ProcessPoolExecutor(workers) as pool, tqdm(total=count, desc="clips", unit="clip") as bar:
        bar.update(count - sum(job[2] for job in jobs))
        for written in pool.map(_render_shard, jobs):
            bar.update(written)


def _shard(folder: Path, start: int) -> Path:
    return folder / f"clips-{start:06d}.safetensors"


def _render_shard(job: tuple[Path, int, int, str, int, int]) -> int:
    from gen3r.data.synthetic import render_clip

    folder, start, count, split, frames, size = job
    clips = [render_clip(seed, frames, size, size, split) for seed in range(start, start + count)]
    tensors = {
        "frames": torch.stack([c.frames for c in clips]),
        "depth": torch.stack([c.depth for c in clips]).half(),
        "T_world_camera": torch.stack([c.cameras.T_world_camera for c in clips]),
        "K_px": torch.stack([c.cameras.K_px for c in clips]),
    }
    path = _shard(folder, start)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"captions": json.dumps([c.caption for c in clips])})
    partial.rename(path)
    return count


class ClipShards:
    """The clips of a folder of shards, by number."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(Path(folder).glob("clips-*.safetensors"))
        if not paths:
            raise InputError(f"{folder} holds no clips; make some with: gen3r data synthesize 4096 {folder}")
        self._files = [safe_open(str(p), framework="pt") for p in paths]
        self._captions = [json.loads(f.metadata()["captions"]) for f in self._files]
        self._index = [(i, j) for i, captions in enumerate(self._captions) for j in range(len(captions))]

    @property
    def captions(self) -> list[str]:
        """The captions of all clips, in order."""
        return [caption for captions in self._captions for caption in captions]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        frames, height, width = self._files[0].get_slice("frames").get_shape()[1:4]
        return frames, height, width

    def fingerprint(self, numbers: range) -> str:
        """What these clips are: a hash of their captions and cameras and of a row of pixels each, most left unread."""
        digest = hashlib.sha256()
        for number in numbers:
            i, j = self._index[number]
            frames, T, K = (self._files[i].get_slice(k) for k in ("frames", "T_world_camera", "K_px"))
            shape = frames.get_shape()[1:4]
            digest.update(json.dumps([self._captions[i][j], shape]).encode())
            for part in (frames[j, 0, shape[1] // 2], T[j], K[j]):
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> Clip:
        i, j = self._index[number]
        item = {k: self._files[i].get_slice(k)[j] for k in ("frames", "depth", "T_world_camera", "K_px")}
        height, width = item["frames"].shape[1:3]
        cameras = Cameras(item["T_world_camera"], item["K_px"], height, width)
        return Clip(item["frames"], item["depth"].float(), cameras, self._captions[i][j])
