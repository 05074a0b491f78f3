"""Each format read back by a reader of its own."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plyfile import PlyData

from gen3r.export.options import ExportOptions
from gen3r.export.ply import write_points
from gen3r.export.save import WRITERS
from gen3r.export.selection import Selection
from gen3r.export.video import FRAMES_PER_SECOND, write_video
from gen3r.media.drawing import apply_colour_map, colour_depth
from gen3r.scene import Scene
from tests.export.conftest import EVERYTHING, make_scene


def read_frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_ply_holds_the_valid_points_and_their_colours(scene: Scene, tmp_path: Path):
    write_points(Selection(scene, EVERYTHING), tmp_path / "points.ply")
    ply = PlyData.read(str(tmp_path / "points.ply"))
    vertices = ply["vertex"]
    assert not ply.text
    assert np.array_equal(np.stack([vertices[a] for a in "xyz"], -1), scene.points[scene.mask].numpy())
    colours = np.stack([vertices[c] for c in ("red", "green", "blue")], -1)
    assert np.array_equal(colours, scene.frames[scene.mask].numpy())


def test_a_saved_scene_has_the_points_that_are_exported(scene: Scene, tmp_path: Path):
    WRITERS["points.ply"](Selection(scene, ExportOptions()), tmp_path / "points.ply")
    vertices, cloud = PlyData.read(str(tmp_path / "points.ply"))["vertex"], scene.to_points()
    assert 0 < len(cloud) < int(scene.mask.sum())
    assert np.array_equal(np.stack([vertices[a] for a in "xyz"], -1), cloud.points.numpy())
    assert cloud.normals is not None
    assert np.array_equal(np.stack([vertices[a] for a in ("nx", "ny", "nz")], -1), cloud.normals.numpy())
    assert np.array_equal(vertices["confidence"], cloud.confidence)


def test_ply_of_no_valid_point(tmp_path: Path):
    scene = make_scene()
    scene.mask[:] = False
    WRITERS["points.ply"](Selection(scene, ExportOptions()), tmp_path / "points.ply")
    assert len(PlyData.read(str(tmp_path / "points.ply"))["vertex"].data) == 0


def test_video_keeps_colours_count_and_rate(tmp_path: Path):
    colours = torch.tensor([[200, 30, 40], [30, 180, 60], [40, 50, 210], [230, 220, 40], [128, 128, 128]])
    frames = colours.to(torch.uint8)[:, None, None].expand(5, 64, 48, 3)
    write_video(frames, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == FRAMES_PER_SECOND
        assert stream.codec_context.colorspace == 1  # BT.709, so players need not guess
    shown = read_frames(tmp_path / "clip.mp4")
    assert shown.shape == (5, 64, 48, 3)
    # Saturated colours tell a wrong matrix (about 10 levels) from rounding.
    assert np.abs(shown.astype(int) - frames.numpy().astype(int)).max() <= 4


def test_video_of_an_odd_size_keeps_every_pixel(tmp_path: Path):
    frames = torch.full((2, 33, 47, 3), 100, dtype=torch.uint8)
    write_video(frames, tmp_path / "clip.mp4")
    shown = read_frames(tmp_path / "clip.mp4")
    assert shown.shape == (2, 34, 48, 3)
    assert np.abs(shown.astype(int) - 100).max() <= 3


def test_colour_map_gets_lighter_all_the_way():
    colours = apply_colour_map(torch.linspace(0, 1, 64)).float()
    luma = colours @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (luma.diff() > 0).all()


@given(scale=st.floats(1e-3, 1e3))
def test_depth_colours_do_not_depend_on_the_unit(scale: float):
    scene = make_scene(frames=1)
    a, b = (colour_depth(d, scene.mask).int() for d in (scene.depth, scene.depth * scale))
    assert (a - b).abs().max() <= 2


def test_depth_colours_near_is_brighter_and_unknown_is_black():
    scene = make_scene(frames=2)
    depth = scene.depth.clone()
    depth[0, 0, 0], depth[0, 0, 1], depth[0, 0, 2] = float("nan"), float("inf"), 0
    colours = colour_depth(depth, scene.mask).float()
    assert (colours[0, 0, :3] == 0).all()
    assert colours[1, 10, 10].sum() > colours[1, 10, 40].sum() + 200


@pytest.mark.parametrize("depth", [torch.ones(1, 4, 4), torch.full((1, 4, 4), float("nan"))])
def test_depth_colours_of_a_flat_or_unknown_clip(depth: torch.Tensor):
    assert colour_depth(depth, depth > 0).shape == (1, 4, 4, 3)
