"""Clips seen by other cameras at the same places: they look elsewhere, are rolled, and have another angle of view.

A rotation about the camera's centre changes pixels by a homography and needs no depth. One clip stands for many.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.rays import pixel_grid
from gen3r.data.records import Clip

TRIES = 12
MOST_ROLL = 25.0  # degrees; half of the cameras are level
ZOOM = 2.0  # the most that an angle of view is narrowed by, as a factor on the focal length


def draw_virtual_camera(cameras: Cameras, height: int, width: int, rng: np.random.Generator) -> tuple[Tensor, Cameras]:
    """A rotation [3, 3] from the virtual camera to the real one, and the virtual cameras, which see no margin.

    The rotation and the lens are the same for all frames, so that the real motion stays. The principal point is in the
    centre.
    """
    focal = 1.01 * _widest_focal(cameras, height, width) * ZOOM ** rng.random() ** 2
    reach = np.arctan(np.array([cameras.width, cameras.height]) / 2 / cameras.K_px[0].diagonal()[:2].numpy())
    turn = [*(reach * rng.uniform(-1, 1, 2)), np.deg2rad(MOST_ROLL) * rng.uniform(-1, 1) * (rng.random() < 0.5)]
    for share in np.linspace(1, 0, TRIES):  # back to straight ahead and level, until there is no margin
        R = torch.from_numpy(Rotation.from_euler("yxz", share * np.array(turn)).as_matrix()).float()
        virtual = _virtual(cameras, R, focal, height, width)
        if share == 0 or _inside(cameras, virtual, R):
            return R, virtual
    raise AssertionError("the last share is 0")


def look_through(clip: Clip, R: Tensor, virtual: Cameras) -> Clip:
    """The clip as the virtual cameras of `draw_virtual_camera` see it; colours are averaged over 2 x 2 samples."""
    size = clip.frames.shape[1], clip.frames.shape[2]
    x, y = pixel_grid(virtual.height, virtual.width, like=clip.depth)
    fine_x, fine_y = (g / 2 for g in pixel_grid(2 * virtual.height, 2 * virtual.width, like=clip.depth))
    fine, _ = _sources(clip.cameras, virtual, R, fine_x, fine_y)
    colours = clip.frames.permute(0, 3, 1, 2).float()
    colours = F.avg_pool2d(F.grid_sample(colours, _grid(fine, size), padding_mode="border", align_corners=False), 2)
    pixels, forward = _sources(clip.cameras, virtual, R, x, y)
    nearest = F.grid_sample(clip.depth[:, None], _grid(pixels, size), mode="nearest", align_corners=False)
    frames = (colours + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return Clip(frames, nearest[:, 0] / forward, virtual.relative_to_first(), clip.caption, clip.attributes)


def _widest_focal(cameras: Cameras, height: int, width: int) -> float:
    """The focal length at which the virtual image just covers no more than the real one, looking straight ahead."""
    K = cameras.K_px
    room_x = torch.minimum(K[:, 0, 2], cameras.width - K[:, 0, 2]) / K[:, 0, 0]
    room_y = torch.minimum(K[:, 1, 2], cameras.height - K[:, 1, 2]) / K[:, 1, 1]
    return float(torch.maximum(width / 2 / room_x, height / 2 / room_y).max())


def _virtual(cameras: Cameras, R: Tensor, focal: float, height: int, width: int) -> Cameras:
    """The cameras turned by R, with this focal length in pixels of the new size."""
    T = cameras.T_world_camera.clone()
    T[:, :3, :3] = T[:, :3, :3] @ R
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Cameras(T, K.expand(len(T), 3, 3), height, width)


def _sources(real: Cameras, virtual: Cameras, R: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where virtual pixels x, y [H, W] lie in the real images [F, H, W, 2], and real z for a virtual z of 1 [H, W]."""
    ray = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(virtual.K_px[0]).mT @ R.mT
    pixels = ray[None] @ real.K_px[:, None].mT
    return pixels[..., :2] / pixels[..., 2:].clamp_min(1e-6), ray[..., 2]


def _inside(real: Cameras, virtual: Cameras, R: Tensor) -> bool:
    """Whether the real images hold all corners of the virtual ones."""
    y, x = torch.meshgrid(torch.tensor([0.0, virtual.height]), torch.tensor([0.0, virtual.width]), indexing="ij")
    place, forward = _sources(real, virtual, R, x, y)
    size = torch.tensor([real.width, real.height])
    return bool((forward > 0.1).all() and (place >= 0).all() and (place <= size).all())


def _grid(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels [..., 2] as `grid_sample` takes them."""
    return 2 * pixels / pixels.new_tensor([size[1], size[0]]) - 1
