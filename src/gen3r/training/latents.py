"""The latent cache: what the diffusion stage needs of every clip, encoded once by the frozen models.

Its two halves are independent, so that one can be made while the models of the other are still in training.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from gen3r.data.records import Clip
from gen3r.data.shards import SHARD_CLIPS, ClipShards
from gen3r.errors import InputError
from gen3r.geometry.gauge import to_vggt_gauge
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.conditioning import control_latents
from gen3r.models.precision import fast_products
from gen3r.models.tokens import packed_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

ClipEncoder = Callable[[Clip, int], dict[str, Tensor]]
HALVES = ("appearance", "geometry")


def appearance_encoder(vae: VideoVAE) -> ClipEncoder:
    """The appearance posterior, the control latents (every third clip: two views, else one), first frame and cameras.

    Cameras are in VGGT's gauge, which is what the geometry latents hold.
    """

    def encode(clip: Clip, number: int) -> dict[str, Tensor]:
        frames = clip.images[None].to(vae.device)
        given = torch.zeros(frames.shape[:2], dtype=torch.bool, device=vae.device)
        given[0, [0] if number % 3 else [0, -1]] = True
        with fast_products(vae.device):
            posterior = vae.encode_video((2 * frames - 1).transpose(1, 2))
            control = control_latents(vae, frames, given)
        _, poses, _ = to_vggt_gauge(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
        return {
            "appearance": torch.cat([posterior.mean, posterior.logvar], 1)[0].half(),
            "control": control[0].half(),
            "first_frame": clip.frames[0].permute(2, 0, 1).contiguous(),
            "T_world_camera": poses,
            "K_px": clip.cameras.K_px,
        }

    return encode


def geometry_encoder(vggt: VGGT, adapter: GeometryAdapter) -> ClipEncoder:
    """The geometry posterior of VGGT's tokens."""

    def encode(clip: Clip, number: int) -> dict[str, Tensor]:
        frames = clip.images[None].to(vggt.device)
        with fast_products(vggt.device):
            posterior = adapter.encode(packed_tokens(vggt, frames))
        return {"geometry": torch.cat([posterior.mean, posterior.logvar], 1)[0].half()}

    return encode


@torch.inference_mode()
def encode_clips(
    half: str,
    encode: ClipEncoder,
    clips: ClipShards,
    folder: Path,
    count: int | None = None,
    part: int = 0,
    parts: int = 1,
) -> None:
    """Encodes the first `count` clips, every `parts`-th shard from `part` on; shards that exist are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    total = len(clips) if count is None else min(count, len(clips))
    for start in tqdm(range(0, total, SHARD_CLIPS)[part::parts], desc=f"{half} latents", unit="shard"):
        path = folder / f"{half}-{start:06d}.safetensors"
        if path.exists():
            continue
        numbers = range(start, min(start + SHARD_CLIPS, total))
        records = [clips[n] for n in numbers]
        items = [encode(record, n) for record, n in zip(records, numbers, strict=True)]
        tensors = {k: torch.stack([item[k] for item in items]).cpu() for k in items[0]}
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, {"captions": json.dumps([r.caption for r in records])})
        partial.rename(path)


class LatentShards:
    """The encoded clips of a folder, all in memory, float16 (about 0.2 MB a clip of 17 x 112 x 112)."""

    def __init__(self, folder: Path) -> None:
        self.tensors: dict[str, Tensor] = {}
        for half in HALVES:
            paths = sorted(Path(folder).glob(f"{half}-*.safetensors"))
            if not paths:
                raise InputError(f"{folder} holds no latents; make them with: gen3r train {half}-latents")
            files = [safe_open(str(p), framework="pt") for p in paths]
            self.captions: list[str] = [c for f in files for c in json.loads(f.metadata()["captions"])]
            self.tensors |= {k: torch.cat([f.get_tensor(k) for f in files]) for k in files[0].keys()}
        counts = {len(v) for v in self.tensors.values()}
        if len(counts) > 1:
            raise InputError(f"the halves in {folder} hold {' and '.join(map(str, sorted(counts)))} clips; finish both")

    def __len__(self) -> int:
        return len(self.captions)
