"""Parts of a Gen3R scene as nodes of a viser scene, in the page and in the viewer.

viser's world is Gen3R's: OpenCV axes, with up along -y. A node's name is its path in the tree, such as
`/scene/frusta/3`; a pose is relative to the node above.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import matrix_from_quaternion, quaternion_from_matrix
from gen3r.export.gaussians import Gaussians
from gen3r.geometry.clouds import PointCloud
from gen3r.media.drawing import apply_colour_map
from gen3r.scene import Scene

if TYPE_CHECKING:
    import viser

UP = "-y"
PICTURE = 320  # pixels of the longer side of a picture in a frustum
FRUSTUM = 0.05  # of the median distance of the points: the size of a frustum
VIEW = (-0.35, -0.22, -0.42)  # of the same: from where the first view looks, left of, over and behind the first camera
FOV = math.radians(42)
FIRST_SHADE = 0.45  # of the colour map, for the first of the cameras


def look_from_behind(server: "viser.ViserServer", scene: Scene) -> None:
    """Up, and a first view of the scene with its cameras, from behind and above the first one."""
    distance = median_distance(scene)
    server.scene.set_up_direction(UP)
    server.initial_camera.up = np.array([0.0, -1.0, 0.0])
    server.initial_camera.position = distance * np.array(VIEW)
    server.initial_camera.look_at = np.array([0.0, 0.0, distance])
    server.initial_camera.fov = FOV
    server.initial_camera.near = 1e-3 * distance


def add_gaussians(api: "viser.SceneApi", name: str, gaussians: Gaussians) -> "viser.GaussianSplatHandle":
    """Gaussians as splats."""
    unit = float(gaussians.scales.median()) if len(gaussians.scales) else 1.0  # viser's covariances have half precision
    R = matrix_from_quaternion(gaussians.rotations.roll(-1, -1))
    spread = R * (gaussians.scales / unit)[:, None]
    return api.add_gaussian_splats(
        name,
        (gaussians.means / unit).numpy(),
        (spread @ spread.mT).numpy(),
        gaussians.colours.numpy(),
        (255 * gaussians.opacities[:, None]).round().to(torch.uint8).numpy(),
        scale=unit,
    )


def add_points(api: "viser.SceneApi", name: str, cloud: PointCloud) -> "viser.PointCloudHandle":
    """Points, all as wide as the median of them."""
    assert cloud.colours is not None
    assert cloud.widths is not None
    size = float(cloud.widths.median()) if len(cloud) else 1.0
    return api.add_point_cloud(
        name,
        cloud.points.numpy(),
        cloud.colours.numpy(),
        point_size=size,
        point_shape="circle",
        point_shading="flat",
        precision="float32",
    )


def add_frustum(
    api: "viser.SceneApi", name: str, cameras: Cameras, number: int, size: float, colour: tuple[int, int, int]
) -> "viser.CameraFrustumHandle":
    """One of the cameras, as a frustum. size: the cube root of its volume, in the world's unit."""
    wxyz, position = pose(cameras, number)
    lens, aspect = shape(cameras, number)
    return api.add_camera_frustum(
        name,
        lens,
        aspect,
        scale=size,
        color=colour,
        thickness=1.5,
        thickness_units="screen",
        wxyz=wxyz,
        position=position,
        cast_shadow=False,
        receive_shadow=False,
    )


def add_path(api: "viser.SceneApi", name: str, cameras: Cameras) -> "viser.LineSegmentsHandle":
    """A line through the centres of the cameras, dark at the start and bright at the end."""
    ends = torch.stack([cameras.centres[:-1], cameras.centres[1:]], 1).numpy()
    shades = torch.tensor(camera_colours(len(cameras)), dtype=torch.uint8)
    colours = torch.stack([shades[:-1], shades[1:]], 1).numpy()
    return api.add_line_segments(name, ends, colours, thickness=2.0, thickness_units="screen")


def camera_colours(count: int) -> list[tuple[int, int, int]]:
    """The colours of the cameras of a path, dark at the start and bright at the end."""
    return [tuple(c) for c in apply_colour_map(torch.linspace(FIRST_SHADE, 1, count)).tolist()]


def pose(cameras: Cameras, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A camera's orientation, w x y z, and position, as viser has them: camera to world, OpenCV axes."""
    T = cameras.T_world_camera[number].double()
    return quaternion_from_matrix(T[:3, :3]).roll(1, -1).numpy(), T[:3, 3].numpy()


def shape(cameras: Cameras, number: int) -> tuple[float, float]:
    """Vertical field of view [rad] and width over height of a camera, for square pixels and a centred lens."""
    K = cameras.K_px[number]
    return float(cameras.fov_y[number]), cameras.width * float(K[1, 1] / K[0, 0]) / cameras.height


def picture(frame: Tensor, longest: int = PICTURE) -> np.ndarray:
    """A frame uint8 [H, W, 3], no larger than `longest` on a side."""
    image = Image.fromarray(frame.numpy())
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    return np.asarray(image)


def median_distance(scene: Scene) -> float:
    """Of the valid points from the first camera; 1 without points."""
    distances = (scene.points[scene.mask] - scene.cameras.centres[0]).norm(dim=-1)
    return float(distances.median()) if len(distances) else 1.0
