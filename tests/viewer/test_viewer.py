"""The parts of the viewer without a browser: colours, picking, key frames, playback, downloads, addresses."""

import io
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gen3r.cli.main import main
from gen3r.errors import InputError
from gen3r.export.options import ExportOptions
from gen3r.export.selection import Selection
from gen3r.viewer.colouring import COLOURINGS, point_colours
from gen3r.viewer.downloads import available_formats, export_file, video_file
from gen3r.viewer.key_frames import KeyFrames, pose_matrix
from gen3r.viewer.measure import Ruler
from gen3r.viewer.panel import key_frames_of
from gen3r.viewer.server import address_lines, start_server, stop_server
from gen3r.viewer.shown import ShownScene
from gen3r.viewer.view import show_scenes
from tests.export.conftest import make_scene
from tests.poses import random_poses


@pytest.mark.parametrize("name", COLOURINGS)
def test_every_point_has_a_colour(name: str):
    selection = Selection(make_scene(), ExportOptions())
    colours = point_colours(selection, name)
    assert colours.shape == (len(selection.pixels), 3)
    assert colours.dtype == torch.uint8
    if name == "depth":  # near is bright
        depth = selection.scene.depth.flatten()[selection.pixels]
        brightness = colours.float().mean(-1)
        assert brightness[depth < 0.6].min() > brightness[depth > 1.5].max()


def test_points_are_drawn_by_frame(server):
    shown = ShownScene(server, "/scene", make_scene())
    shown.draw(ExportOptions(voxel=0))
    assert sorted(shown._nodes) == [0, 1, 2, 3, 4]
    drawn = sum(len(node.centers) for node in shown._nodes.values())
    assert drawn == len(shown.selection.pixels)
    shown.show_frame(2, "this one")
    assert [n for n, node in shown._nodes.items() if node.visible] == [2]
    shown.show_frame(1, "up to this one")
    assert [n for n, node in shown._nodes.items() if node.visible] == [0, 1]
    np.testing.assert_allclose(shown.moving.position, shown.scene.cameras.centres[1].numpy())
    shown.draw(kind="points", colouring="depth")
    assert [n for n, node in shown._nodes.items() if node.visible] == [0, 1]
    shown.show_cameras(False)
    assert not shown.moving.visible


def test_a_scene_without_points_is_shown(server):
    scene = make_scene(frames=1)
    scene.mask[:] = False
    panel = show_scenes(server, {"1 empty": scene})
    panel.draw(kind="points")
    assert panel.shown.pick(np.zeros(3), np.array([0.0, 0.0, 1.0])) is None


def test_a_ray_meets_the_first_surface(server):
    scene, offset = make_scene(), np.array([3.0, 0.0, 0.0])
    shown = ShownScene(server, "/scene", scene, offset)
    shown.draw(ExportOptions(edges=0, grazing=0, unsure=0, outliers=0))
    wanted = scene.points[0, 12, 12]  # on the near square, before the wall
    found = shown.pick(offset, wanted.numpy())
    assert found is not None
    assert (found[1] - wanted).norm() < 0.01
    assert torch.equal(scene.points.flatten(0, 2)[found[0]], found[1])
    assert shown.pick(offset, np.array([0.0, 0.0, -1.0])) is None
    between = (scene.points[0, 12, 12] + scene.points[0, 12, 13]) / 2  # seen from close by
    eye = between + torch.tensor([0.0, 0.0, -0.1])
    assert shown.pick(eye.numpy() + offset, np.array([0.0, 0.0, 1.0])) is not None


def test_a_ruler_measures_and_sets_the_scale(server):
    scene = make_scene()
    shown = ShownScene(server, "/scene", scene)
    shown.draw(ExportOptions(edges=0, grazing=0, unsure=0, outliers=0))
    ruler = Ruler(server, shown)
    ends = scene.points[0, 12, 10], scene.points[0, 28, 40]
    with pytest.raises(InputError, match="pick two points"):
        ruler.known(1.0)
    for place in ends:
        assert ruler.pick(np.zeros(3), place.numpy())
    length = float((ends[0] - ends[1]).norm())
    assert ruler.length == pytest.approx(length, rel=0.02)
    assert ruler.known(2.0) == pytest.approx(2.0 / length, rel=0.02)
    assert not ruler.pick(np.zeros(3), np.array([0.0, 0.0, -1.0]))
    ruler.pick(np.zeros(3), ends[0].numpy())
    assert ruler.length is None
    ruler.clear()
    assert ruler.picked == []


