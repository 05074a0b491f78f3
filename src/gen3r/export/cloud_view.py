"""A point cloud of a scene, viewed from outside."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gen3r.geometry.clouds import PointCloud
from gen3r.geometry.splatting import nearest_points

MAX_SPLAT_PX = 12
FIELD_OF_VIEW = 0.6  # radians, across the shorter side of the image
MARGIN = 1.06


@dataclass(frozen=True)
class View:
    """A pinhole view: T_camera_world [4, 4], focal length [px], and the size of the image [px]."""

    T_camera_world: Tensor
    focal: float
    height: int
    width: int

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [N, 2] and z-depths [N] of world points [N, 3]; points behind the viewer have a depth of at most 0."""
        local = points @ self.T_camera_world[:3, :3].T + self.T_camera_world[:3, 3]
        z = local[:, 2]
        pixels = self.focal * local[:, :2] / z.clamp_min(1e-6)[:, None]
        return pixels + torch.tensor([self.width / 2, self.height / 2]), z


def frame_view(points: Tensor, centres: Tensor, azimuth: float, elevation: float, height: int, width: int) -> View:
    """A view from a direction that shows 98 % of the points [N, 3] and all camera centres [F, 3].

    azimuth, elevation [rad]: the direction of the viewer. At 0 and 0 the viewer is behind the first camera; azimuth
    moves to the left, elevation upwards. The other 2 % of the points may be stray and would shrink the rest.
    """
    R = _rotation_camera_world(azimuth, elevation)
    points = points[:: math.ceil(len(points) / 100_000)]  # torch.quantile takes no more than 16 million values
    points, centres = points.double() @ R.T, centres.double() @ R.T
    bounds = torch.quantile(points, torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0)
    extent = torch.cat([bounds, centres]).aminmax(dim=0)
    centre = (extent.min + extent.max) / 2
    focal = min(height, width) / 2 / math.tan(FIELD_OF_VIEW / 2)
    edge = torch.tensor([width, height], dtype=torch.float64) / (2 * focal)

    def least_distance(local: Tensor) -> Tensor:
        """The distance of the viewer at which each point comes inside the edges of the image."""
        return ((local - centre)[:, :2].abs() / edge).amax(-1) - (local - centre)[:, 2]

    distance = torch.maximum(torch.quantile(least_distance(points), 0.98), least_distance(centres).max())
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = R, -centre
    T[2, 3] += MARGIN * float(distance)
    return View(T.float(), focal, height, width)


def render(cloud: PointCloud, view: View, background: tuple[int, int, int]) -> Tensor:
    """The image uint8 [H, W, 3] of a cloud with colours and widths: each point is a square of its width."""
    assert cloud.colours is not None
    assert cloud.widths is not None
    pixels, z = view.project(cloud.points)
    size = (cloud.widths * view.focal / z.clamp_min(1e-6)).ceil().clamp(1, MAX_SPLAT_PX).long()
    corner = (pixels - size[:, None] / 2).round()
    # The first of equally near points wins: points are reversed, since the last one wins in the z-buffer.
    corner, relative, size = (x.flip(0)[None] for x in (corner, z / z.amax().clamp_min(1e-6), size))
    nearest, drawn = nearest_points(corner, relative, view.height, view.width, size)
    colours = cloud.colours.flip(0)[nearest[0]]
    return torch.where(drawn[0, ..., None], colours, torch.tensor(background, dtype=torch.uint8))


def _rotation_camera_world(azimuth: float, elevation: float) -> Tensor:
    """World-to-camera rotation [3, 3] of a viewer that looks at the world's centre, y down."""
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    turn = torch.tensor([[ca, 0, -sa], [0, 1, 0], [sa, 0, ca]], dtype=torch.float64)
    rise = torch.tensor([[1, 0, 0], [0, ce, -se], [0, se, ce]], dtype=torch.float64)
    return rise @ turn
