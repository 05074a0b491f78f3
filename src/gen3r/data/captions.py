"""Captions that a model writes for a dataset's images, kept beside the dataset and read with its scenes."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from gen3r.data.workers import SceneResult
from gen3r.errors import InputError
from gen3r.files import write_text

if TYPE_CHECKING:
    from gen3r.data.readers.base import Reader
    from gen3r.data.records import ClipRecord

Captioner = Callable[[Image.Image], str]  # an image -> its description in one line
FOLDER = Path(".gen3r", "captions")  # in the dataset's folder; one file per model
EVERY = 30.0  # seconds between saves


@dataclass(frozen=True, kw_only=True)
class Captioned(SceneResult):
    """captions: those of the scene by this model, old or new."""

    captions: tuple[str, ...] = ()


def read_captions(root: Path) -> dict[str, tuple[str, ...]]:
    """All models' captions of the scenes of a dataset's folder; empty where none were written.

    Raises:
        InputError: a file of them is damaged.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        for scene, captions in _load(path)["captions"].items():
            found[scene] = (*found.get(scene, ()), *captions)
    return found


def write_captions(
    reader: "Reader", scenes: Sequence[str], captioner: Captioner, model: str, prompt: str = "", frames: int = 1
) -> Iterator[Captioned]:
    """Captions `frames` evenly spaced frames of each scene; saves the captions every half minute and at the end.

    Captions that this model wrote before are kept; a scene that cannot be read is left out.

    Raises:
        InputError: the folder cannot be written to; the file there is damaged or of another prompt.
    """
    path = reader.root / FOLDER / f"{model.strip('/').replace('/', '--')}.json"
    about = {"model": model, "prompt": prompt, "captions": {}}
    about = _load(path) if path.exists() else about
    if (about["model"], about["prompt"]) != (model, prompt):
        raise InputError(f"{path} was written with another model or prompt; delete it, or give the same")
    _save(path, about)
    saved = time.monotonic()
    try:
        for scene in scenes:
            if scene in about["captions"]:
                yield Captioned(scene=scene, captions=tuple(about["captions"][scene]), there=True)
                continue
            try:
                captions = _caption(reader.read(scene), captioner, frames)
            except InputError as error:
                yield Captioned(scene=scene, error=str(error))
                continue
            about["captions"][scene] = captions
            if time.monotonic() - saved >= EVERY:
                _save(path, about)
                saved = time.monotonic()
            yield Captioned(scene=scene, captions=captions)
    finally:
        _save(path, about)


def _caption(record: "ClipRecord", captioner: Captioner, frames: int) -> tuple[str, ...]:
    """One line for each of some frames: the middles of as many equal parts of the sequence."""
    numbers = sorted({(2 * i + 1) * len(record) // (2 * frames) for i in range(frames)})
    lines = [" ".join(captioner(Image.fromarray(record.read_frame(n).numpy())).split()) for n in numbers]
    return tuple(dict.fromkeys(line for line in lines if line))


def _load(path: Path) -> dict:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(c, str) for captions in about["captions"].values() for c in captions):
            raise ValueError("captions that are no text")
        return {"model": str(about["model"]), "prompt": str(about["prompt"]), "captions": dict(about["captions"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no captions ({error!r}); delete it and write them again") from error


def _save(path: Path, about: dict) -> None:
    write_text(json.dumps(about, indent=0, ensure_ascii=False) + "\n", path)
