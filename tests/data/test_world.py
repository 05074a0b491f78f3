"""The procedural world: exact depth and cameras, seeds, splits and shards."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gen3r.data import shards
from gen3r.data.synthetic.photos import moving_photos
from gen3r.data.shards import ClipShards
from gen3r.data.synthetic import synthesize
from gen3r.data.synthetic import EndlessClips, render_clip
from gen3r.data.synthetic.textures import TEXTURES, TILE, Atlas
from gen3r.errors import InputError
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
    clips = EndlessClips((5, 28, 28))
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


def test_shards_resume_and_read_back(tmp_path: Path) -> None:
    synthesize(tmp_path, 3, frames=2, size=28, workers=1)
    (path,) = tmp_path.glob("*.safetensors")
    written = path.stat().st_mtime_ns
    synthesize(tmp_path, 3, frames=2, size=28, workers=1)
    assert path.stat().st_mtime_ns == written
    clips = ClipShards(tmp_path)
    direct = render_clip(2, 2, 28, 28)
    assert len(clips) == 3
    assert torch.equal(clips[2].frames, direct.frames)
    torch.testing.assert_close(clips[2].depth, direct.depth, rtol=1e-3, atol=1e-3)
    assert clips[2].caption == direct.caption == clips.captions[2]
    with pytest.raises(InputError, match="holds no clips"):
        ClipShards(tmp_path / "none")


def test_more_clips_complete_the_last_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_CLIPS", 2)
    synthesize(tmp_path, 3, frames=1, size=28, workers=1)
    kept = tmp_path / "clips-000000.safetensors"
    written = kept.stat().st_mtime_ns
    synthesize(tmp_path, 5, frames=1, size=28, workers=1)
    assert kept.stat().st_mtime_ns == written
    assert ClipShards(tmp_path).captions == [render_clip(seed, 1, 28, 28).caption for seed in range(5)]


def test_seeds_go_on_from_the_first(tmp_path: Path) -> None:
    synthesize(tmp_path, 2, frames=1, size=28, workers=1, seed=7)
    assert ClipShards(tmp_path).captions == [render_clip(seed, 1, 28, 28).caption for seed in (7, 8)]


def test_skies_change_what_has_a_sky(tmp_path: Path) -> None:
    plain = [render_clip(seed, 2, 28, 28) for seed in range(12)]
    synthesize(tmp_path / "all", 12, frames=2, size=28, workers=1, skies=1.0)
    synthesize(tmp_path / "half", 12, frames=2, size=28, workers=1, skies=0.5)
    changed = []
    for number, clip in enumerate(plain):
        other, half = (ClipShards(tmp_path / name)[number] for name in ("all", "half"))
        same = torch.equal(other.frames, clip.frames)
        assert same == bool((clip.depth > 0).all())
        kept = torch.nn.functional.max_pool2d((other.depth == 0).float(), 3, 1, 1) == 0  # the edge of the sky is soft
        assert torch.equal(other.frames[kept], clip.frames[kept])
        assert other.caption == clip.caption
        assert torch.equal(half.frames, clip.frames) or torch.equal(half.frames, other.frames)
        changed.append((not same, not torch.equal(half.frames, clip.frames)))
    everywhere, somewhere = torch.tensor(changed).sum(0).tolist()
    assert 0 < somewhere < everywhere < 12


@pytest.mark.parametrize(
    "other", [{"size": 14}, {"frames": 2}, {"split": "test"}, {"world": "large"}, {"seed": 64}, {"skies": 0.5}]
)
def test_shards_of_other_clips_are_not_mixed(other: dict, tmp_path: Path) -> None:
    synthesize(tmp_path, 1, **{"frames": 1, "size": 28, "workers": 1})
    with pytest.raises(InputError, match="holds clips of another size, split, world or seed"):
        synthesize(tmp_path, 1, **{"frames": 1, "size": 28, "workers": 1, **other})


def test_a_damaged_shard_is_one_line(tmp_path: Path) -> None:
    synthesize(tmp_path, 1, frames=1, size=28, workers=1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    for read in (ClipShards, lambda folder: synthesize(folder, 1, frames=1, size=28, workers=1)):
        with pytest.raises(InputError, match=r"is damaged .*; remove it and make it again"):
            read(tmp_path)


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
    import numpy as np

    clip = moving_photos(np.random.default_rng(0), 5, 56, 84)
    assert clip.shape == (5, 3, 56, 84)
    assert (clip[0].float() - clip[-1].float()).abs().mean() > 0.5
