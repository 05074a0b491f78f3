"""Trajectories and resampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gen3r.cameras.camera import Cameras
from gen3r.cameras.paths import TRAJECTORIES, resample, trajectory
from gen3r.cli.main import build_parser
from gen3r.errors import InputError
from gen3r.geometry.points import project
from tests.poses import random_cameras, seeds

K = torch.tensor([[100.0, 0, 56], [0, 100, 56], [0, 0, 1]])


@pytest.mark.parametrize("name", TRAJECTORIES)
@pytest.mark.parametrize("easing", ["linear", "ease"])
def test_every_path_starts_at_the_identity(name: str, easing: str) -> None:
    path = trajectory(name, 9, K, 112, 112, 2.0, easing=easing)
    assert len(path) == 9
    torch.testing.assert_close(path.T_world_camera[0], torch.eye(4))


def test_published_meaning() -> None:
    zoom = trajectory("zoom_in", 5, K, 112, 112, scene_depth=2.0)
    torch.testing.assert_close(zoom.centres[-1], torch.tensor([0.0, 0.0, 1.6]))
    for name, axis in (("arc_left", 1), ("arc_right", 1), ("translate_up", 0), ("translate_down", 0)):
        path = trajectory(name, 5, K, 112, 112, scene_depth=2.0)
        assert path.centres.abs().max() == 0
        angle = torch.arccos((path.T_world_camera[-1, :3, :3].trace() - 1) / 2)
        torch.testing.assert_close(torch.rad2deg(angle), torch.tensor(15.0), atol=1e-2, rtol=0)
        assert path.T_world_camera[-1, axis, axis] == 1


def test_honest_names_do_what_they_say() -> None:
    end = {n: trajectory(n, 5, K, 112, 112).T_world_camera[-1] for n in TRAJECTORIES}
    assert end["truck_left"][0, 3] < 0 < end["truck_right"][0, 3]
    assert end["pedestal_up"][1, 3] < 0 < end["pedestal_down"][1, 3]  # y points down
    assert end["dolly_out"][2, 3] < 0 < end["dolly_in"][2, 3]
    assert end["pan_left"][0, 2] < 0 < end["pan_right"][0, 2]  # where the camera's z axis points
    assert end["tilt_up"][1, 2] < 0 < end["tilt_down"][1, 2]
    assert end["orbit_left"][0, 3] < 0 < end["orbit_right"][0, 3]


@pytest.mark.parametrize("name", ["orbit_left", "orbit_right", "spiral"])
def test_paths_that_look_at_the_scene(name: str) -> None:
    path = trajectory(name, 7, K, 112, 112, scene_depth=3.0)
    target = torch.tensor([[0.0, 0.0, 3.0]])
    for T in path.T_world_camera:
        pixel, depth = project(target, T, K)
        torch.testing.assert_close(pixel, torch.tensor([[56.0, 56.0]]), atol=1e-3, rtol=0)
        assert depth > 0


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(InputError, match="did you mean orbit_left"):
        trajectory("orbit_lefft", 5, K, 112, 112)
    with pytest.raises(InputError, match="ask the pipeline for it, cameras='between'"):
        trajectory("between", 5, K, 112, 112)
    with pytest.raises(InputError, match="easing"):
        trajectory("still", 5, K, 112, 112, easing="bounce")
    with pytest.raises(InputError, match="depth"):
        trajectory("still", 5, K, 112, 112, scene_depth=float("nan"))


def test_help_lists_every_path_with_its_extent(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["generate", "--help"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    listed = {words[0]: float(words[1]) for words in lines if words and words[0] in TRAJECTORIES}
    assert listed == {name: path.extent for name, path in TRAJECTORIES.items()}


@given(seeds, st.integers(1, 30))
@settings(max_examples=20)
def test_resampling_keeps_the_ends(seed: int, frames: int) -> None:
    cameras = random_cameras(seed, 4)
    path = resample(cameras, frames)
    assert len(path) == frames
    assert torch.equal(path.T_world_camera[0], cameras.T_world_camera[0]) or frames == 1
    if frames > 1:
        assert torch.equal(path.T_world_camera[-1], cameras.T_world_camera[-1])
        assert torch.equal(path.K_px[-1], cameras.K_px[-1])


def test_resampling_turns_evenly() -> None:
    pan = trajectory("pan_right", 2, K, 112, 112, extent=90)
    middle = resample(pan, 3).T_world_camera[1, :3, 2]
    torch.testing.assert_close(middle, torch.tensor([0.5**0.5, 0, 0.5**0.5]), atol=1e-5, rtol=0)
    single = resample(Cameras(torch.eye(4)[None], K[None], 112, 112), 4)
    assert torch.equal(single.T_world_camera, torch.eye(4).repeat(4, 1, 1))
