"""Pictures of a clip with depth from cameras of any pose, lens and size, by image-based rendering."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.image_based_rendering import composite, draw_photo
from gen3r.media.images import evenly_spaced

SPREAD = 4  # frames over the whole clip that every picture is drawn from, beside the nearest
SAME_SIZE = 1.25  # ratio of focal lengths up to which frames are not resized


def render_views(images: Tensor, depth: Tensor, cameras: Cameras, targets: Cameras) -> Iterator[Tensor]:
    """Colours [3, h, w] in [0, 1] of each target camera, in the size of the targets.

    images: [F, 3, H, W] in [0, 1]. depth: z-depth [F, H, W] in the unit of the cameras. cameras, targets: in one world.
    What no frame shows is continued smoothly from its surroundings; a target that sees nothing is black.
    """
    size = (targets.height, targets.width)
    for T, K_px in zip(targets.T_world_camera, targets.K_px, strict=True):
        nearest = int(_farness(cameras, T).argmin())
        chosen = sorted({nearest, *evenly_spaced(len(images), min(SPREAD, len(images)))})
        views = []
        for i in chosen:
            lens = cameras.K_px[i]
            photo, z, lens = _fitting(images[i], depth[i], lens, float(K_px[0, 0] / lens[0, 0]))
            views.append(draw_photo(photo, z, (cameras.T_world_camera[i], lens), (T, K_px), size))
        yield composite(images.new_zeros(4, *size), views)[0]


def _farness(cameras: Cameras, T: Tensor) -> Tensor:
    """How far each camera is from a pose, [F]: the angle between the views, and the distance over the path's length."""
    length = (cameras.centres - cameras.centres[0]).norm(dim=-1).max().clamp_min(1e-6)
    angle = torch.acos((cameras.T_world_camera[:, :3, 2] @ T[:3, 2]).clamp(-1, 1))
    return angle + (cameras.centres - T[:3, 3]).norm(dim=-1) / length


def _fitting(image: Tensor, depth: Tensor, K_px: Tensor, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """An image, its depth and lens, resized by the ratio of two focal lengths where it is not near 1."""
    if 1 / SAME_SIZE <= factor <= SAME_SIZE:
        return image, depth, K_px
    height, width = (max(2, round(factor * side)) for side in depth.shape)
    scale = K_px.new_tensor([[width / depth.shape[1]], [height / depth.shape[0]], [1.0]])
    image = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)
    return image, F.interpolate(depth[None, None], (height, width), mode="nearest-exact")[0, 0], K_px * scale
