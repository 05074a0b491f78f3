"""A point cloud as a picture: footprints splatted through a z-buffer, on the CPU."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gen3r.scene import Scene

MAX_POINTS = 400_000
MAX_SPLAT_PX = 12
FIELD_OF_VIEW = 0.6  # radians, across the picture's short side
MARGIN = 1.06


@dataclass(frozen=True)
class PointCloud:
    """points [N, 3], colours uint8 [N, 3] and footprints [N]: how wide in the world each point's pixel is."""

    points: Tensor
    colours: Tensor
    footprints: Tensor

    def __getitem__(self, keep: Tensor) -> "PointCloud":
        return PointCloud(self.points[keep], self.colours[keep], self.footprints[keep])


@dataclass(frozen=True)
class View:
    """A pinhole view: T_camera_world [4, 4], focal length [px], and the picture's size [px]."""

    T_camera_world: Tensor
    focal: float
    height: int
    width: int

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [N, 2] and depths [N] of world points [N, 3]; what lies behind has a depth of at most 0."""
        local = points @ self.T_camera_world[:3, :3].T + self.T_camera_world[:3, 3]
        z = local[:, 2]
        pixels = self.focal * local[:, :2] / z.clamp_min(1e-6)[:, None]
        return pixels + torch.tensor([self.width / 2, self.height / 2]), z


def point_cloud(scene: Scene) -> PointCloud:
    """The scene's valid points, thinned evenly to `MAX_POINTS` with footprints that grow to match."""
    footprint = scene.depth / scene.cameras.K_px[:, 0, 0, None, None]
    mask = scene.mask & scene.points.isfinite().all(-1)
    cloud = PointCloud(scene.points[mask], scene.frames[mask], footprint[mask])
    stride = math.ceil(len(cloud.points) / MAX_POINTS)
    if stride > 1:
        cloud = cloud[torch.arange(0, len(cloud.points), stride)]
        cloud = PointCloud(cloud.points, cloud.colours, cloud.footprints * math.sqrt(stride))
    return cloud


def frame_view(points: Tensor, centres: Tensor, azimuth: float, elevation: float, height: int, width: int) -> View:
    """A view that holds nearly all of the points [N, 3], and all camera centres [F, 3], from a direction.

    azimuth, elevation [rad]: of the viewer, 0 and 0 being behind the first camera, turning left, then rising. Two
    points in a hundred may fall outside, so that a stray one does not shrink the rest.
    """
    R = _rotation_camera_world(azimuth, elevation)
    points, centres = _thinned(points.double()) @ R.T, centres.double() @ R.T
    bounds = torch.quantile(points, torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0)
    middle = torch.cat([bounds, centres]).aminmax(dim=0)
    centre = (middle.min + middle.max) / 2
    focal = min(height, width) / 2 / math.tan(FIELD_OF_VIEW / 2)
    edge = torch.tensor([width, height], dtype=torch.float64) / (2 * focal)

    def asked(local: Tensor) -> Tensor:
        """How far each place asks the viewer to stand back to come inside the picture's edges."""
        return ((local - centre)[:, :2].abs() / edge).amax(-1) - (local - centre)[:, 2]

    distance = MARGIN * float(torch.maximum(torch.quantile(asked(points), 0.98), asked(centres).max()))
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = R, -centre
    T[2, 3] += distance
    return View(T.float(), focal, height, width)


def render(cloud: PointCloud, view: View, background: tuple[int, int, int]) -> Tensor:
    """The picture uint8 [H, W, 3] of a cloud: each point a square of its own width, the nearest winning."""
    pixels, z = view.project(cloud.points)
    size = (cloud.footprints * view.focal / z.clamp_min(1e-6)).ceil().clamp(1, MAX_SPLAT_PX).long()
    corner = (pixels - size[:, None] / 2).round().long()
    # Depth in the high bits and the point's number in the low ones: one minimum finds the nearest and who it is.
    key = (z / z.amax().clamp_min(1e-6) * (2**30)).long() * 2**32 + torch.arange(len(z))
    empty = torch.iinfo(torch.int64).max
    buffer = torch.full((view.height * view.width,), empty)
    for dy in range(MAX_SPLAT_PX):
        for dx in range(MAX_SPLAT_PX):
            x, y = corner[:, 0] + dx, corner[:, 1] + dy
            drawn = (size > max(dx, dy)) & (z > 0) & (x >= 0) & (x < view.width) & (y >= 0) & (y < view.height)
            buffer.scatter_reduce_(0, (y * view.width + x)[drawn], key[drawn], "amin")
    image = torch.tensor(background, dtype=torch.uint8).repeat(len(buffer), 1)
    hit = buffer != empty
    image[hit] = cloud.colours[buffer[hit] % 2**32]
    return image.unflatten(0, (view.height, view.width))


def _rotation_camera_world(azimuth: float, elevation: float) -> Tensor:
    """World-to-camera rotation [3, 3] of a viewer that looks at the world's middle, y down."""
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    turn = torch.tensor([[ca, 0, -sa], [0, 1, 0], [sa, 0, ca]], dtype=torch.float64)
    rise = torch.tensor([[1, 0, 0], [0, ce, -se], [0, se, ce]], dtype=torch.float64)
    return rise @ turn


def _thinned(points: Tensor, most: int = 100_000) -> Tensor:
    """At most `most` of the points, evenly: torch.quantile takes no more than 16 million values."""
    return points[:: math.ceil(len(points) / most)]
