"""The probe: what captions ask for, and that it is found in frames."""

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.evaluation import probe as probing
from gen3r.evaluation.probe import Probe, asked_for, colour_bands, fitted_probe

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
            assert probe.answers(clip.images) == asked_for(clip)
    assert probe.discriminants["colour"].commonest == "red"


def test_features_hold_no_detail_and_little_exposure() -> None:
    image = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0)) / 2 + 0.5
    blurred = torch.nn.functional.avg_pool2d(image, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.allclose(colour_bands(image), colour_bands(blurred), atol=1e-5)
    assert colour_bands(image).shape == (1, 60)
    ratios = [colour_bands(x).unflatten(1, (3, -1))[:, 1:] for x in (image, 0.5 * image)]
    assert torch.allclose(*ratios, atol=0.03)


def test_the_same_clips_give_the_same_probe_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "CLIPS", 4)
    one, again = (fitted_probe("small", side, side) for side in (112, 224))
    for name, found in one.discriminants.items():
        assert torch.equal(found.weight, again.discriminants[name].weight)
        assert set(found.answers) == {asked_for(render_clip(seed, 1, 28, 28))[name] for seed in range(4)}
