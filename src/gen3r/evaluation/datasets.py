"""The protocol on posed clips of any dataset: reconstruction, generation along the true path, the autoencoder.

Reconstruction is measured on whole frames, all else on the centre crop of the frames in the model's shape. The model is
given those pixels, and what it makes is resized to them, whatever size it works in. Beside the scores stand those of
trivial rivals.
"""

import warnings
from collections.abc import Collection, Mapping

from tqdm import tqdm

from gen3r.data.clips import load_clip
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.evaluation.generation import along_true_path
from gen3r.evaluation.options import DATA_PARTS
from gen3r.evaluation.protocol import Mean, Scores, autoencoder_scores
from gen3r.evaluation.reconstruction import own_size, reconstruction_tables
from gen3r.evaluation.rivals import best_direction
from gen3r.media.crop import Size
from gen3r.media.images import evenly_spaced
from gen3r.pipeline import Gen3RPipeline

MAX_FRAMES = 17  # of a clip, spread evenly over its sequence
Tables = dict[str, Scores]  # a scene's scores by the title of their table


def evaluate_records(
    pipe: Gen3RPipeline,
    records: Mapping[str, ClipRecord],
    parts: Collection[str] = DATA_PARTS,
    longer_side: int = 448,
    seed: int = 0,
) -> dict[str, Tables]:
    """The tables of every sequence, each of at least 2 frames.

    longer_side: of the measured pixels, or the frames' own where that is less. seed: of the first sequence's sampling;
    each next one's is one more. Cameras that stand still have no table of cameras or of generation. A sequence with a
    frame that cannot be read is left out, with a warning.

    Raises:
        InputError: no sequence is left.
    """
    pipe.set_progress_bar_config(disable=True)
    size = own_size(pipe)
    frames = {name: _frames(pipe, record) for name, record in records.items()}
    paths = {name: record.cameras.T_world_camera[frames[name]] for name, record in records.items()}
    moving = {name for name, path in paths.items() if bool((path[:, :3, 3] != path[0, :3, 3]).any())}
    direction = best_direction(path for name, path in paths.items() if name in moving)
    found: dict[str, Tables] = {}
    for i, (name, record) in enumerate(tqdm(records.items(), desc="scenes", unit="scene"), seed):
        try:
            clip = load_clip(record, frames[name], *_measured_size(record, size, longer_side))
        except InputError as error:
            warnings.warn(f"{name} left out: {error}", stacklevel=2)
            continue
        tables = found.setdefault(name, {})
        if "reconstruction" in parts:
            whole = load_clip(record, frames[name], *_within(record, longer_side))
            tables |= reconstruction_tables(pipe, whole, direction if name in moving else None)
        if "generation" in parts and name in moving:
            tables["one view"] = along_true_path(pipe, clip, [0], i)
        if "two-views" in parts and name in moving and len(clip.frames) > 2:
            tables["two views"] = along_true_path(pipe, clip, [0, len(clip.frames) - 1], i)
        if "autoencoder" in parts:
            film = [*range(4 * ((min(MAX_FRAMES, len(record)) - 1) // 4) + 1)]  # of a length that it encodes
            scores = autoencoder_scores(pipe, load_clip(record, film, *size))
            tables["autoencoder"] = {column.removeprefix("autoencoder "): x for column, x in scores.items()}
    if not found:
        raise InputError("no scene can be read; check the dataset with: gen3r data check FOLDER")
    return found


def means(found: Mapping[str, Tables]) -> dict[str, dict[str, Mean]]:
    """Of every column of every table, over the scenes that have it."""
    values: dict[str, dict[str, list[float]]] = {}
    for tables in found.values():
        for title, scores in tables.items():
            for column, value in scores.items():
                values.setdefault(title, {}).setdefault(column, []).append(value)
    return {title: {column: Mean.of(x) for column, x in columns.items()} for title, columns in values.items()}


def _frames(pipe: Gen3RPipeline, record: ClipRecord) -> list[int]:
    """The numbers of the frames that are measured, spread evenly over the sequence, both ends included."""
    return evenly_spaced(len(record), min(MAX_FRAMES, pipe.defaults["num_frames"], len(record)))


def _within(record: ClipRecord, longer_side: int) -> Size:
    """Height and width of whole frames within `longer_side`."""
    height, width = record.cameras.height, record.cameras.width
    factor = min(1.0, longer_side / max(height, width))
    return round(height * factor), round(width * factor)


def _measured_size(record: ClipRecord, size: Size, longer_side: int) -> Size:
    """Height and width of the measured pixels: in the shape of `size`, within the frames and `longer_side`."""
    height, width = size
    factor = min(longer_side / max(size), record.cameras.height / height, record.cameras.width / width)
    return round(height * factor), round(width * factor)
