"""The procedural world: every place, exact depth, cameras, movers, captions and records, and what splits share."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gen3r.data.check.agreement import measure_agreement
from gen3r.data.photos import SHIPPED
from gen3r.data.records import Clip, ClipRecord
from gen3r.data.shards import ClipShards
from gen3r.data.synthesis import synthesize
from gen3r.data.synthetic import OnlineClips, WorldOptions, render_clip
from gen3r.data.synthetic.captions import WORDS, caption
from gen3r.data.synthetic.clip import FIELD_OF_VIEW
from gen3r.data.synthetic.decorator import COLOURS, Decorator
from gen3r.data.synthetic.light import TIMES, WEATHERS, Light, Source
from gen3r.data.synthetic.meshes import MeshBuilder
from gen3r.data.synthetic.objects import OBJECTS, STAND_INS, build, shapes
from gen3r.data.synthetic.options import INDOORS
from gen3r.data.synthetic.places import PLACES
from gen3r.data.synthetic.render import Renderer
from gen3r.data.synthetic.shots import SHOTS, look_at
from gen3r.data.synthetic.textures import TEXTURE_STAND_INS, TEXTURES, TILE, Atlas
from gen3r.errors import InputError
from gen3r.geometry.points import project, unproject


def world(seed: int, frames: int = 3, size: int = 40, split: str = "train", **options: str | bool | Path) -> Clip:
    return render_clip(seed, frames, size, size, split, WorldOptions(**options))


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    """One of each place, with movers."""
    return {place: world(3, 5, 56, place=place, movers=True) for place in PLACES}


def test_a_seed_is_a_clip_in_either_split() -> None:
    one, again = world(5, movers=True), world(5, movers=True)
    assert torch.equal(one.frames, again.frames)
    assert torch.equal(one.full_depth, again.full_depth)
    assert (one.caption, one.attributes) == (again.caption, again.attributes)
    assert not torch.equal(one.frames, world(6).frames)
    assert not torch.equal(one.frames, world(5, split="test", movers=True).frames)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_lit_and_solid(place: str, split: str) -> None:
    clip = world(1, place=place, split=split, time="noon")
    assert clip.frames.float().std() > 10
    assert clip.frames.float().mean() > 40
    assert (clip.depth > 0).flatten(1).float().mean(1).min() > 0.2
    assert clip.depth.isfinite().all()
    assert (clip.cameras.centres[-1] - clip.cameras.centres[0]).norm() > 1e-3
    assert clip.moving is None


def test_lenses_are_in_range_over_the_longer_side() -> None:
    for seed, (height, width) in enumerate([(24, 48), (48, 24), (32, 32), (24, 40)]):
        clip = render_clip(seed, 1, height, width)
        angle = np.rad2deg(2 * np.arctan(max(height, width) / 2 / float(clip.cameras.K_px[0, 0, 0])))
        assert FIELD_OF_VIEW[0] <= angle <= FIELD_OF_VIEW[1]
        assert clip.attributes is not None
        assert abs(clip.attributes["field_of_view"] - angle) < 0.1


@pytest.mark.parametrize(("place", "seed"), [("room", 3), ("street", 3), ("terrain", 3)])
def test_depth_and_cameras_agree_with_the_pictures(place: str, seed: int) -> None:
    clip = world(seed, 5, 112, place=place, time="noon", **({} if place in INDOORS else {"weather": "clear"}))
    record = ClipRecord("world", place, clip.cameras, lambda n: clip.frames[n], lambda n: clip.depth[n], metric=True)
    seen = measure_agreement(record, range(len(record)), pairs=2)
    assert seen.pairs
    assert seen.reprojection_px is not None
    assert seen.reprojection_px < 0.6
    for i, j in pairwise(range(3)):
        T, K = clip.cameras.T_world_camera[[i, j]], clip.cameras.K_px[[i, j]]
        pixel, depth = project(unproject(clip.depth[i], T[0], K[0])[clip.depth[i] > 0], T[1], K[1])
        column, row = pixel.floor().long().unbind(-1)
        inside = (column >= 0) & (column < 112) & (row >= 0) & (row < 112)
        there = clip.depth[j][row[inside], column[inside]]
        assert (there / depth[inside] - 1).abs().median() < 0.01


def test_what_moves_has_no_depth(clips: dict[str, Clip]) -> None:
    moved = 0
    for clip in clips.values():
        assert clip.moving is not None
        assert not (clip.depth > 0)[clip.moving].any()
        moved += int(clip.moving.any())
    assert moved >= 3


def test_movers_hide_the_place_and_leave_the_rest() -> None:
    seed = next(s for s in range(20) if world(s, 2, 24, place="plaza", time="noon", movers=True).attributes["movers"])  # type: ignore[index]
    with_movers = world(seed, 4, 48, place="plaza", time="noon", movers=True)
    without = world(seed, 4, 48, place="plaza", time="noon")
    assert torch.equal(with_movers.cameras.T_world_camera, without.cameras.T_world_camera)
    moving, far = with_movers.moving, torch.where(without.depth > 0, without.depth, torch.inf)
    assert moving is not None
    assert moving.any()
    assert (with_movers.full_depth < far)[moving].all()
    assert torch.equal(with_movers.depth[~moving], without.depth[~moving])
    places = [m.nonzero().float().mean(0) for m in moving if m.any()]
    assert (places[-1] - places[0]).norm() > 0.05


def test_records_and_captions(clips: dict[str, Clip]) -> None:
    for place, clip in clips.items():
        record = clip.attributes
        assert record is not None
        assert record["place"] == place
        assert record["time"] in TIMES
        assert record["weather"] is None if place in INDOORS else record["weather"] in WEATHERS
        assert record["camera"] in SHOTS
        assert {o["name"] for o in record["objects"]} <= set(OBJECTS) | {"rug"}
        assert all(thing["colour"] in COLOURS for thing in record["objects"] + record["movers"])
        said = {caption(np.random.default_rng(i), record) for i in range(12)}
        assert len(said) > 8
        for text in said | {clip.caption}:
            assert any(word in text.lower() for word in WORDS[record.get("landscape", place)])
            assert "  " not in text
            assert text[0].isupper()
            assert text.endswith(".")


def test_fog_hides_what_is_far_and_night_is_darker() -> None:
    clear, fog, night = (
        world(4, place="street", time=time, weather=weather)
        for time, weather in (("noon", "clear"), ("noon", "fog"), ("night", "clear"))
    )
    far = clear.depth > 40
    assert torch.equal(fog.depth, clear.depth)
    assert far.any()
    contrast = [float((c.frames[far].float().std(0) / c.frames[far].float().mean(0)).mean()) for c in (clear, fog)]
    assert contrast[1] < 0.5 * contrast[0]
    assert night.frames.float().mean() < 0.7 * clear.frames.float().mean()


def test_soft_shadows_have_a_penumbra() -> None:
    """Under a wide sun some of the ground is partly lit, under one of no size hardly any."""
    d = Decorator(np.random.default_rng(0), "train")
    white = d.material("plaster", np.ones(3), second=np.ones(3))
    d.builder.box([0, 0, -0.5], [20, 20, 1], white)
    d.builder.box([0, 0, 1.5], [1, 1, 0.1], white)
    pose, dark = look_at(np.array([[2.5, -2.5, 3.0]]), np.zeros((1, 3))), np.zeros(3)
    partly = []
    for radius in (0.15, 0.0):
        sun = Source(np.array([0.6, 0.0, 0.8]), np.full(3, 0.7), sun=True, radius=radius)
        renderer = Renderer(d.builder, Atlas(d.textures), Light((sun,), dark, dark, dark, dark), 1.0)
        image = renderer.render_clip(pose, 0.9, 112, 112, [d.rng]).frames[0, ..., 0].astype(int)
        partly.append(((image > 0.2 * image.max()) & (image < 0.7 * image.max())).mean())
    assert partly[0] > 1.8 * partly[1]
    assert partly[0] > 0.01


def test_splits_share_nothing() -> None:
    assert not {name for names in TEXTURE_STAND_INS.values() for name in names} & set(TEXTURE_STAND_INS)
    assert {name for names in TEXTURE_STAND_INS.values() for name in names} | set(TEXTURE_STAND_INS) == set(TEXTURES)
    assert not set(STAND_INS.values()) & set(STAND_INS)
    assert set(STAND_INS) | set(STAND_INS.values()) == set(OBJECTS)
    assert not set(SHIPPED["train"]) & set(SHIPPED["test"])


@pytest.mark.parametrize("place", PLACES)
def test_scenes_keep_to_their_split(place: str, photos: Path) -> None:
    for split, folder in (("train", None), ("test", photos)):
        for seed in range(3):
            d = Decorator(np.random.default_rng(seed), split, True, folder)
            PLACES[place](d, "night")
            used, things = set(d.kinds) - {"photo"}, {t.name for t in d.things} - {"rug"}
            if split == "train":
                assert used <= set(TEXTURE_STAND_INS)
                assert things <= set(STAND_INS)
            else:
                assert not used & set(TEXTURE_STAND_INS)
                assert not things & set(STAND_INS)
                assert {str(path) for path, _ in d.photos.names} == {
                    str(path) for path, _ in Decorator(d.rng, "test").photos.names
                }


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one photo, in a red that no drawn colour has."""
    folder = tmp_path_factory.mktemp("photos")
    Image.new("RGB", (300, 200), (255, 0, 30)).save(folder / "red.png")
    return folder


