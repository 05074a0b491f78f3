import pytest
import torch
from scipy.spatial.transform import Rotation

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.evaluation.metrics import absolute_relative, camera_auc
from gen3r.geometry.multi_view_stereo import mismatch, sharpen_frames, sharpen_pair
from gen3r.geometry.refinement import matched_pair, refine
from gen3r.geometry.structure_from_motion import SparseScene, align_cameras, align_depth, map_frames

SIZE = 224


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(5, frames=6, height=SIZE, width=SIZE)


def focal(clip: Clip) -> float:
    return float(clip.cameras.K_px[0, 0, 0])


def roughly(clip: Clip, degrees: float = 3.0, share: float = 0.3) -> torch.Tensor:
    """The cameras of a clip as a prediction might have them: turned and moved at random."""
    generator = torch.Generator().manual_seed(1)
    T = clip.cameras.T_world_camera.clone()
    turn = degrees * torch.randn(len(T), 3, generator=generator)
    T[:, :3, :3] @= torch.from_numpy(Rotation.from_rotvec(turn.numpy(), degrees=True).as_matrix()).float()
    T[:, :3, 3] += share * T[:, :3, 3].std(0).norm() * torch.randn(len(T), 3, generator=generator)
    return T


def test_matches_find_the_cameras_and_the_lens(clip: Clip) -> None:
    rough = roughly(clip)
    assert camera_auc(rough, clip.cameras.T_world_camera) < 0.7
    rounds = map_frames(clip.frames, rough, [1.25 * focal(clip)])
    by_all_pairs, from_prediction = next(rounds)
    for scene in (by_all_pairs, from_prediction):
        numbers = sorted(scene.T_world_camera)
        assert len(numbers) >= 5
        found = torch.stack([scene.T_world_camera[n] for n in numbers])
        assert camera_auc(found, clip.cameras.T_world_camera[numbers]) > 0.85
        assert scene.focal == pytest.approx(focal(clip), rel=0.2)
        pixels, z = scene.points[numbers[0]]
        truth = clip.depth[numbers[0]][pixels[:, 1].long(), pixels[:, 0].long()]
        ratio = z[truth > 0] / truth[truth > 0]
        assert float((ratio / ratio.median()).log().abs().median()) < 0.05


def test_the_same_frames_give_the_same_scenes_also_after_a_focal_length_that_cannot_be(clip: Clip) -> None:
    frames, rough = clip.frames[:4], roughly(clip)[:4]
    rounds = [map_frames(frames, rough, focals) for focals in ([focal(clip)], [9 * focal(clip), focal(clip)])]
    first, again = (list(next(x)) for x in rounds)
    for one, other in zip(first, again[-len(first) :], strict=True):
        assert one.focal == other.focal
        assert one.T_world_camera.keys() == other.T_world_camera.keys()
        assert all(torch.equal(T, other.T_world_camera[n]) for n, T in one.T_world_camera.items())


def test_frames_without_features_have_no_scene() -> None:
    grey, still = torch.full((3, 64, 64, 3), 127, dtype=torch.uint8), torch.eye(4).expand(3, 4, 4)
    assert not [scene for scenes in map_frames(grey, still, [64.0]) for scene in scenes]


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


def test_cameras_take_the_unit_of_the_depth(clip: Clip) -> None:
    truth = clip.cameras
    T = truth.T_world_camera.clone()
    T[1:, :3, 3] *= torch.tensor([-1.0, 1, 1])
    guess = Cameras(T, truth.K_px * torch.tensor([[1.3], [1.3], [1.0]]), SIZE, SIZE)
    cameras = align_cameras(2 * torch.where(clip.depth > 0, clip.depth, 1.0), guess, sparse(clip, 3.0), (SIZE, SIZE))
    torch.testing.assert_close(cameras.centres[:-1], 2 * truth.relative_to_first().centres[:-1], rtol=0.02, atol=0.01)
    torch.testing.assert_close(cameras.K_px[:, 0, 0], truth.K_px[:, 0, 0])
    # the frame that was not registered keeps its predicted motion from the one before
    ours, theirs = (torch.linalg.inv(x[-2]) @ x[-1] for x in (cameras.T_world_camera, guess.T_world_camera))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_depth_follows_the_points_near_them(clip: Clip) -> None:
    truth = torch.where(clip.depth > 0, clip.depth, 8.0)
    leaning = 2 * truth * torch.linspace(-0.2, 0.2, SIZE)[:, None].exp()
    aligned = align_depth(leaning, sparse(clip, 3.0), (SIZE, SIZE))
    known = clip.depth > 0
    before, after = (absolute_relative(x[:-1], clip.depth[:-1], known[:-1]) for x in (leaning, aligned))
    assert after < 0.5 * before
    assert torch.equal(aligned[-1], leaning[-1])  # no points


