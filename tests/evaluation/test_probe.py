"""The probe: what captions ask for, and that it is found in frames."""

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.evaluation import probe as probing
from gen3r.evaluation.probe import Probe, asked_for, colour_bands, fitted_probe


def _clip(frames: torch.Tensor, caption: str, place: str, part: str, colour: str) -> Clip:
    """Frames [F, 3, H, W] in [0, 1] with that caption and these facts."""
    shots, _, height, width = frames.shape
    cameras = Cameras.from_fov(torch.eye(4).expand(shots, 4, 4), 1.0, height, width)
    facts = {"place": place, "surfaces": [{"part": "walls", "colour": "white"}, {"part": part, "colour": colour}]}
    return Clip((255 * frames).byte().permute(0, 2, 3, 1), torch.ones(shots, height, width), cameras, caption, facts)


@pytest.mark.parametrize(
    ("caption", "facts", "asked"),
    [
        ("A room with white walls and a brown tiled floor.", ("room", "floor", "brown"), {"colour": "brown"}),
        ("A blue van on a town street, with a black road.", ("street", "road", "black"), {"colour": "black"}),
        ("A white bench in a plaza in the rain, with red buildings.", ("plaza", "ground", "grey"), {}),
    ],
)
def test_what_a_caption_asks_for(caption: str, facts: tuple[str, str, str], asked: dict[str, str]) -> None:
    assert asked_for(_clip(torch.zeros(1, 3, 28, 28), caption, *facts)) == {"place": facts[0]} | asked


def test_captions_of_the_world_name_the_colours_that_are_asked_for() -> None:
    asked = [(asked_for(clip), clip.caption) for clip in (render_clip(seed, 1, 28, 28) for seed in range(12))]
    assert any("colour" in wanted for wanted, _ in asked)
    assert all(f"{wanted['colour']} " in caption for wanted, caption in asked if "colour" in wanted)


def _painted(g: torch.Generator, indoors: bool, red: bool) -> Clip:
    """A ceiling or a sky over a red or a grey ground, in noise and any exposure."""
    frames = torch.full((2, 3, 56, 56), 0.6)
    if not indoors:
        frames[:, 2, :28] = 0.9
    if red:
        frames[:, 1:, 42:] = 0.3
    frames = (0.4 + 0.6 * torch.rand(1, generator=g)) * frames + 0.1 * torch.rand(frames.shape, generator=g)
    place, part = ("room", "floor") if indoors else ("plaza", "ground")
    colour = "red" if red else "grey"
    return _clip(frames.clamp(0, 1), f"A {place} with a {colour} stone {part}.", place, part, colour)


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


def test_a_probe_of_the_world_knows_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "CLIPS", 12)
    clips = [render_clip(seed, 1, 28, 42) for seed in range(12)]
    probe = fitted_probe(28, 42)
    assert set(probe.classifiers["place"].machine.classes_) == {asked_for(clip)["place"] for clip in clips}
    assert probe.answers(clips[0]).keys() == {"place", "colour"}