def test_photos_of_a_folder_cover_surfaces_of_training_scenes_alone(photos: Path) -> None:
    def red(clip: Clip) -> float:
        r, g, b = clip.frames.float().unbind(-1)
        return float(((r > 40) & (g < 0.2 * r) & (b < 0.35 * r)).float().mean())

    seen = [red(world(seed, 1, time="noon", place="room", textures=photos)) for seed in range(6)]
    assert max(seen) > 0.1
    assert max(red(world(seed, 1, time="noon", place="room")) for seed in range(6)) < 0.5 * max(seen)
    held_out = [world(1, 1, split="test", place="room", **kind) for kind in ({}, {"textures": photos})]  # type: ignore[arg-type]
    assert torch.equal(held_out[0].frames, held_out[1].frames)


def test_a_photo_of_a_sky_is_the_sky(tmp_path: Path) -> None:
    sky = np.zeros((60, 80, 3), np.uint8)
    sky[:40] = 120, 160, 250
    Image.fromarray(sky).save(tmp_path / "sky.png")
    clips = [world(seed, 1, place="terrain", time="noon", weather="clear", textures=tmp_path) for seed in range(8)]
    colours = [c.frames[c.depth == 0].float().median(0).values for c in clips if (c.depth == 0).float().mean() > 0.1]
    assert any((colour - torch.tensor([120.0, 160, 250])).abs().max() < 3 for colour in colours)


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


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_stand_on_the_ground_in_their_size(name: str) -> None:
    b, size = MeshBuilder(), shapes(name)[0]
    build(b, name, np.array([1.0, 2.0, 3.0]), size, 0.0, (0, 1))
    corners = np.concatenate([t.reshape(-1, 3) for t in b.triangles]) - [1, 2, 3]
    assert -0.7 * size[2] < corners[:, 2].min() < 0.02
    extent = np.ptp(corners, axis=0)
    assert (extent[:2] > 0.6 * size[:2]).all()
    assert (extent[:2] < 1.75 * size[:2]).all()
    assert extent[2] > 0.75 * size[2]


