"""Channel statistics that a run measures once, for the weights of the models that make the channels."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gen3r.checkpoints.identity import component_hash
from gen3r.data.records import ClipSource
from gen3r.files import write_text
from gen3r.models.tokens import packed_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

LATENT_CLIPS = 48
TOKEN_CLIPS = 16
Statistics = dict[str, list[float]]


def measured_once(path: Path, models: Sequence[Any], measure: Callable[[], Statistics]) -> Statistics:
    """The statistics in a file, which are measured first if the file is about other weights of these models."""
    hashes = [component_hash(model) for model in models]
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("weights") != hashes:
        known = {"weights": hashes, **measure()}
        write_text(json.dumps(known, indent=1), path)
    return {key: value for key, value in known.items() if key != "weights"}


@torch.inference_mode()
def latent_statistics(clips: ClipSource, device: torch.device, model: Any, vggt: Any = None) -> Statistics:
    """Mean and standard deviation of every channel of latents, over the first clips.

    model: the autoencoder, or the adapter on the tokens of `vggt`.
    """
    latents = []
    for part in (model, vggt):
        if part is not None:
            part.to(device)
    for number in range(min(LATENT_CLIPS, len(clips))):
        frames = clips[number].images[None].to(device)
        if isinstance(model, VideoVAE):
            latents.append(model.encode_video((2 * frames - 1).transpose(1, 2)).mean)
        else:
            assert vggt is not None
            latents.append(model.encode(packed_tokens(vggt, frames)).mean)
    cast(nn.Module, model).to("cpu")
    stacked = torch.cat(latents).transpose(0, 1).flatten(1)
    return {"latents_mean": stacked.mean(1).tolist(), "latents_std": stacked.std(1).tolist()}


@torch.no_grad()
def sample_tokens(vggt: VGGT, clips: ClipSource) -> Tensor:
    """Packed tokens [C, N] of the first clips, on the CPU."""
    samples = (clips[n].images[None].to(vggt.device) for n in range(min(TOKEN_CLIPS, len(clips))))
    return torch.cat([packed_tokens(vggt, images)[0].flatten(1).cpu() for images in samples], dim=1)


def channel_statistics(values: Tensor) -> Statistics:
    """Mean and standard deviation of every channel of values [C, N]."""
    return {"mean": values.mean(1).tolist(), "std": values.std(1).clamp_min(1e-3).tolist()}
