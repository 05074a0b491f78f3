"""Our modules against the published numbers, by the tool that anyone can run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.models.presets import tiny
from gen3r.request import Request
from tests import golden
from tests.golden import COMPONENT_TOLERANCE, END_TO_END_TOLERANCE, RecordingPipeline, compare, main, normal, weight
from tests.tiny import tiny_pipeline

FOLDER = Path(__file__).parent / "golden"
SMALL = {
    "control": [-0.10762, -0.02598, -0.16131, 0.44216, 0.22541, 0.24953, -0.33174, 0.376],
    "latents": [-3.32977, -3.61292, -0.30617, -1.87679, 0.02267, 4.52728, -0.32912, 1.37111],
}


def test_components() -> None:
    errors = compare(FOLDER / "components")
    assert len(errors) == 27
    assert {n: e for n, e in errors.items() if not e < COMPONENT_TOLERANCE} == {}


@torch.no_grad()
def test_one_small_view() -> None:
    """The control and the latents of a tiny pipeline, as they were when the published numbers held."""
    pipe = small_pipeline()
    T = torch.eye(4).repeat(5, 1, 1)
    T[:, 2, 3] = torch.linspace(0, 0.8, 5)
    K = torch.tensor([[100.0, 0, 56], [0, 100.0, 56], [0, 0, 1]]).repeat(5, 1, 1)
    request = Request(
        images=(0.5 + 0.25 * normal("image", 1, 1, 3, 112, 112)).clamp(0, 1), cameras=Cameras(T, K, 112, 112),
        num_inference_steps=3, guidance_scale=5.0, prompt_embeds=normal("prompt", 1, 16, 16),
        negative_prompt_embeds=normal("negative", 1, 16, 16), image_embeds=normal("clip", 1, 65, 16),
    ).resolve(pipe.defaults)  # fmt: skip
    latents = pipe(request, latents=normal("latents", 1, 16, 2, 14, 28), output_type="latent")
    assert isinstance(latents, Tensor)
    for name, value in (("control", pipe.control[:, :16]), ("latents", latents)):
        ours = value.flatten()[:: value.numel() // 8][:8]
        torch.testing.assert_close(ours, torch.tensor(SMALL[name]), atol=1e-3, rtol=1e-3)


def small_pipeline() -> RecordingPipeline:
    """Tiny models whose weights follow from their names alone."""
    pipe = RecordingPipeline(**tiny_pipeline().components, defaults=tiny().defaults)
    pipe.set_progress_bar_config(disable=True)
    for component in ("transformer", "vae", "vggt", "geo_adapter"):
        for name, parameter in getattr(pipe, component).named_parameters():
            parameter.copy_(weight(name, normal(name, *parameter.shape)))
    return pipe


@pytest.mark.nightly
def test_end_to_end() -> None:
    errors = compare(FOLDER / "end_to_end")
    assert len(errors) == 11
    assert {n: e for n, e in errors.items() if not e < END_TO_END_TOLERANCE} == {}


def test_another_salt_fails_the_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown on the transformer alone."""
    shutil.copytree(FOLDER / "components", tmp_path / "c")
    kept = {"transformer.out", "transformer.out_nocam", "camera_adapter.out"}
    numbers = load_file(tmp_path / "c" / "golden.safetensors")
    save_file({name: numbers[name] for name in kept}, tmp_path / "c" / "golden.safetensors")
    for maker in ("video_vae", "geo_adapter", "vggt", "encoders", "cameras"):
        monkeypatch.setattr(golden, maker, lambda _: ())
    meta = json.loads((tmp_path / "c" / "meta.json").read_text())
    (tmp_path / "c" / "meta.json").write_text(json.dumps({**meta, "salt": 1}))
    assert main([str(tmp_path / "c")]) == 1
    assert "transformer.out" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("/nowhere",)])
def test_bad_arguments(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
