"""Depth and cameras of posed clips, against the true ones and beside trivial rivals."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.evaluation.metrics import (
    absolute_relative,
    depth_inliers,
    error_auc,
    moved_apart,
    pair_distances,
    pair_errors,
    rank_correlation,
    trajectory_error,
)
from gen3r.evaluation.protocol import Scores
from gen3r.evaluation.rivals import flat_wall, row_prior, standing_still, straight_line
from gen3r.media.crop import Size, cover_crop
from gen3r.media.images import evenly_spaced
from gen3r.pipeline import Gen3RPipeline

OURS = ("AbsRel", "delta<1.25", "rank")
PHOTOS = 3  # of a clip whose depth is predicted from each alone


@torch.inference_mode()
def reconstruction_tables(pipe: Gen3RPipeline, clip: Clip, direction: str | None) -> dict[str, Scores]:
    """Depth and cameras of the reconstructed clip, and of VGGT alone, beside those of trivial rivals; and the depth of
    single frames that a generation starts from.

    Returns the scores of each table by its title. direction: of the straight line that the cameras are compared with;
    None leaves the table of cameras out. Depth that is known nowhere has no table either.
    """
    tables: dict[str, Scores] = {}
    scene, alone = (pipe.reconstruct(clip.images, feed_forward=x) for x in (False, True))
    if bool((clip.depth > 0).any()):
        scores = depth_scores(*in_view(scene.depth, clip.depth))
        own = depth_scores(*in_view(alone.depth, clip.depth))
        tables["depth of the clip"] = scores | {f"{x}, VGGT alone": own[x] for x in OURS if x in own}
        known = [i for i in evenly_spaced(len(clip.frames), PHOTOS) if bool((clip.depth[i] > 0).any())]
        photos = []
        for i in dict.fromkeys(known):
            depth = pipe.predict_photos(clip.images[i : i + 1]).depth[0].cpu()
            photos.append(depth_scores(resized(depth, clip.cameras), clip.depth[i : i + 1]))
        columns = {column: [x[column] for x in photos if column in x] for column in scores}
        tables["depth of single photos"] = {column: sum(x) / len(x) for column, x in columns.items() if x}
    if direction is not None:
        truth = clip.cameras.T_world_camera
        tables["cameras"] = camera_scores(scene.cameras.T_world_camera, truth, direction)
        own = camera_scores(alone.cameras.T_world_camera, truth, direction)
        tables["cameras"] |= {f"{x}, VGGT alone": value for x, value in own.items() if "," not in x}
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
    return {column: score for column, score in scores.items() if not math.isnan(score)}


def camera_scores(T_world_camera: Tensor, truth: Tensor, direction: str) -> Scores:
    """Of cameras [F, 4, 4] against the true ones. Far pairs are those farther apart than the median pair.

    Cameras that stand at one place have no far pair and no path, and no score of them; a single camera has no score.
    """
    if len(truth) < 2:
        return {}
    still, line = standing_still(len(truth)), straight_line(len(truth), direction)
    baseline, apart = pair_distances(truth), moved_apart(truth)
    far = baseline > baseline.median()
    far = far if bool(far.any()) else apart

    def errors(T: Tensor) -> Scores:
        turn, along = pair_errors(T, truth)
        scores = {
            "AUC@30": error_auc(torch.maximum(turn, along)),
            "far AUC@30": error_auc(torch.maximum(turn, along)[far]),
            "far direction [deg]": float(along[far].median()),
            "rotation AUC@30": error_auc(turn),
            "rotation [deg]": float(turn.median()),
            "ATE/length": trajectory_error(T, truth),
        }
        return {k: v for k, v in scores.items() if bool(apart.any()) or not k.startswith(("far", "ATE"))}

    ours, at_rest, moving = errors(T_world_camera), errors(still), errors(line)
    scores: Scores = {}
    for metric, value in ours.items():
        scores[metric] = value
        if not metric.startswith("rotation"):  # in which a straight line and standing still are the same
            scores[f"{metric}, straight line"] = moving[metric]
        if metric.startswith(("rotation", "ATE")):
            scores[f"{metric}, standing still"] = at_rest[metric]
    return scores


def own_size(pipe: Gen3RPipeline) -> Size:
    """Height and width that a model works in."""
    return pipe.defaults["height"], pipe.defaults["width"]


def in_view(depth: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Depth [F, h, w] of frames that cover its size, and the truth [F, H, W] of the part of them in view."""
    scale, left, top = cover_crop((truth.shape[1], truth.shape[2]), (depth.shape[1], depth.shape[2]))
    y, x = round(top / scale), round(left / scale)
    part = truth[:, y : y + round(depth.shape[1] / scale), x : x + round(depth.shape[2] / scale)]
    return F.interpolate(depth[:, None], part.shape[1:], mode="bilinear", align_corners=False)[:, 0], part


def resized(depth: Tensor, cameras: Cameras) -> Tensor:
    """Depth [F, h, w] at the size of the cameras' images."""
    size = cameras.height, cameras.width
    return F.interpolate(depth[:, None], size, mode="bilinear", align_corners=False)[:, 0]
