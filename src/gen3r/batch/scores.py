"""What the scores of a scene are: see `SCORES`."""

import math

import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.names import BETWEEN, FREE
from gen3r.cameras.paths import resample, trajectory
from gen3r.evaluation.metrics import camera_auc, fine_detail
from gen3r.export.options import ExportOptions
from gen3r.export.selection import Selection
from gen3r.geometry.points import project
from gen3r.media.images import evenly_spaced
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request
from gen3r.scene import Scene

OTHERS = 4  # views that look at the points of each frame
POINTS = 10_000  # of a frame that are looked at, at most
SAME = 0.05  # relative difference of depth within which two views agree
THROUGH = 0.1  # ... beyond which a view looks through a point


@torch.no_grad()
def score_scene(pipe: Gen3RPipeline, scene: Scene, request: Request) -> dict[str, float | None]:
    """The scores of a scene by name; None where one does not apply.

    request: the resolved one that the scene was made from.
    """
    reliable = Selection(scene, ExportOptions(unsure=0)).reliable
    agree, floaters = depth_consistency(scene, reliable)
    scores = {
        "sharp": fine_detail(scene.images),
        "holes": 1 - float(reliable.double().mean()),
        "floaters": floaters,
        "follow": _follow(pipe, scene, request),
        "agree": agree,
    }
    return {name: None if value is None or math.isnan(value) else value for name, value in scores.items()}


def depth_consistency(scene: Scene, reliable: Tensor) -> tuple[float, float]:
    """How the points of each frame look from other frames: the shares `agree` and `floaters`; NaN where no other
    frame sees any.

    reliable: bool [F, H, W]. A view agrees with a point if its own depth there differs by less than `SAME`. It looks
    through the point if its depth is larger by more than `THROUGH`. Points behind its surface say nothing.
    """
    frames, height, width = scene.depth.shape
    T, K_px, size = scene.cameras.T_world_camera, scene.cameras.K_px, torch.tensor([width, height])
    same = through = floating = seen = 0
    for i in range(frames):
        pixels = reliable[i].flatten().nonzero()[:, 0]
        points = scene.points[i].flatten(0, 1)[pixels[:: max(1, math.ceil(len(pixels) / POINTS))]]
        others = [j for j in range(frames) if j != i]
        others = [others[k] for k in sorted(set(evenly_spaced(len(others), OTHERS)))] if others else []
        if not others or not len(points):
            continue
        place, z = project(points, T[others], K_px[others])
        inside = (place >= 0).all(-1) & (place < size).all(-1) & (z > 0)
        x, y = torch.where(inside[..., None], place, 0).long().unbind(-1)
        views = torch.tensor(others)[:, None]
        depth, look = scene.depth[views, y, x], inside & reliable[views, y, x]
        agrees = look & ((depth - z).abs() < SAME * z)
        passes = look & (depth > (1 + THROUGH) * z)
        same, through = same + int(agrees.sum()), through + int(passes.sum())
        floating += int((2 * passes.sum(0) > look.sum(0)).sum())
        seen += int(look.any(0).sum())
    agree = same / (same + through) if same + through else math.nan
    return agree, floating / seen if seen else math.nan


def _follow(pipe: Gen3RPipeline, scene: Scene, request: Request) -> float | None:
    """How well cameras that VGGT sees in the frames follow the requested ones."""
    if len(scene.frames) < 2:
        return None
    if request.renders_photos:  # the scene's cameras are the request
        seen = pipe.reconstruct(scene.images, feed_forward=True).cameras
        return camera_auc(seen.T_world_camera, scene.cameras.T_world_camera)
    if request.cameras in (FREE, BETWEEN):
        return None
    return camera_auc(scene.cameras.T_world_camera, _asked(request, scene.cameras).T_world_camera)


def _asked(request: Request, like: Cameras) -> Cameras:
    """The requested cameras, up to a scale."""
    frames = request.num_frames
    if isinstance(request.cameras, Cameras):
        return resample(request.cameras, frames)
    options = (like.height, like.width, 1.0, request.extent, request.easing)
    return trajectory(str(request.cameras), frames, like.K_px[0], *options)
