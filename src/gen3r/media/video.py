"""Reading videos: upright frames, by number or one after another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.images import check_file, evenly_spaced

if TYPE_CHECKING:
    from av import VideoFrame

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def read_video(path: str | Path, frames: int | None = None) -> Tensor:
    """`frames` frames, evenly spaced over a video (None: all), upright, float32 [F, 3, H, W] in [0, 1].

    Raises:
        InputError: it is missing, damaged, or holds no frames.
    """
    path = Path(path)
    check_file(path, "video")
    count = count_frames(path)
    wanted = list(range(count)) if frames is None else evenly_spaced(count, frames)
    found = dict(zip(sorted(set(wanted)), decode_frames(path, sorted(set(wanted))), strict=True))
    return torch.stack([found[i] for i in wanted])


@contextmanager
def _video(path: Path) -> Iterator[Any]:
    """An open video, with the errors of FFmpeg turned into one line."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video frames; give a video")
            container.streams.video[0].thread_type = "AUTO"
            yield container
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path} cannot be read as a video ({error}); convert it to MP4") from error


def count_frames(path: Path) -> int:
    """The frames of a video, by its packets, without decoding them."""
    with _video(path) as container:
        count = sum(packet.size > 0 for packet in container.demux(video=0))
    if not count:
        raise InputError(f"{path} holds no images; give another video")
    return count


def read_size(path: Path) -> tuple[int, int, int]:
    """Frames, height and width of a video, without decoding it. Height and width are those before it is turned.

    Raises:
        InputError: it is missing or damaged.
    """
    with _video(path) as container:
        codec = container.streams.video[0].codec_context
        height, width = codec.height, codec.width
    return count_frames(path), height, width


def decode_frames(path: Path, wanted: Sequence[int]) -> Iterator[Tensor]:
    """The frames of these ascending numbers; where a stream ends early, its last frame stands for the rest."""
    left, last = list(wanted), None
    with _video(path) as container:
        for i, frame in enumerate(container.decode(video=0)):
            last = frame
            if i == left[0]:
                yield _frame_tensor(frame)
                left.pop(0)
            if not left:
                return
    if last is None:
        raise InputError(f"{path} holds no images; give another video")
    for _ in left:
        yield _frame_tensor(last)


def video_frames(path: Path) -> Iterator[Tensor]:
    """All frames of a video, one at a time: uint8 [H, W, 3].

    Raises:
        InputError: it is missing or damaged.
    """
    check_file(path, "video")
    with _video(path) as container:
        for frame in container.decode(video=0):
            yield torch.from_numpy(_frame_pixels(frame))


def _frame_tensor(frame: "VideoFrame") -> Tensor:
    return torch.from_numpy(_frame_pixels(frame)).permute(2, 0, 1).float() / 255


def _frame_pixels(frame: "VideoFrame") -> np.ndarray:
    """A decoded frame, turned as its recording says (telephones film upright images lying down)."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4).copy()
