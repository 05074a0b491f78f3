import math

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.evaluation.metrics import absolute_relative, camera_auc
from gen3r.geometry.multi_view_stereo import sharpen_frames
from gen3r.geometry.points import project, unproject
from gen3r.geometry.structure_from_motion import SparseScene, align_to_points, map_frames

SIZE = 224


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(5, frames=6, height=SIZE, width=SIZE)


def focal(clip: Clip) -> float:
    return float(clip.cameras.K_px[0, 0, 0])


def test_matches_find_the_cameras_and_the_lens(clip: Clip) -> None:
    scene = map_frames(clip.frames, 1.25 * focal(clip))
    assert scene is not None
    numbers = sorted(scene.T_world_camera)
    assert len(numbers) >= 5
    found = torch.stack([scene.T_world_camera[n] for n in numbers])
    assert camera_auc(found, clip.cameras.T_world_camera[numbers]) > 0.85
    assert scene.focal == pytest.approx(focal(clip), rel=0.2)
    pixels, z = scene.points[numbers[0]]
    truth = clip.depth[numbers[0]][pixels[:, 1].long(), pixels[:, 0].long()]
    ratio = z[truth > 0] / truth[truth > 0]
    assert float((ratio / ratio.median()).log().abs().median()) < 0.05


def test_the_same_frames_give_the_same_scene(clip: Clip) -> None:
    first, again = (map_frames(clip.frames[:4], focal(clip)) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.focal == again.focal
    torch.testing.assert_close(first.T_world_camera, again.T_world_camera, rtol=0, atol=0)


def test_frames_without_features_have_no_scene() -> None:
    assert map_frames(torch.full((3, 64, 64, 3), 127, dtype=torch.uint8), 64.0) is None


def sparse(clip: Clip, unit: float) -> SparseScene:
    """True points of every frame but the last, in another unit of length."""
    generator = torch.Generator().manual_seed(0)
    cameras = clip.cameras.scaled(unit)
    poses, points = {}, {}
    for n in range(len(clip.depth) - 1):
        row, column = torch.randint(SIZE, (2, 600), generator=generator)
        z = unit * clip.depth[n][row, column]
        poses[n] = cameras.T_world_camera[n]
        points[n] = torch.stack([column, row], -1)[z > 0] + 0.5, z[z > 0]
    return SparseScene(poses, focal(clip), points)


def test_depth_and_cameras_follow_the_points(clip: Clip) -> None:
    known = clip.depth > 0
    across = torch.linspace(-0.5, 0.5, SIZE).exp()
    wrong = torch.where(known, clip.depth, 1.0) * across  # wrong by a factor of 0.6 to 1.6 from left to right
    truth = clip.cameras
    T = truth.T_world_camera.clone()
    T[1:, :3, 3] *= torch.tensor([-1.0, 1, 1])
    guess = Cameras(T, truth.K_px * torch.tensor([[1.3], [1.3], [1.0]]), SIZE, SIZE)
    depth, cameras = align_to_points(wrong, guess, sparse(clip, 3.0), (SIZE, SIZE))
    before, after = (absolute_relative(x[:-1], clip.depth[:-1], known[:-1]) for x in (wrong, depth))
    assert before > 0.2
    assert after < 0.06
    assert camera_auc(cameras.T_world_camera[:-1], truth.T_world_camera[:-1]) > 0.99
    torch.testing.assert_close(cameras.K_px[:, 0, 0], truth.K_px[:, 0, 0])
    # the frame that was not registered keeps its predicted motion from the one before
    ours, theirs = (torch.linalg.inv(x[-2]) @ x[-1] for x in (cameras.T_world_camera, guess.T_world_camera))
    torch.testing.assert_close(ours[:3, :3], theirs[:3, :3], atol=1e-5, rtol=0)
    # depth and cameras share a unit: a point of one frame lies on the surface of the next
    points = unproject(depth[0], cameras.T_world_camera[0], cameras.K_px[0])[known[0]]
    _, z = project(points, cameras.T_world_camera[1], cameras.K_px[1])
    truth_points = unproject(clip.depth[0], truth.T_world_camera[0], truth.K_px[0])[known[0]]
    _, true_z = project(truth_points, truth.T_world_camera[1], truth.K_px[1])
    ratio = (z / true_z)[true_z > 0.1]
    assert math.isclose(float(ratio.log().std()), 0, abs_tol=0.12)


def test_a_scene_without_points_changes_nothing(clip: Clip) -> None:
    empty = SparseScene({0: torch.eye(4)}, 1.0, {0: (torch.zeros(0, 2), torch.zeros(0))})
    depth, cameras = align_to_points(clip.depth, clip.cameras, empty, (SIZE, SIZE))
    assert depth is clip.depth
    assert cameras is clip.cameras


def test_sweeps_sharpen_depth(clip: Clip) -> None:
    known = clip.depth > 0
    generator = torch.Generator().manual_seed(1)
    bumps = torch.nn.functional.interpolate(
        0.2 * torch.randn(1, 6, 5, 5, generator=generator), (SIZE, SIZE), mode="bicubic"
    )[0]
    wrong = torch.where(known, clip.depth, 8.0) * bumps.exp()
    sharp = sharpen_frames(clip.images, wrong, clip.cameras)
    before, after = (absolute_relative(x, clip.depth, known) for x in (wrong, sharp))
    assert after < 0.7 * before


def test_sweeps_leave_what_has_no_texture(clip: Clip) -> None:
    plain = torch.full_like(clip.images, 0.5)
    depth = torch.where(clip.depth > 0, clip.depth, 8.0)
    torch.testing.assert_close(sharpen_frames(plain, depth, clip.cameras), depth)
