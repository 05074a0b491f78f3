"""The small world: exact depth and cameras, seeds and splits; textures and moving photos."""

import numpy as np
import pytest
import torch

from gen3r.data.synthetic import OnlineClips, moving_photos, render_clip
from gen3r.data.synthetic.textures import TEXTURES, TILE, Atlas
from gen3r.geometry.points import project, unproject


def test_a_seed_is_a_clip() -> None:
    one, again = (render_clip(5, 2, 56, 56) for _ in range(2))
    assert torch.equal(one.frames, again.frames)
    assert torch.equal(one.cameras.T_world_camera, again.cameras.T_world_camera)
    other, held_out = render_clip(6, 2, 56, 56), render_clip(5, 2, 56, 56, split="test")
    assert not torch.equal(one.frames, other.frames)
    assert not torch.equal(one.frames, held_out.frames)


@pytest.mark.parametrize(
    ("seed", "caption", "colour", "depth", "first", "last", "focal", "pixel"),
    [
        (
            2, "A room with white brick walls and a brown tiled floor, with a black chair, a green cabinet and a "
            "purple chair.", [108.753, 90.0089, 71.9235], 3.25989, [1.102515, -1.478328, 1.753643],
            [0.372675, -0.37994, 1.400682], 49.65767, [138, 131, 158],
        ),
        (
            1, "An outdoor scene: a blue bench, a blue kiosk, a green lamp post and a green planter on a brown "
            "checkered plaza before orange buildings, a clear sky.", [104.7783, 99.8832, 102.1608], 8.24367,
            [-1.395252, -5.385344, 2.236862], [2.637805, -6.321119, 2.233609], 43.17665, [38, 29, 26],
        ),
    ],
)  # fmt: skip
def test_the_small_world_stays_as_it_is(
    seed: int, caption: str, colour: list[float], depth: float, first: list[float], last: list[float], focal: float,
    pixel: list[int],
) -> None:  # fmt: skip
    """nano is trained and scored on these clips."""
    clip = render_clip(seed, 3, 56, 56)
    assert clip.caption == caption
    assert clip.frames.double().mean((0, 1, 2)).tolist() == pytest.approx(colour, abs=2e-3)
    assert clip.frames[1, 20, 30].tolist() == pixel
    assert float(clip.depth.double().mean()) == pytest.approx(depth, abs=1e-4)
    assert clip.cameras.centres[0].tolist() == pytest.approx(first, abs=1e-5)
    assert clip.cameras.centres[-1].tolist() == pytest.approx(last, abs=1e-5)
    assert float(clip.cameras.K_px[0, 0, 0]) == pytest.approx(focal, abs=1e-4)
    assert clip.attributes is None
    assert clip.moving is None


@pytest.mark.parametrize("seed", [1, 2, 3, 6])
def test_frames_agree_through_depth_and_cameras(seed: int) -> None:
    """The surfaces of frame 0, moved into frame 1, meet the depth and the colour that frame 1 has there."""
    clip = render_clip(seed, 5, 112, 112)
    T, K = clip.cameras.T_world_camera[[0, 1]], clip.cameras.K_px[[0, 1]]
    points = unproject(clip.depth[0], T[0], K[0])[clip.depth[0] > 0]
    pixel, depth = project(points, T[1], K[1])
    column, row = pixel.floor().long().unbind(-1)
    inside = (column >= 0) & (column < 112) & (row >= 0) & (row < 112)
    there = clip.depth[1][row[inside], column[inside]]
    off = (there / depth[inside] - 1).abs()
    assert off.median() < 0.01
    colour = clip.frames[0][clip.depth[0] > 0][inside].float()
    difference = (clip.frames[1][row[inside], column[inside]].float() - colour).abs().mean(-1)
    assert difference.median() < 12
    wrong = K.clone()
    wrong[:, 0, 0] *= 1.3
    bad = unproject(clip.depth[0], T[0], wrong[0])[clip.depth[0] > 0]
    assert (project(bad, T[1], K[1])[0] - pixel).norm(dim=-1).median() > 1.0


def test_endless_clips_are_rendered_as_far_as_they_are_taken() -> None:
    clips = OnlineClips((5, 28, 28))
    index = torch.tensor([[0, 3], [4, 2]])  # in order, and played backwards
    taken = clips.take([7, 8], index)
    for row, number in enumerate((7, 8)):
        clip = clips[number]
        assert torch.equal(taken["frames"][row], clip.frames[index[row]])
        assert torch.equal(taken["depth"][row], clip.depth[index[row]])
        assert torch.equal(taken["T_world_camera"][row], clip.cameras.T_world_camera[index[row]])
        assert taken["captions"][row] == clip.caption
    assert not torch.equal(clips[7].frames, clips[8].frames)
    assert not torch.equal(clips[7].frames, render_clip(7, 5, 28, 28).frames)


def test_captions_and_motion_vary() -> None:
    clips = [render_clip(seed, 3, 28, 28) for seed in range(8)]
    assert len({c.caption for c in clips}) == 8
    assert {"room" in c.caption for c in clips} == {True, False}
    for clip in clips:
        assert (clip.cameras.centres[2] - clip.cameras.centres[0]).norm() > 0.01
        assert (clip.depth > 0).float().mean() > 0.3


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_fill_their_tile(name: str) -> None:
    texture = TEXTURES[name](np.random.default_rng(0), np.array([0.7, 0.4, 0.2]), np.array([0.2, 0.3, 0.5]))
    assert np.broadcast_to(texture, (TILE, TILE, 3)).shape == (TILE, TILE, 3)
    assert np.isfinite(texture).all()
    atlas = Atlas([np.broadcast_to(texture, (TILE, TILE, 3))])
    near = atlas.sample(np.zeros(5, int), np.random.default_rng(1).random((5, 2)), np.full(5, 0.001))
    far = atlas.sample(np.zeros(5, int), np.random.default_rng(1).random((5, 2)), np.full(5, 10.0))
    assert near.shape == (5, 3)
    assert np.ptp(far, axis=0).max() <= np.ptp(np.clip(texture, 0, 1)) + 1e-6


def test_photos_move() -> None:
    clip = moving_photos(np.random.default_rng(0), 5, 56, 84)
    assert clip.shape == (5, 3, 56, 84)
    assert (clip[0].float() - clip[-1].float()).abs().mean() > 0.5