def test_key_frames_make_a_path(server):
    changes = []
    shown = ShownScene(server, "/scene", make_scene())
    keys = key_frames_of(server, shown)
    assert isinstance(keys, KeyFrames)
    keys.on_change = lambda: changes.append(len(keys))
    with pytest.raises(InputError, match="no key frame"):
        keys.cameras(5)
    poses = random_poses(0, 3).float()
    for T in poses:
        keys.add(T)
    cameras = keys.cameras(9)
    torch.testing.assert_close(cameras.T_world_camera[::4], poses, atol=1e-5, rtol=0)
    assert torch.equal(cameras.K_px[0], shown.scene.cameras.K_px[0])
    keys.remove_last()
    assert (len(keys), changes) == (2, [1, 2, 3, 2])


def test_a_moved_gizmo_moves_its_key_frame(server):
    keys = key_frames_of(server, ShownScene(server, "/scene", make_scene()))
    keys.set([*random_poses(1, 2).float()])
    gizmo = server.scene.get_handle_by_name("/scene/drawn_path/2")
    gizmo.position = np.array([1.0, 2.0, 3.0])
    keys._moved(1, gizmo)
    np.testing.assert_allclose(keys.keys().centres[1].numpy(), [1, 2, 3])


def test_poses_of_viser_are_ours(server):
    scene = make_scene()
    T = random_poses(2, 5).float()
    shown = ShownScene(server, "/scene", replace(scene, cameras=replace(scene.cameras, T_world_camera=T)))
    for number in range(5):
        shown.show_frame(number)
        moved = pose_matrix(shown.moving.wxyz, shown.moving.position)
        torch.testing.assert_close(moved, T[number], atol=1e-5, rtol=0)


def test_playback_goes_round(server):
    panel = show_scenes(server, {"1 long": make_scene(5), "2 short": make_scene(2)})
    seen = []
    for _ in range(5):
        panel.playback.step()
        panel.playback.show(int(panel.playback.slider.value) - 1)
        seen.append([shown.frame for shown in panel.scenes.values()])
    assert seen == [[1, 1], [2, 1], [3, 1], [4, 1], [0, 0]]


def test_scenes_stand_side_by_side(server):
    scene = make_scene()
    panel = show_scenes(server, {"1 a": scene, "2 b": scene})
    first, second = panel.scenes.values()
    right = float((first.scene.points[..., 0][scene.mask]).quantile(0.98))
    left = float((second.scene.points[..., 0][scene.mask]).quantile(0.02)) + second.offset[0]
    assert first.offset[0] == 0
    assert left > right


def test_downloads_are_files_or_zips():
    scene, options = make_scene(), ExportOptions()
    name, content = export_file(scene, "tum", options)
    assert name == "trajectory.tum"
    assert len(content.splitlines()) == 5
    name, content = export_file(scene, "frames", options)
    assert name == "frames.zip"
    assert len(zipfile.ZipFile(io.BytesIO(content)).namelist()) >= 5
    assert {"ply", "html", "glb"} <= set(available_formats())
    assert video_file(scene.frames)[4:8] == b"ftyp"


def test_addresses_say_who_can_come(server):
    port = server.get_port()
    assert f"http://127.0.0.1:{port}" in address_lines(server, "127.0.0.1")[0]
    assert "no password" in address_lines(server, "0.0.0.0")[1]
    other = start_server("127.0.0.1", port, "Gen3R")  # in use: the next one
    assert other.get_port() > port
    assert other.request_share_url() is None
    stop_server(other)
    with pytest.raises(InputError, match=r"no address 192\.0\.2\.1"):
        start_server("192.0.2.1", 0, "Gen3R")


def test_the_command_tells_its_address_and_ends(tmp_path: Path):
    make_scene().save(tmp_path / "scene.safetensors")
    arguments = [sys.executable, "-m", "gen3r.cli.main", "view", str(tmp_path)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "gen3r: open http://127.0.0.1:" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: SCENE"),
        (["nothing"], "no scene at nothing"),
        (["nothing", "--port", "70000"], "a port is a number from 1 to 65535, not 70000"),
        (["nothing", "--port", "0"], "--port must be at least 1, not 0"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys):
    assert main(["view", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
