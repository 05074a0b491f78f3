"""What the readers share: the interface, tables of numbers, pictures, depth maps, lens distortion."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from gen3r.cameras.camera import Cameras
from gen3r.data.captions import read_captions
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.geometry.clouds import PointCloud
from gen3r.media.video import video_frames


class Reader(ABC):
    """A dataset as it is downloaded: a sequence of scenes, each read when it is asked for.

    A file that is needed to list the scenes and is damaged is left out, with a warning that counts; `strict` stops.

    Raises:
        InputError: on creation, there is no such folder; on listing, no scene under it; on reading a scene, a file of
            it is missing or damaged.
    """

    name: ClassVar[str]
    licence: ClassVar[str]
    layout: ClassVar[str]  # where a scene lies, for the error

    def __init__(self, root: str | Path, strict: bool = False) -> None:
        self.root, self.strict = Path(root), strict
        self.problems: list[str] = []  # what kept scenes from being listed
        self.cached: dict[str, Any] = {}  # for readers to keep what many scenes share
        if not self.root.is_dir():
            raise InputError(f"no folder at {self.root}")

    @cached_property
    def scenes(self) -> list[str]:
        """The scenes' names in order."""
        self.problems.clear()
        names = sorted(self.find_scenes())
        if self.problems:
            warnings.warn(f"{self.name}: {len(self.problems)} files skipped; {self.problems[-1]}", stacklevel=2)
        if not names:
            raise InputError(f"{self.root} holds no {self.name} scene; expected {self.layout}")
        return names

    def __getstate__(self) -> dict[str, Any]:
        """Without what may be long, for the processes that read single scenes."""
        return {k: v for k, v in self.__dict__.items() if k not in ("scenes", "cached", "written_captions")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in {**state, "cached": {}}.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, number: int) -> ClipRecord:
        return self.read(self.scenes[number])

    @contextmanager
    def tolerant(self) -> Iterator[None]:
        """For `find_scenes`: notes a damaged file instead of stopping, unless strict."""
        try:
            yield
        except InputError as error:
            if self.strict:
                raise
            self.problems.append(str(error))

    @abstractmethod
    def find_scenes(self) -> Iterator[str]:
        """The names of the scenes under `root`, in any order, without opening their pictures."""

    @abstractmethod
    def read_scene(self, scene: str) -> ClipRecord:
        """One scene as the dataset holds it."""

    def read(self, scene: str) -> ClipRecord:
        """One scene; after its own captions those that a model wrote (`gen3r data caption`)."""
        record = self.read_scene(scene)
        return replace(record, captions=(*record.captions, *self.written_captions.get(scene, ())))

    @cached_property
    def written_captions(self) -> dict[str, tuple[str, ...]]:
        """What models wrote about the scenes, as it was when the first scene was read."""
        return read_captions(self.root)

    def recognises(self) -> bool:
        """Whether the scenes are this dataset's rather than those of one that lies alike."""
        return True


def folders_with(root: Path, name: str) -> Iterator[Path]:
    """The folders at or below `root` that hold a file or folder `name`; nothing below such a folder is looked at."""
    for folder, folders, files in os.walk(root, followlinks=True):
        if name in files or name in folders:
            folders.clear()
            yield Path(folder)


