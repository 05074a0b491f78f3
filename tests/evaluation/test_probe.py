"""The probe: what captions ask for, and that it is found in frames and depth."""

from dataclasses import replace

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.evaluation import probe as probing
from gen3r.evaluation.probe import Probe, asked_for, fitted_probe, scene_features


def _painted(g: torch.Generator, indoors: bool, sky: bool) -> Clip:
    """A ceiling, or a sky without depth or blue, over a ground, in noise, any exposure and any unit."""
    frames, depth = torch.full((2, 3, 56, 56), 0.6), torch.full((2, 56, 56), 2.0)
    if not indoors:
        frames[:, 2, :28] = 0.9
        depth[:, :28] = 0 if sky else 50
    frames = (0.4 + 0.6 * torch.rand(1, generator=g)) * frames + 0.1 * torch.rand(frames.shape, generator=g)
    cameras = Cameras.from_fov(torch.eye(4).expand(2, 4, 4), 1.0, 56, 56)
    pixels = (255 * frames.clamp(0, 1)).byte().permute(0, 2, 3, 1)
    return Clip(pixels, depth * torch.rand(1, generator=g), cameras, "", {"place": "room" if indoors else "plaza"})


def test_it_tells_indoors_from_outdoors_in_any_exposure_and_unit() -> None:
    g = torch.Generator().manual_seed(0)
    probe = Probe.fit([_painted(g, i < 14, bool(i & 1)) for i in range(24)])
    assert probe.commonest == "indoors"
    for indoors in (True, False):
        clip = _painted(g, indoors, True)
        assert probe.answer(clip) == asked_for(clip) == ("indoors" if indoors else "outdoors")


def test_features_hold_no_detail_and_little_exposure() -> None:
    image = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0)) / 2 + 0.5
    blurred = torch.nn.functional.avg_pool2d(image, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    depth = torch.rand(1, 56, 56, generator=torch.Generator().manual_seed(1)) + 1
    assert torch.allclose(scene_features(image, depth), scene_features(blurred, 7 * depth), atol=1e-5)
    bright, dark = (scene_features(x, depth).unflatten(0, (4, 4, -1)) for x in (image, 0.5 * image))
    assert torch.allclose(bright[:, 1:], dark[:, 1:], atol=0.03)


def test_a_probe_of_the_world_judges_scenes_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "CLIPS", 12)
    clips = [render_clip(seed, 3, 37, 56) for seed in range(12)]
    assert {asked_for(clip) for clip in clips} == {"indoors", "outdoors"}
    probe, again = fitted_probe(112, 168), Probe.fit(clips)
    assert [probe.answer(clip) for clip in clips] == [again.answer(clip) for clip in clips]
    assert probe.answer(replace(clips[0], depth=0.1 * clips[0].depth)) == probe.answer(clips[0])
