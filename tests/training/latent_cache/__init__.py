"""What the tests of the latent cache share."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen3r.data.records import ClipSource
from gen3r.models.components import Components
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.latent_cache.encode import ENCODERS, ClipBatch, conditioning_frames, encode_clips
from gen3r.training.latent_cache.options import EncodeOptions
from gen3r.training.latent_cache.shards import HALVES, KINDS, model_hashes

LENGTH = 16
COUNT = 5
ALL = tuple(KINDS)


def hashes(pipe: Gen3RPipeline, kinds: tuple[str, ...] = HALVES, length: int = LENGTH) -> dict[str, str]:
    """The hashes of the models that make these kinds."""
    return model_hashes(kinds, Components(**pipe.components), length)


def encode(
    pipe: Gen3RPipeline,
    source: ClipSource,
    folder: Path,
    kinds: tuple[str, ...] = HALVES,
    command: str = "",
    **options: Any,
) -> dict[str, str]:
    """Encodes clips; returns the hashes of the models."""
    encode_clips(kinds, Components(**pipe.components), source, folder, LENGTH, EncodeOptions(**options), command)
    return hashes(pipe, kinds)


@torch.inference_mode()
def encoded(pipe: Gen3RPipeline, kinds: tuple[str, ...], clips: ClipSource, *numbers: int) -> list[dict[str, Tensor]]:
    """The rows of some clips, encoded together."""
    indices = [conditioning_frames(number, clips.shape[0], 2) for number in numbers]
    batch = ClipBatch([clips[number] for number in numbers], indices, LENGTH)
    rows: list[dict[str, Tensor]] = [{} for _ in numbers]
    for kind in kinds:
        for row, found in zip(rows, ENCODERS[kind](Components(**pipe.components), batch), strict=True):
            row |= {name: tensor.clone() for name, tensor in found.items()}
    return rows