def number_table(path: Path, columns: int, skip_lines: int = 0) -> np.ndarray:
    """The numbers float64 [rows, columns] of a text file with one row a line.

    Raises:
        InputError: it is missing, empty, or a line has another count of numbers.
    """
    rows = []
    for number, line in enumerate(text_lines(path)[skip_lines:], start=skip_lines + 1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        try:
            values = [float(x) for x in fields]
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if len(values) != columns:
            raise InputError(f"{path}, line {number} has {len(values)} numbers instead of {columns}")
        rows.append(values)
    if not rows:
        raise InputError(f"{path} is empty; download it again")
    return np.asarray(rows)


def text_lines(path: Path) -> list[str]:
    """The lines of a text file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error}); download it again") from error


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The files of a folder in the order of their names.

    Raises:
        InputError: there is none.
    """
    found = sorted(p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith("."))
    if not found:
        raise InputError(f"{folder} holds no {pattern}; download the scene again")
    return found


def as_pose(rows: np.ndarray) -> np.ndarray:
    """Poses [F, 4, 4] of rows of 12 or 16 numbers, row by row."""
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    T[:, : rows.shape[1] // 4] = rows.reshape(len(rows), -1, 4)
    return T


def inverse(T: np.ndarray, where: object) -> np.ndarray:
    """Inverted poses, or an error that names the file."""
    if not np.isfinite(T).all() or (np.abs(np.linalg.det(T)) < 1e-9).any():
        raise InputError(f"{where} holds a pose that is not finite or cannot be inverted")
    return np.linalg.inv(T)


def make_cameras(T_world_camera: np.ndarray, K_px: np.ndarray, size: tuple[int, int]) -> Cameras:
    """Cameras from float64 poses [F, 4, 4] and intrinsics [4] or [F, 4] (fx, fy, cx, cy), for (height, width).

    Poses become relative to the first camera before they are rounded to float32: worlds measured in kilometres from
    their origin lose nothing.
    """
    poses = inverse(T_world_camera[:1], "the sequence") @ T_world_camera
    poses[0] = np.eye(4)
    poses[:, 3] = [0, 0, 0, 1]
    K = np.zeros((len(poses), 3, 3))
    K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2] = np.broadcast_to(K_px, (len(poses), 4)).T
    K[:, 2, 2] = 1
    return Cameras(torch.from_numpy(poses).float(), torch.from_numpy(K).float(), *size)


def read_pixels(source: Path | bytes, where: object = None) -> np.ndarray:
    """A picture's pixels as they are stored, [H, W] or [H, W, C]; not turned by any EXIF tag, as cameras are not.

    Raises:
        InputError: it is missing, truncated or no picture.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.array(image.convert("RGB") if image.mode in ("P", "CMYK", "RGBA", "L", "1") else image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{where or source} cannot be read as a picture ({error}); download it again") from error


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture file, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error}); download it again") from error


@dataclass(frozen=True)
class Lens:
    """A Brown-Conrady lens: intrinsics fx, fy, cx, cy in pixels, and k1, k2, p1, p2, k3 (OpenCV's order)."""

    intrinsics: tuple[float, ...]
    distortion: tuple[float, ...]

    def distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a point at (x, y) = (X / Z, Y / Z) lands instead, in the same units."""
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    def undistort(self, pixels: np.ndarray) -> np.ndarray:
        """The picture [H, W, 3] that a pinhole of the same intrinsics would have taken; beyond the edge it repeats."""
        if not any(self.distortion):
            return pixels
        fx, fy, cx, cy = self.intrinsics
        height, width = pixels.shape[:2]
        row, column = np.mgrid[0:height, 0:width] + 0.5
        x, y = self.distort((column - cx) / fx, (row - cy) / fy)
        grid = np.stack([2 * (x * fx + cx) / width - 1, 2 * (y * fy + cy) / height - 1], -1)
        picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        straight = torch.nn.functional.grid_sample(
            picture, torch.from_numpy(grid)[None].float(), padding_mode="border", align_corners=False
        )
        return straight[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


@dataclass(frozen=True)
class PictureFiles:
    """Frames in picture files: number -> uint8 [H, W, 3], straightened where a lens is given."""

    paths: Sequence[Path]
    lens: Lens | None = None

    def __call__(self, number: int) -> torch.Tensor:
        pixels = read_pixels(self.paths[number])
        if pixels.ndim != 3 or pixels.dtype != np.uint8:
            raise InputError(f"{self.paths[number]} is no 8-bit colour picture")
        return torch.from_numpy(pixels if self.lens is None else self.lens.undistort(pixels))


@dataclass(frozen=True)
class DepthFiles:
    """Depth in 16-bit pictures: number -> float32 [H, W], the stored whole numbers over `per_unit`.

    per_unit: one for all pictures, or one each. What is 0, or more than `limit` afterwards, is unknown.
    """

    paths: Sequence[Path]
    per_unit: float | Sequence[float]
    limit: float

    def __call__(self, number: int) -> torch.Tensor:
        pixels = read_pixels(self.paths[number])
        if pixels.ndim != 2:
            raise InputError(f"{self.paths[number]} is no depth map: it has {pixels.ndim} axes")
        per_unit = self.per_unit if isinstance(self.per_unit, int | float) else self.per_unit[number]
        return keep_known(pixels.astype(np.float32) / per_unit, self.limit)


def keep_known(depth: np.ndarray, limit: float) -> torch.Tensor:
    """Depth with 0 where it is not finite, not positive or beyond `limit`."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > 0) & (depth <= limit)
    return torch.from_numpy(np.where(known, depth, 0).astype(np.float32))


@dataclass(frozen=True)
class PointFile:
    """Points of a file, seen from the record's first camera, as its cameras are.

    read: the file's form. T_world_camera: of the first camera, [4, 4], in the file's world.
    """

    read: Callable[[Path], PointCloud]
    path: Path
    T_world_camera: np.ndarray

    def __call__(self) -> PointCloud:
        return self.read(self.path).moved(torch.from_numpy(inverse(self.T_world_camera, self.path)))


@dataclass
class VideoFrames:
    """Frames of a video, decoded in order: number -> uint8 [H, W, 3]. Going back starts the video again."""

    path: Path

    def __post_init__(self) -> None:
        self._ahead: Iterator[torch.Tensor] = iter(())
        self._next = 0
        self._last: torch.Tensor | None = None

    def __call__(self, number: int) -> torch.Tensor:
        if self._last is None or number < self._next - 1:
            self._ahead, self._next = video_frames(self.path), 0
        while self._next <= number:
            frame = next(self._ahead, None)
            if frame is None:
                raise InputError(f"{self.path} ends before frame {number}; cut it again")
            self._last, self._next = frame, self._next + 1
        assert self._last is not None
        return self._last

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.path = state["path"]
        self.__post_init__()
