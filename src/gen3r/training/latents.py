"""The latent cache: what the diffusion stage needs of every clip, encoded once by the frozen models."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from gen3r.data.shards import ClipShards
from gen3r.errors import InputError
from gen3r.geometry.gauge import to_vggt_gauge
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.conditioning import control_latents
from gen3r.models.tokens import pack_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

SHARD_CLIPS = 64


@torch.inference_mode()
def encode_clips(vggt: VGGT, adapter: GeometryAdapter, vae: VideoVAE, clips: ClipShards, folder: Path, part: int, parts: int) -> None:
    """Encodes every `parts`-th shard of clips, from `part`; shards that exist are kept, so several may run at once."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(clips), SHARD_CLIPS)[part::parts]
    for start in tqdm(starts, desc="latents", unit="shard"):
        path = folder / f"latents-{start:06d}.safetensors"
        if path.exists():
            continue
        items = [_encode(vggt, adapter, vae, clips, n) for n in range(start, min(start + SHARD_CLIPS, len(clips)))]
        tensors = {k: torch.stack([item[k] for item, _ in items]) for k in items[0][0]}
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, {"captions": json.dumps([caption for _, caption in items])})
        partial.rename(path)


def _encode(vggt: VGGT, adapter: GeometryAdapter, vae: VideoVAE, clips: ClipShards, number: int) -> tuple[dict[str, Tensor], str]:
    """The posteriors of one clip, its control latents (every third clip: two views, else one), first frame and cameras.

    Cameras are in VGGT's gauge, which is what the geometry latents hold.
    """
    clip = clips[number]
    frames = clip.frames.permute(0, 3, 1, 2)[None].float() / 255
    height, width = frames.shape[-2:]
    patch = vggt.config.patch_size
    appearance = vae.encode_video((2 * frames - 1).transpose(1, 2))
    geometry = adapter.encode(pack_tokens(vggt.tokens(frames), (height // patch, width // patch)))
    given = torch.zeros(1, frames.shape[1], dtype=torch.bool)
    given[0, [0] if number % 3 else [0, -1]] = True
    _, poses, _ = to_vggt_gauge(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    return {
        "appearance": torch.cat([appearance.mean, appearance.logvar], 1)[0].half(),
        "geometry": torch.cat([geometry.mean, geometry.logvar], 1)[0].half(),
        "control": control_latents(vae, frames, given)[0].half(),
        "first_frame": clip.frames[0].permute(2, 0, 1).contiguous(),
        "T_world_camera": poses,
        "K_px": clip.cameras.K_px,
    }, clip.caption



class LatentShards:
    """The encoded clips of a folder, all in memory as float16 (about 0.2 MB a clip of 17 x 112 x 112)."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(Path(folder).glob("latents-*.safetensors"))
        if not paths:
            raise InputError(f"{folder} holds no latents; make them with: gen3r train latents")
        files = [safe_open(str(p), framework="pt") for p in paths]
        self.captions = [c for f in files for c in json.loads(f.metadata()["captions"])]
        self.tensors = {k: torch.cat([f.get_tensor(k) for f in files]) for k in files[0].keys()}

    def __len__(self) -> int:
        return len(self.captions)
