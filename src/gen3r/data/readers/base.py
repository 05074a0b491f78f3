"""The interface of all readers."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from gen3r.data.captions import read_captions
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.media.sequence import ImageSequence
from gen3r.scene import Scene

Estimator = Callable[[ImageSequence], Scene]  # cameras, depth and frames of some of the images
_CACHED = ("scenes", "cached", "written_captions")  # may be long; not sent to other processes


class Reader(ABC):
    """A dataset as it is downloaded: a sequence of scenes, each read when it is asked for.

    A damaged file that is needed to list the scenes is skipped, with a warning that counts; `strict` raises instead.

    Raises:
        InputError: on creation, there is no such folder; on listing, there is no scene; on reading a scene, there is
            no such scene, or a file of it is missing or damaged.
    """

    name: ClassVar[str]
    licence: ClassVar[str]
    layout: ClassVar[str]  # where a scene lies, for the error
    estimator: Estimator | None = None

    def __init__(self, root: str | Path, strict: bool = False) -> None:
        self.root, self.strict = Path(root), strict
        self.selected: tuple[str, ...] = ()
        self.problems: list[str] = []  # what kept scenes from being listed
        self.cached: dict[str, Any] = {}  # data that many scenes share
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
        found = [name for name in names if not self.selected or any(part in name for part in self.selected)]
        if not found:
            raise InputError(f"no scene of {self.root} is called like that; the first is {names[0]}")
        return found

    def select(self, parts: Sequence[str]) -> "Reader":
        """The same dataset with only the scenes whose name holds one of these parts; all where there is no part."""
        reader = copy(self)
        reader.selected = tuple(parts)
        return reader

    def with_estimator(self, estimator: Estimator) -> "Reader":
        """The same dataset, with a model for the scenes that have no cameras."""
        reader = copy(self)
        reader.estimator = estimator
        return reader

    def lacks_cameras(self, scene: str) -> bool:
        """Whether a scene has no cameras, so that reading it needs an estimator."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in _CACHED}

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
        """The names of the scenes under `root`, in any order, without opening their images."""

    @abstractmethod
    def read_scene(self, scene: str) -> ClipRecord:
        """One scene as the dataset holds it."""

    def read(self, scene: str) -> ClipRecord:
        """One scene. The captions that a model wrote (`gen3r data caption`) follow its own."""
        record = self.read_scene(scene)
        return replace(record, captions=(*record.captions, *self.written_captions.get(scene, ())))

    @cached_property
    def written_captions(self) -> dict[str, tuple[str, ...]]:
        """The captions that models wrote, by scene, as they were when the first scene was read."""
        return read_captions(self.root)

    def recognises(self) -> bool:
        """Whether the scenes are this dataset's, and not those of one with a similar layout."""
        return True

    def name_parts(self, scene: str, count: int) -> list[str]:
        """The `count` parts of a scene's name between its slashes.

        Raises:
            InputError: it has another number of parts, so that there is no such scene.
        """
        parts = scene.split("/")
        if len(parts) != count:
            raise self.unknown(scene)
        return parts

    def unknown(self, scene: str) -> InputError:
        """The error of a name that no scene has."""
        return InputError(f"{self.root} holds no scene {scene}; expected {self.layout}")


def folders_with(root: Path, name: str) -> Iterator[Path]:
    """The folders at or below `root` that hold a file or folder `name`; nothing below such a folder is looked at."""
    for folder, folders, files in os.walk(root, followlinks=True):
        if name in files or name in folders:
            folders.clear()
            yield Path(folder)


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The files of a folder in the order of their names.

    Raises:
        InputError: there is none.
    """
    found = sorted(p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith("."))
    if not found:
        raise InputError(f"{folder} holds no {pattern}; download the scene again")
    return found
