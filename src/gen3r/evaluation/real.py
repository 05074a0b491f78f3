"""The protocol on posed clips of any dataset: reconstruction, generation along the true path, the autoencoder.

All is measured on the same pixels, whatever size a model works in: the centre crop of the clip's frames in the model's
shape. The model is given that crop, and what it makes is resized to it. Beside the scores stand those of trivial
rivals.
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gen3r.data.clips import load_clip
from gen3r.data.records import Clip, ClipRecord
from gen3r.evaluation.metrics import (
    NO_BASELINE,
    absolute_relative,
    depth_inliers,
    error_auc,
    pair_distances,
    pair_errors,
    rank_correlation,
    trajectory_error,
)
from gen3r.evaluation.options import REAL_PARTS
from gen3r.evaluation.protocol import Mean, Scores, autoencoder_scores
from gen3r.evaluation.rivals import best_direction, flat_wall, row_prior, standing_still, straight_line
from gen3r.media.crop import Size
from gen3r.media.images import evenly_spaced
from gen3r.pipeline import Gen3RPipeline

MAX_FRAMES = 17  # of a clip, spread evenly over its sequence
PHOTOS = 3  # of a clip whose depth is predicted from each alone
Tables = dict[str, Scores]  # scores by the title of their table


def evaluate_records(
    pipe: Gen3RPipeline,
    records: Mapping[str, ClipRecord],
    parts: Collection[str] = REAL_PARTS,
    longer_side: int = 448,
    seed: int = 0,
) -> dict[str, Tables]:
    """The tables of every sequence. longer_side: of the pixels that are measured, in pixels, or the dataset's own.

    Raises:
        InputError: a frame or its depth cannot be read.
    """
    pipe.set_progress_bar_config(disable=True)
    frames = {name: chosen_frames(record) for name, record in records.items()}
    paths = [record.cameras.T_world_camera[frames[name]] for name, record in records.items()]
    direction = best_direction(path for path in paths if _moves(path))
    measures: dict[str, Callable[[Clip], Tables]] = {
        "reconstruction": lambda clip: reconstruction_tables(pipe, clip, direction),
    }
    found: dict[str, Tables] = {}
    for name, record in tqdm(records.items(), desc="scenes", unit="scene"):
        clip = load_clip(record, frames[name], *_measured_size(pipe, record, longer_side))
        found[name] = {}
        for part in (part for part in REAL_PARTS if part in parts and part in measures):
            found[name] |= measures[part](clip)
        if "autoencoder" in parts:
            whole = frames[name][: 4 * ((len(frames[name]) - 1) // 4) + 1]
            scores = autoencoder_scores(pipe, load_clip(record, whole, *_own_size(pipe)))
            found[name]["autoencoder"] = {key.removeprefix("autoencoder "): x for key, x in scores.items()}
    return found


def means(found: Mapping[str, Tables]) -> dict[str, dict[str, Mean]]:
    """Of every column of every table, over the scenes that have it."""
    values: dict[str, dict[str, list[float]]] = {}
    for tables in found.values():
        for title, scores in tables.items():
            for column, value in scores.items():
                values.setdefault(title, {}).setdefault(column, []).append(value)
    return {title: {column: Mean.of(x) for column, x in columns.items()} for title, columns in values.items()}


def chosen_frames(record: ClipRecord) -> list[int]:
    """The numbers of at most `MAX_FRAMES` frames, spread evenly over the sequence, both ends included."""
    return evenly_spaced(len(record), min(MAX_FRAMES, len(record)))


@torch.inference_mode()
def reconstruction_tables(pipe: Gen3RPipeline, clip: Clip, direction: str) -> Tables:
    """VGGT's depth and cameras of the clip, and its depth of single frames, beside those of trivial rivals.

    direction: of the straight line that the cameras are compared with. Depth that is known nowhere has no table, nor
    have cameras that stand still.
    """
    tables: Tables = {}
    scene = pipe.reconstruct(clip.images, *_own_size(pipe))
    if bool((clip.depth > 0).any()):
        tables["depth of the clip"] = depth_scores(_resized(scene.depth, clip), clip.depth)
        photos = []
        for i in evenly_spaced(len(clip.frames), min(PHOTOS, len(clip.frames))):
            if bool((clip.depth[i] > 0).any()):
                depth = pipe.reconstruct(clip.images[i : i + 1], *_own_size(pipe)).depth
                photos.append(depth_scores(_resized(depth, clip), clip.depth[i : i + 1]))
        if photos:
            tables["depth of single photos"] = {key: float(np.mean([x[key] for x in photos])) for key in photos[0]}
    if _moves(clip.cameras.T_world_camera):
        tables["cameras"] = camera_scores(scene.cameras.T_world_camera, clip.cameras.T_world_camera, direction)
    return tables


def depth_scores(depth: Tensor, truth: Tensor) -> Scores:
    """Of depth [F, H, W] against the truth, 0 where unknown; one L1 scale for all frames."""
    valid = truth > 0
    methods = {"": depth, ", flat wall": flat_wall(truth), ", row prior": row_prior(truth)}
    scores: Scores = {}
    for metric, measure in {"AbsRel": absolute_relative, "delta<1.25": depth_inliers}.items():
        scores |= {metric + name: measure(x, truth, valid) for name, x in methods.items()}
    scores["rank"] = rank_correlation(depth, truth, valid)
    scores["rank, row prior"] = rank_correlation(methods[", row prior"], truth, valid)
    return scores


def camera_scores(T_world_camera: Tensor, truth: Tensor, direction: str) -> Scores:
    """Of cameras [F, 4, 4] against the true ones. Far pairs are those farther apart than the median pair."""
    still, line = standing_still(len(truth)), straight_line(len(truth), direction)
    baseline = pair_distances(truth)
    far = baseline > baseline.median()
    far = far if bool(far.any()) else baseline > 0

    def errors(T: Tensor) -> Scores:
        turn, along = pair_errors(T, truth)
        return {
            "AUC@30": error_auc(torch.maximum(turn, along)),
            "far AUC@30": error_auc(torch.maximum(turn, along)[far]),
            "far direction [deg]": float(along[far].median()),
            "rotation AUC@30": error_auc(turn),
            "rotation [deg]": float(turn.median()),
            "ATE/length": trajectory_error(T, truth),
        }

    ours, at_rest, moving = errors(T_world_camera), errors(still), errors(line)
    scores: Scores = {}
    for metric, value in ours.items():
        scores[metric] = value
        if not metric.startswith("rotation"):  # in which a straight line and standing still are the same
            scores[f"{metric}, straight line"] = moving[metric]
        if metric.startswith(("rotation", "ATE")):
            scores[f"{metric}, standing still"] = at_rest[metric]
    return scores


def _moves(T_world_camera: Tensor) -> bool:
    """Whether cameras [F, 4, 4] change their place, so that their path has a direction and a length."""
    centres = T_world_camera[:, :3, 3]
    return bool((centres - centres[0]).norm(dim=-1).max() > 0)


def _own_size(pipe: Gen3RPipeline) -> Size:
    return pipe.defaults["height"], pipe.defaults["width"]


def _measured_size(pipe: Gen3RPipeline, record: ClipRecord, longer_side: int) -> Size:
    """Height and width of the measured pixels: the model's shape, no larger than the frames and `longer_side`."""
    height, width = _own_size(pipe)
    cameras = record.cameras
    factor = min(longer_side / max(height, width), cameras.height / height, cameras.width / width)
    return round(height * factor), round(width * factor)


def _resized(depth: Tensor, clip: Clip) -> Tensor:
    """Depth [F, h, w] at the size of the clip."""
    return F.interpolate(depth[:, None], clip.depth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
