"""RealEstate10K and ACID: camera files whose frames everyone cuts from the videos themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gen3r.data.readers.base import (
    PictureFiles,
    Reader,
    as_pose,
    files_in,
    inverse,
    make_cameras,
    number_table,
    picture_size,
    text_lines,
)
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.media import VIDEO_SUFFIXES, read_video


class RealEstate10K(Reader):
    """RealEstate10K (Zhou et al., 2018).

    Tree: <split>/<clip>.txt, and beside it either <split>/<clip>/<timestamp>.png (or .jpg) or <split>/<clip>.mp4 with
    one frame a line. A line: time [us], fx fy cx cy as fractions of width and height, 0 0, world-to-camera 3 x 4 row
    by row, OpenCV axes; the first line is the video's URL. Unit: arbitrary, another one each clip. No depth.
    """

    name = "re10k"
    licence = "cameras CC BY 4.0 (Google); the frames are their uploaders'"
    layout = "<split>/<clip>.txt with a folder of frames or a video of the same name beside it"

    def find_scenes(self) -> Iterator[str]:
        """Camera files that have frames."""
        for path in self.root.glob("*/*.txt"):
            if path.with_suffix("").is_dir() or self._video(path):
                yield f"{path.parent.name}/{path.stem}"

    def read(self, scene: str) -> ClipRecord:
        path = self.root / f"{scene}.txt"
        has_url = len(text_lines(path)[0].split()) == 1 if path.stat().st_size else False
        rows = number_table(path, 19, skip_lines=int(has_url))
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        read_frame, (height, width) = self._frames(path, rows[:, 0])
        T = inverse(as_pose(rows[:, 7:]), path)
        cameras = make_cameras(T, rows[:, 1:5] * [width, height, width, height], (height, width))
        return ClipRecord(self.name, scene, cameras, read_frame)

    @staticmethod
    def _video(path: Path) -> Path | None:
        return next((v for s in VIDEO_SUFFIXES if (v := path.with_suffix(s)).is_file()), None)

    def _frames(self, path: Path, times: np.ndarray) -> tuple["PictureFiles | VideoFrames", tuple[int, int]]:
        if path.with_suffix("").is_dir():
            by_time = {int(p.stem): p for p in files_in(path.with_suffix("")) if p.stem.isdecimal()}
            lacking = [int(t) for t in times if int(t) not in by_time]
            if lacking:
                raise InputError(
                    f"{path.with_suffix('')} lacks {len(lacking)} of {len(times)} frames, such as {lacking[0]}; "
                    "cut them from the video"
                )
            paths = [by_time[int(t)] for t in times]
            return PictureFiles(paths), picture_size(paths[0])
        video = self._video(path)
        if video is None:
            raise InputError(f"{path.with_suffix('')} has neither frames nor a video; cut them from the video")
        frames = VideoFrames(video)
        if len(frames.pixels) != len(times):
            raise InputError(f"{video} has {len(frames.pixels)} frames, {path} has {len(times)} cameras; cut it again")
        return frames, (frames.pixels.shape[1], frames.pixels.shape[2])


class ACID(RealEstate10K):
    """Aerial Coastline Imagery Dataset (Liu et al., 2021): the same files as RealEstate10K, filmed by drones."""

    name = "acid"
    licence = "cameras as published by Google Research; the frames are their uploaders'"


@dataclass(frozen=True)
class VideoFrames:
    """The frames of a short video, decoded once."""

    path: Path

    @cached_property
    def pixels(self) -> torch.Tensor:
        """uint8 [F, H, W, 3]."""
        return (read_video(self.path) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def __call__(self, number: int) -> torch.Tensor:
        return self.pixels[number]
