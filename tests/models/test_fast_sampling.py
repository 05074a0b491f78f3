"""`fast`: fewer and cheaper steps, and the command that calibrates them."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from torch import Tensor

from gen3r.cli.main import main
from gen3r.errors import InputError
from gen3r.models.fast_sampling import fast_scheduler
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request
from tests.tiny import tiny_pipeline

OWN = 24  # steps of the model here; `fast` takes 20


@pytest.fixture(scope="module")
def pipe() -> Gen3RPipeline:
    """A tiny model of many guided steps, which leaves its first noise well behind."""
    tiny = tiny_pipeline()
    pipe = Gen3RPipeline(**tiny.components, defaults=tiny.defaults | {"num_inference_steps": OWN})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents_of(pipe: Gen3RPipeline, **options: Any) -> Tensor:
    made = pipe(prompt="a room", generator=torch.Generator().manual_seed(0), output_type="latent", **options)
    assert isinstance(made, Tensor)
    return made


def samples(pipe: Gen3RPipeline, block: int, **options: Any) -> list[int]:
    """How many samples go through a block at each of its runs."""
    seen: list[int] = []
    layer = pipe.transformer.blocks[block].attn1.to_q  # pyright: ignore[reportAttributeAccessIssue]
    handle = layer.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    latents_of(pipe, **options)
    handle.remove()
    return seen


def test_fast_takes_fewer_steps_half_of_them_guided_and_runs_fewer_blocks(pipe: Gen3RPipeline) -> None:
    scheduler = pipe.scheduler
    assert samples(pipe, 0, fast=True) == [1] * (2 * 10 + 10)
    assert len(samples(pipe, 1, fast=True)) < 30
    assert pipe.scheduler is scheduler
    assert not pipe.transformer.is_cache_enabled


def test_fast_is_unipc_with_the_cache_that_the_model_has_ratios_for(
    pipe: Gen3RPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ratios of 1, all steps that MagCache may leave out are; the same by hand gives the same."""
    defaults = pipe.defaults | {"mag_ratios": [1.0] * 20}
    rated = Gen3RPipeline(**pipe.components, defaults=defaults)
    rated.set_progress_bar_config(disable=True)
    made = latents_of(rated, fast=True)
    config = diffusers.MagCacheConfig(threshold=0.06, max_skip_steps=2, num_inference_steps=20, mag_ratios=[1.0] * 20)
    monkeypatch.setattr(rated, "scheduler", fast_scheduler(rated.scheduler))
    rated.transformer.enable_cache(config)
    try:
        by_hand = latents_of(rated, num_inference_steps=20, guided_share=0.5)
    finally:
        rated.transformer.disable_cache()
    assert torch.equal(made, by_hand)
    assert not torch.equal(made, latents_of(pipe, fast=True))


def test_guidance_ends_after_its_share_of_the_steps(pipe: Gen3RPipeline) -> None:
    """With nearly all steps guided it is the same as with all, one condition after the other."""
    whole = latents_of(pipe, num_inference_steps=4)
    assert torch.equal(latents_of(pipe, num_inference_steps=4, guided_share=0.9), whole)
    assert samples(pipe, 0, num_inference_steps=4, guided_share=0.5) == [1] * 6
    one_less = latents_of(pipe, num_inference_steps=4, guided_share=0.75)
    assert 0 < (one_less - whole).norm() < 0.3 * whole.norm()
    none = latents_of(pipe, num_inference_steps=4, guided_share=0)
    assert torch.allclose(none, latents_of(pipe, num_inference_steps=4, guidance_scale=1.0), atol=1e-5)


def test_nothing_to_gain_is_said(pipe: Gen3RPipeline) -> None:
    few = pipe.defaults | {"num_inference_steps": 4}
    with pytest.warns(UserWarning, match="4 steps; there is nothing to gain"):
        request = Request(prompt="a room", fast=True).resolve(few)
    assert (request.fast, request.num_inference_steps, request.guided_share) == (False, 4, 1.0)
    with pytest.raises(InputError, match="between 0 and 1, not 2"):
        Request(guided_share=2).resolve(pipe.defaults)


def test_calibrate_writes_ratios_that_generate_uses(
    pipe: Gen3RPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, photo = tmp_path / "model", tmp_path / "photo.png"
    pipe.save_pretrained(model)
    Image.radial_gradient("L").resize((112, 112)).convert("RGB").save(photo)
    assert main(["calibrate", str(photo), "--model", str(model), "--dtype", "float32"]) == 0
    assert "mag_ratios 1.0 " in capsys.readouterr().out
    ratios = json.loads((model / "model_index.json").read_text())["defaults"]["mag_ratios"]
    assert len(ratios) == 20
    assert all(0.3 < x < 3 for x in ratios)
    loaded = Gen3RPipeline.from_pretrained(model)
    assert loaded.defaults["mag_ratios"] == ratios
    assert main(["calibrate", str(photo)]) == 2
    assert "nothing to gain" in capsys.readouterr().err
    assert main(["calibrate", str(photo), "--model", "someone/model"]) == 2
    assert "someone/model is none that can be written" in capsys.readouterr().err
