"""Scenes of what VGGT predicts."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose, square_pixels
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.media.images import eight_bits
from gen3r.models.depth_estimation import depth_ratio
from gen3r.models.vggt import GeometryPrediction
from gen3r.scene import Scene


def predicted_scene(
    frames: Tensor,
    prediction: GeometryPrediction,
    i: int,
    prompt: str,
    settings: dict[str, Any],
    pixel_centre: float,
    fov: float | None = None,
) -> Scene:
    """Sample i as a scene: points are its depth unprojected with its cameras, relative to the first.

    frames: [F, 3, H, W] in [0, 1]. pixel_centre: of the model that predicted. fov: as in `predicted_cameras`.
    """
    depth = prediction.depth[i].float().cpu()
    cameras = predicted_cameras(prediction, i, *frames.shape[-2:], fov=fov)
    return Scene(
        frames=eight_bits(frames).cpu(),
        depth=depth,
        confidence=prediction.depth_confidence[i].float().cpu(),
        points=unproject(depth, cameras.T_world_camera, cameras.K_px, pixel_centre),
        mask=valid_depth_mask(depth),
        cameras=cameras,
        prompt=prompt,
        settings=dict(settings),
    )


def predicted_cameras(
    prediction: GeometryPrediction, i: int, height: int, width: int, fov: float | None = None
) -> Cameras:
    """The cameras of sample i, relative to the first, with square pixels. fov: their horizontal angle of view
    [degrees], where it is known."""
    T, K = decode_pose(prediction.pose_enc[-1, i].float().cpu(), height, width)
    cameras = Cameras(T, square_pixels(K), height, width).relative_to_first()
    return cameras if fov is None else cameras.with_fov(fov)


def metres(prediction: GeometryPrediction, depth: Tensor) -> dict[str, float]:
    """A setting of a scene whose first frames have this depth [n, H, W]; none where metres are not known."""
    if prediction.metres_per_unit is None:
        return {}
    size, same = depth.shape[-2:], prediction.depth[0, : len(depth)].to(depth.device)
    unit = depth_ratio(F.interpolate(same[None], size, mode="nearest-exact")[0], depth)
    return {"metres_per_unit": prediction.metres_per_unit[0] * unit}