def _turns(clips: Sequence[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and roll of the first cameras, in degrees; pitch is positive upwards."""
    R = np.stack([c.cameras.T_world_camera[0, :3, :3].numpy() for c in clips])
    return np.rad2deg(np.arcsin(R[:, 2, 2])), np.rad2deg(np.arctan2(-R[:, 2, 0], -R[:, 2, 1]))


def test_cameras_are_as_varied_as_those_of_real_clips() -> None:
    clips = [render_clip(seed, 2, 16, 24) for seed in range(60)]
    pitch, roll = _turns(clips)
    assert pitch.min() < -35
    assert pitch.max() > 3
    assert 10 < np.abs(roll).max() < 40
    assert np.median(np.abs(roll)) < 5
    moved = np.array([float((c.cameras.centres[1] - c.cameras.centres[0]).norm()) for c in clips])
    depth = np.array([float(c.depth[c.depth > 0].median()) for c in clips])
    assert (moved / depth).min() < 0.05
    assert (moved / depth).max() > 0.6
    assert depth.min() < 1.2
    assert depth.max() > 8
    assert sum(float((c.depth == 0).float().mean()) == 0 for c in clips) > 15  # neither sky nor horizon


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), shot=st.sampled_from(sorted(SHOTS)), place=st.sampled_from(sorted(PLACES)))
def test_paths_are_rigid_motions_that_look_somewhere(seed: int, shot: str, place: str) -> None:
    from gen3r.data.synthetic.shots import camera_path

    d = Decorator(np.random.default_rng(seed), "train")
    poses = camera_path(d.rng, shot, PLACES[place](d, "noon"), d.things, 5)
    R = poses[:, :3, :3]
    assert np.allclose(R @ R.mT, np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(R), 1)
    assert np.isfinite(poses).all()


def test_endless_clips_are_rendered_as_far_as_they_are_taken(photos: Path) -> None:
    clips = OnlineClips((5, 24, 40), photos)
    index = torch.tensor([[0, 3], [4, 2]])  # in order, and played backwards
    taken = clips.take([7, 8], index)
    for row, number in enumerate((7, 8)):
        clip = clips[number]
        assert torch.equal(taken["depth"][row], clip.depth[index[row]])
        assert torch.equal(taken["T_world_camera"][row], clip.cameras.T_world_camera[index[row]])
        same = (taken["frames"][row].int() - clip.frames[index[row]].int()).abs() <= 1
        assert same.float().mean() > 0.995  # products of other numbers of rays round differently
    assert not torch.equal(clips[7].frames, clips[8].frames)
    assert clips.at_size(28, 28).shape == (5, 28, 28)
    with pytest.raises(InputError, match="is not a folder"):
        OnlineClips((5, 24, 40), photos / "none")


def test_shards_keep_records_and_movers(tmp_path: Path) -> None:
    options = WorldOptions(place="plaza", movers=True)
    synthesize(tmp_path, 2, frames=2, size=28, workers=1, options=options)
    shards = ClipShards(tmp_path)
    direct = render_clip(1, 2, 28, 28, options=options)
    assert shards[1].attributes == direct.attributes == shards.attributes[1]
    assert torch.equal(shards[1].frames, direct.frames)
    assert direct.moving is not None
    assert shards[1].moving is not None
    assert torch.equal(shards[1].moving, direct.moving)
    torch.testing.assert_close(shards[1].full_depth, direct.full_depth, rtol=1e-3, atol=1e-3)


def test_bad_wishes_are_refused() -> None:
    with pytest.raises(InputError, match="place must be one of room"):
        WorldOptions(place="beach")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no weather in a corridor"):
        WorldOptions(place="corridor", weather="rain")
    with pytest.raises(InputError, match="the splits are train and test"):
        render_clip(0, 1, 28, 28, split="validation")
