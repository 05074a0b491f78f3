"""The large world: every place, exact depth, movers and their masks, captions and records, and what splits share."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gen3r.data.check.agreement import measure_agreement
from gen3r.data.records import Clip, ClipRecord
from gen3r.data.shards import ClipShards
from gen3r.data.synthetic import LargeOptions, render_clip, synthesize
from gen3r.data.synthetic.captions import PLACE_WORDS, caption
from gen3r.data.synthetic.decorator import COLOURS
from gen3r.data.synthetic.large import FIELD_OF_VIEW
from gen3r.data.synthetic.lights import Lights, Sky, Source
from gen3r.data.synthetic.objects import FURNITURE, STREET
from gen3r.data.synthetic.options import INDOORS
from gen3r.data.synthetic.paths import look_at
from gen3r.data.synthetic.photo_textures import PHOTO_TEXTURES, PHOTOS
from gen3r.data.synthetic.places import PLACES
from gen3r.data.synthetic.shots import SHOTS
from gen3r.data.synthetic.soft_renderer import SoftRenderer
from gen3r.data.synthetic.splits import (
    HELD_OUT_PAIRS,
    MOVER_STAND_INS,
    OBJECT_STAND_INS,
    TEXTURE_STAND_INS,
    SplitDecorator,
)
from gen3r.data.synthetic.textures import TEXTURES, TILE, Atlas
from gen3r.data.synthetic.time_and_weather import TIMES, WEATHERS, Air
from gen3r.errors import InputError
from gen3r.geometry.points import project, unproject


def large(seed: int, frames: int = 3, size: int = 40, split: str = "train", **options: str | bool) -> Clip:
    return render_clip(seed, frames, size, size, split, "large", LargeOptions(**options))


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    """One of each place, with movers."""
    return {place: large(3, 5, 56, place=place, movers=True) for place in PLACES}


def test_a_seed_is_a_clip_in_either_split() -> None:
    one, again = large(5, movers=True), large(5, movers=True)
    assert torch.equal(one.frames, again.frames)
    assert torch.equal(one.full_depth, again.full_depth)
    assert (one.caption, one.attributes) == (again.caption, again.attributes)
    assert not torch.equal(one.frames, large(6).frames)
    assert not torch.equal(one.frames, large(5, split="test", movers=True).frames)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_lit_and_solid(place: str, split: str) -> None:
    clip = large(1, place=place, split=split, time="noon")
    assert clip.frames.float().std() > 10
    assert clip.frames.float().mean() > 40
    assert (clip.depth > 0).float().mean() > 0.3
    assert clip.depth.isfinite().all()
    assert (clip.cameras.centres[-1] - clip.cameras.centres[0]).norm() > 0.02
    assert clip.moving is None


def test_lenses_are_in_range_over_the_longer_side() -> None:
    for seed, (height, width) in enumerate([(24, 48), (48, 24), (32, 32), (24, 40)]):
        clip = render_clip(seed, 1, height, width, world="large")
        angle = np.rad2deg(2 * np.arctan(max(height, width) / 2 / float(clip.cameras.K_px[0, 0, 0])))
        assert FIELD_OF_VIEW[0] <= angle <= FIELD_OF_VIEW[1]
        assert clip.attributes is not None
        assert abs(clip.attributes["field_of_view"] - angle) < 0.1


@pytest.mark.parametrize(("place", "seed"), [("room", 2), ("street", 2), ("terrain", 3)])
def test_depth_and_cameras_agree_with_the_pictures(place: str, seed: int) -> None:
    clip = large(seed, 5, 112, place=place, time="noon", **({} if place in INDOORS else {"weather": "clear"}))
    record = ClipRecord("large", place, clip.cameras, lambda n: clip.frames[n], lambda n: clip.depth[n], metric=True)
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
    seed = next(s for s in range(20) if large(s, 2, 24, place="plaza", time="noon", movers=True).attributes["movers"])  # type: ignore[index]
    with_movers = large(seed, 4, 48, place="plaza", time="noon", movers=True)
    without = large(seed, 4, 48, place="plaza", time="noon")
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
        assert set(record["main_colours"]) <= set(COLOURS)
        assert {o["name"] for o in record["objects"]} <= set(FURNITURE) | set(STREET) | {"rug"}
        assert all(thing["colour"] in COLOURS for thing in record["objects"] + record["movers"])
        said = {caption(np.random.default_rng(i), record) for i in range(12)}
        assert len(said) > 8
        for text in said | {clip.caption}:
            assert any(word in text.lower() for word in PLACE_WORDS[record.get("landscape", place)])
            assert "  " not in text
            assert text[0].isupper()
            assert text.endswith(".")


def test_fog_hides_what_is_far_and_night_is_darker() -> None:
    clear, fog, night = (
        large(4, place="street", time=time, weather=weather)
        for time, weather in (("noon", "clear"), ("noon", "fog"), ("night", "clear"))
    )
    far = clear.depth > 25
    assert torch.equal(fog.depth, clear.depth)
    assert far.any()
    assert fog.frames[far].float().std(0).mean() < 0.5 * clear.frames[far].float().std(0).mean()
    assert night.frames.float().mean() < 0.7 * clear.frames.float().mean()


@pytest.mark.parametrize("size", [112, 224])
def test_soft_shadows_have_a_penumbra(size: int) -> None:
    """Under a wide sun some of the ground is partly lit, under one of no size hardly any."""
    d = SplitDecorator(np.random.default_rng(0), "train")
    white = d.material("plaster", np.ones(3), second=np.ones(3))
    d.builder.box([0, 0, -0.5], [20, 20, 1], white)
    d.builder.box([0, 0, 1.5], [1, 1, 0.1], white)
    pose, dark = look_at(np.array([2.5, -2.5, 3.0]), np.zeros(3))[None], np.zeros(3)
    partly = []
    for radius in (0.15, 0.0):
        lights = Lights((Source(np.array([0.6, 0.0, 0.8]), np.full(3, 0.7), sun=True, radius=radius),), dark, dark)
        renderer = SoftRenderer(d.builder, Atlas(d.textures), lights, Sky(dark, dark, 0.0), Air(), 1.0)
        image = renderer.render_clip(pose, 0.9, size, size, d.rng).frames[0, ..., 0].astype(int)
        partly.append(((image > 0.2 * image.max()) & (image < 0.7 * image.max())).mean())
    assert partly[0] > 1.8 * partly[1]
    assert partly[0] > 0.01


def test_splits_share_nothing() -> None:
    for table, known in (
        (TEXTURE_STAND_INS, TEXTURES | PHOTO_TEXTURES),
        ({k: (v,) for k, v in OBJECT_STAND_INS.items()}, FURNITURE | STREET),
    ):
        held_out = {name for names in table.values() for name in names}
        assert not held_out & set(table)
        assert held_out | set(table) == set(known)
    assert not set(MOVER_STAND_INS) & set(MOVER_STAND_INS.values())
    assert {p.texture for p in PHOTOS.values()} == set(PHOTO_TEXTURES)
    assert 0 < len(HELD_OUT_PAIRS) < len(COLOURS) ** 2


@pytest.mark.parametrize("place", PLACES)
def test_scenes_keep_to_their_split(place: str) -> None:
    for split in ("train", "test"):
        for seed in range(3):
            d = SplitDecorator(np.random.default_rng(seed), split)
            PLACES[place](d, "night")
            things = {t.name for t in d.things} - {"rug"}
            if split == "train":
                assert d.used_textures <= set(TEXTURE_STAND_INS)
                assert things <= set(OBJECT_STAND_INS)
                assert not d.used_pairs & HELD_OUT_PAIRS
            else:
                assert not d.used_textures & set(TEXTURE_STAND_INS)
                assert not things & set(OBJECT_STAND_INS)
                assert d.used_pairs <= HELD_OUT_PAIRS
            assert d.used_pairs


@pytest.mark.parametrize("name", PHOTO_TEXTURES)
def test_photographs_become_textures(name: str) -> None:
    tile = PHOTO_TEXTURES[name](np.random.default_rng(0), np.full(3, 0.5), np.zeros(3))
    assert tile.shape == (TILE, TILE, 3)
    assert tile.std() > 0.03


def test_shards_keep_records_and_movers(tmp_path: Path) -> None:
    options = LargeOptions(place="plaza", movers=True)
    synthesize(tmp_path, 2, frames=2, size=28, workers=1, world="large", options=options)
    shards = ClipShards(tmp_path)
    direct = render_clip(1, 2, 28, 28, world="large", options=options)
    assert shards[1].attributes == direct.attributes == shards.attributes[1]
    assert torch.equal(shards[1].frames, direct.frames)
    assert direct.moving is not None
    assert shards[1].moving is not None
    assert torch.equal(shards[1].moving, direct.moving)
    torch.testing.assert_close(shards[1].full_depth, direct.full_depth, rtol=1e-3, atol=1e-3)


def test_bad_wishes_are_refused() -> None:
    with pytest.raises(InputError, match="place must be one of room"):
        LargeOptions(place="beach")
    with pytest.raises(InputError, match="no weather in a corridor"):
        LargeOptions(place="corridor", weather="rain")
    with pytest.raises(InputError, match="choose world large"):
        render_clip(0, 1, 28, 28, options=LargeOptions(movers=True))
    with pytest.raises(InputError, match="worlds small and large"):
        render_clip(0, 1, 28, 28, world="medium")  # type: ignore[arg-type]
