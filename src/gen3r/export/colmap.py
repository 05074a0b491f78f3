"""A COLMAP model with its images, from which splat trainers start: points with the frames that see them."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gen3r.export.images import frame_name, write_frames
from gen3r.export.selection import Selection, thinned

if TYPE_CHECKING:
    import pycolmap

MAX_POINTS = 100_000  # trainers need no more to start
MAX_TRACK = 12  # frames in which a point is listed, evenly spaced among those that see it
SAME = 0.02  # relative difference of depths up to which a frame sees a point


def write_binary(selection: Selection, folder: Path) -> None:
    """Writes images/ and sparse/0/ with COLMAP's binary files."""
    _write(selection, folder, "write_binary")


def write_text(selection: Selection, folder: Path) -> None:
    """Writes images/ and sparse/0/ with COLMAP's text files."""
    _write(selection, folder, "write_text")


def _write(selection: Selection, folder: Path, writer: str) -> None:
    write_frames(selection, folder / "images")
    (folder / "sparse" / "0").mkdir(parents=True)
    model = colmap_model(selection)
    getattr(model, writer)(folder / "sparse" / "0")
    _check_whole(folder / "sparse" / "0", model.num_points3D())


def colmap_model(selection: Selection) -> "pycolmap.Reconstruction":
    """The cameras, frames and points of a selection; COLMAP's pixels and axes are Gen3R's."""
    import pycolmap

    scene = selection.scene
    cameras = scene.cameras
    pixels = thinned(selection.pixels, MAX_POINTS)
    points, colours = scene.points.flatten(0, 2)[pixels], scene.frames.flatten(0, 2)[pixels]
    seen, places = _observations(selection, pixels, points)
    model = pycolmap.Reconstruction()
    for number in range(1 if cameras.one_lens else len(cameras)):
        K = cameras.K_px[number].tolist()
        lens = [K[0][0], K[1][1], K[0][2], K[1][2]]
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(
                camera_id=number + 1, model="PINHOLE", width=cameras.width, height=cameras.height, params=lens
            )
        )
    poses = torch.linalg.inv(cameras.T_world_camera.double())[:, :3].numpy()
    tracks = [pycolmap.Track() for _ in range(len(pixels))]
    for number, pose in enumerate(poses):
        image = pycolmap.Image(
            name=frame_name(number),
            keypoints=places[number][seen[number]].double().numpy(),
            camera_id=1 if cameras.one_lens else number + 1,
            image_id=number + 1,
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        for place, point in enumerate(seen[number].nonzero()[:, 0].tolist()):
            tracks[point].add_element(number + 1, place)
    for point, colour, track in zip(points.double().numpy(), colours.numpy(), tracks, strict=True):
        model.add_point3D(point, track, colour)
    model.update_point_3d_errors()
    return model


def _observations(selection: Selection, pixels: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Which frame sees which point, bool [F, N], and where, in pixels [F, N, 2].

    A point is seen in its own frame, and where the depth of another frame at its place is its own.
    """
    frames = len(selection.scene.depth)
    own = pixels // selection.scene.depth[0].numel()
    found = [selection.seen(points, n, SAME) for n in range(frames)]
    seen = torch.stack([visible | (own == n) for n, (visible, _) in enumerate(found)])
    return _evenly(seen), torch.stack([places for _, places in found])


def _evenly(seen: Tensor) -> Tensor:
    """At most `MAX_TRACK` of the frames [F, N] that see each point, evenly spaced."""
    count = seen.sum(0)
    share = MAX_TRACK / count.clamp_min(MAX_TRACK)
    order = seen.cumsum(0) * share
    return seen & (order.floor() > ((seen.cumsum(0) - 1) * share).floor())


def _check_whole(folder: Path, points: int) -> None:
    """COLMAP's writer does not say that a disk is full, so what it wrote is read.

    Raises:
        OSError: not all of the points are there.
    """
    import pycolmap

    try:
        whole = pycolmap.Reconstruction(folder).num_points3D() == points
    except (ValueError, RuntimeError, IndexError):  # what its reader raises on a file that ends too early
        whole = False
    if not whole:
        raise OSError("the disk is full")