def wrong_cameras(cameras: Cameras) -> Cameras:
    """The same cameras, but those that moved to the right moved down."""
    T = cameras.T_world_camera.clone()
    T[:, [0, 1], 3] = T[:, [1, 0], 3]
    return Cameras(T, cameras.K_px, cameras.height, cameras.width)


def test_cameras_that_fit_the_frames_better_are_taken_and_no_others(clip: Clip) -> None:
    images = torch.nn.functional.avg_pool2d(clip.images[:4], 2)
    depth = torch.where(clip.depth > 0, clip.depth, 8.0)[:4, ::2, ::2]
    truth = clip.cameras[:4].relative_to_first().resize(SIZE // 2, SIZE // 2)
    wrong = wrong_cameras(truth)
    assert mismatch(images, depth, truth, [0, 3]) < 0.7 * mismatch(images, depth, wrong, [0, 3])
    found = refine(clip.frames[:4], images, depth, wrong)
    assert found is not None
    before, after = (camera_auc(x.T_world_camera, truth.T_world_camera) for x in (wrong, found[1]))
    assert after > before + 0.3
    assert refine(clip.frames[:4], images, depth, truth) is None


def test_two_photos_are_placed_by_their_matches(clip: Clip) -> None:
    photos, depth = clip.images[0:4:3], torch.where(clip.depth > 0, clip.depth, 8.0)[0:4:3, ::2, ::2]
    truth = clip.cameras[0:4:3].relative_to_first()
    wrong = wrong_cameras(truth)
    found = matched_pair(photos, depth, wrong)
    before, after = (camera_auc(x.T_world_camera, truth.T_world_camera) for x in (wrong, found))
    assert after > before + 0.3
    length = float(found.centres[1].norm() / truth.centres[1].norm())
    assert length == pytest.approx(1, abs=0.2)  # in the unit of the depth
    torch.testing.assert_close(found.K_px, truth.K_px)
    assert matched_pair(torch.full_like(photos, 0.5), depth, wrong) is wrong


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


def test_a_pair_is_sharpened_where_both_agree(clip: Clip) -> None:
    pair, known = slice(0, 4, 3), clip.depth[0:4:3] > 0
    images, cameras = clip.images[pair], clip.cameras[pair]
    bumps = torch.nn.functional.interpolate(
        0.2 * torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1)), (SIZE, SIZE), mode="bicubic"
    )[0]
    wrong = torch.where(known, clip.depth[pair], 8.0) * bumps.exp()
    small = slice(None, None, 2)
    half, seen = cameras.resize(SIZE // 2, SIZE // 2), torch.nn.functional.avg_pool2d(images, 2)
    sharp = sharpen_pair(seen, wrong[:, small, small], half, images.mean(1))
    before, after = (
        absolute_relative(x, clip.depth[pair][:, small, small], known[:, small, small])
        for x in (wrong[:, small, small], sharp)
    )
    assert after < 0.8 * before
    noise = torch.rand(seen[1:].shape, generator=torch.Generator().manual_seed(2))
    noisy = torch.cat([seen[:1], noise])
    other = sharpen_pair(noisy, wrong[:, small, small], half, noisy.mean(1))
    assert float((other / wrong[:, small, small]).log().abs().median()) < 0.05  # nothing to agree on


def test_sweeps_leave_what_has_no_texture(clip: Clip) -> None:
    plain = torch.full_like(clip.images[:3], 0.5)
    depth = torch.where(clip.depth > 0, clip.depth, 8.0)[:3]
    torch.testing.assert_close(sharpen_frames(plain, depth, clip.cameras[:3]), depth)
