"""The probe: what captions ask for, and that it is found in frames and depth."""

from dataclasses import replace

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.synthetic import probe as probing
from gen3r.data.synthetic import render_clip
from gen3r.data.synthetic.probe import PIXELS, Probe, asked_for, colour_bands, fitted_probe, floor_colours, floor_pixels
from gen3r.geometry.points import unproject

ROOM = "A room with white brick walls and a brown tiled floor, with a black chair and a green cabinet."
PLAZA = "An outdoor scene: a blue bench and a green lamp post on a red checkered plaza before orange buildings."


def _clip(frames: torch.Tensor, caption: str, place: str | None = None) -> Clip:
    """Frames [F, 3, H, W] in [0, 1] with that caption."""
    shots, _, height, width = frames.shape
    cameras = Cameras.from_fov(torch.eye(4).expand(shots, 4, 4), 1.0, height, width)
    pixels = (255 * frames).byte().permute(0, 2, 3, 1)
    attributes = None if place is None else {"place": place}
    return Clip(pixels, torch.ones(shots, height, width), cameras, caption, attributes)


@pytest.mark.parametrize(
    ("caption", "place", "asked"),
    [
        (ROOM, None, {"place": "room", "colour": "brown"}),
        (PLAZA, None, {"place": "plaza", "colour": "red"}),
        (
            "A plaza with a grey stone ground, white buildings, nothing else.",
            None,
            {"place": "plaza", "colour": "grey"},
        ),
        ("A blue van on a town street at noon, with a black road.", "street", {"place": "street", "colour": "black"}),
        ("A white bench in a plaza in the rain, with red buildings.", "plaza", {"place": "plaza"}),
    ],
)
def test_what_a_caption_asks_for(caption: str, place: str | None, asked: dict[str, str]) -> None:
    assert asked_for(_clip(torch.zeros(1, 3, 28, 28), caption, place)) == asked


def test_every_caption_of_the_small_world_says_both() -> None:
    for seed in range(8):
        clip = render_clip(seed, 1, 28, 28)
        colour = asked_for(clip)["colour"]
        assert f"{colour} " in clip.caption
        assert (asked_for(clip)["place"] == "room") == ("walls" in clip.caption)


def _painted(g: torch.Generator, indoors: bool, red: bool) -> Clip:
    """A ceiling or a sky over a red or a grey ground, in noise and any exposure."""
    frames = torch.full((2, 3, 56, 56), 0.6)
    if not indoors:
        frames[:, 2, :28] = 0.9
    if red:
        frames[:, 1:, 42:] = 0.3
    frames = (0.4 + 0.6 * torch.rand(1, generator=g)) * frames + 0.1 * torch.rand(frames.shape, generator=g)
    place, part = ("room", "floor") if indoors else ("plaza", "ground")
    return _clip(frames.clamp(0, 1), f"A {place} with a {'red' if red else 'grey'} stone {part}.")


def test_it_finds_place_and_colour_in_any_exposure() -> None:
    g = torch.Generator().manual_seed(0)
    probe = Probe.fit([_painted(g, bool(i & 1), bool(i & 2) or i > 16) for i in range(24)])
    for indoors in (True, False):
        for red in (True, False):
            clip = _painted(g, indoors, red)
            assert probe.answers(clip) == asked_for(clip)
    assert probe.classifiers["colour"].commonest == "red"


def test_features_hold_no_detail_and_little_exposure() -> None:
    image = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0)) / 2 + 0.5
    blurred = torch.nn.functional.avg_pool2d(image, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.allclose(colour_bands(image), colour_bands(blurred), atol=1e-5)
    assert colour_bands(image).shape == (60,)
    ratios = [colour_bands(x).unflatten(0, (4, 3, -1))[:, 1:] for x in (image, 0.5 * image)]
    assert torch.allclose(*ratios, atol=0.03)


def _true_floor(clip: Clip) -> torch.Tensor:
    """What lies within 3 cm of the world's ground, or of a rug on it, bool [F, PIXELS, PIXELS]."""
    points = unproject(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    level = (points[..., 2].abs() < 0.03) & (clip.depth > 0)
    return torch.nn.functional.interpolate(level[:, None].float(), (PIXELS, PIXELS), mode="nearest-exact")[:, 0] > 0


def test_the_floor_is_found_by_depth_in_any_unit_and_gauge() -> None:
    found, right, there = 0, 0, 0
    for seed in range(12):
        clip = render_clip(seed, 2, 56, 84)
        floor, truth = floor_pixels(clip.depth, clip.cameras.K_px), _true_floor(clip)
        found, right, there = found + int(floor.sum()), right + int((floor & truth).sum()), there + int(truth.sum())
        assert torch.equal(floor_pixels(0.25 * clip.depth, clip.cameras.K_px), floor)
    assert right > 0.9 * found
    assert right > 0.7 * there


def test_the_colour_is_the_floors_or_without_depth_the_lowest_rows() -> None:
    clip = render_clip(1, 2, 56, 56)
    floor = floor_pixels(clip.depth, clip.cameras.K_px)
    wide = torch.nn.functional.interpolate(floor[:, None].float(), (56, 56))[:, 0] > 0
    elsewhere = clip.frames.where(wide[..., None], 255 - clip.frames)
    assert torch.equal(floor_colours(replace(clip, frames=elsewhere)), floor_colours(clip))
    assert not torch.equal(colour_bands(replace(clip, frames=elsewhere).images), colour_bands(clip.images))
    flat = replace(clip, depth=torch.zeros_like(clip.depth))
    above = flat.frames.clone()
    above[:, :48] = 0
    assert torch.equal(floor_colours(replace(flat, frames=above)), floor_colours(flat))
    assert not torch.equal(floor_colours(flat), floor_colours(clip))


def test_a_place_makes_its_own_answer_likely() -> None:
    """The same floor has another name in another place."""
    g = torch.Generator().manual_seed(0)
    clips = [_painted(g, bool(i & 1), True) for i in range(16)]
    clips = [replace(clip, caption=clip.caption.replace("red stone floor", "brown stone floor")) for clip in clips]
    probe = Probe.fit(clips)
    assert [probe.answers(clip)["colour"] for clip in clips] == 8 * ["red", "brown"]


def test_the_same_clips_give_the_same_probe_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probing.CLIPS, "small", 4)
    one, again = (fitted_probe("small", side, side) for side in (112, 224))
    for name, found in one.classifiers.items():
        for step in ("scale_", "support_vectors_", "dual_coef_"):
            first, second = (
                getattr(probe.machine[0 if step == "scale_" else 1], step) for probe in (found, again.classifiers[name])
            )
            assert (first == second).all()
        assert set(found.answers) == {asked_for(render_clip(seed, 1, 28, 28))[name] for seed in range(4)}


def test_a_probe_of_the_large_world_knows_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probing.CLIPS, "large", 12)
    clips = [render_clip(seed, 1, 28, 42, world="large") for seed in range(12)]
    probe = fitted_probe("large", 28, 42)
    assert set(probe.classifiers["place"].answers) == {asked_for(clip)["place"] for clip in clips}
    assert probe.answers(clips[0]).keys() == {"place", "colour"}
