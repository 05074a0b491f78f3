"""The transformer's and the adapter's other architectures: each is what its name says, and is kept with its weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gen3r.checkpoints import load_components
from gen3r.errors import InputError
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.presets import tiny
from gen3r.models.transformer import Gen3RTransformer
from gen3r.scene import Scene
from tests.models.test_transformer import inputs
from tests.tiny import tiny_pipeline

LAYOUTS = ("shared_columns", "plain_columns", "channels", "appearance")
ADAPTERS: list[dict[str, Any]] = [{"linear": True}, {"time_down": (False,) * 3}, {"residual_blocks": 1}]


def transformer(layout: str) -> Gen3RTransformer:
    torch.manual_seed(0)
    model = Gen3RTransformer(**tiny().transformer, layout=layout)
    model.init_weights()
    torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    torch.nn.init.normal_(model.camera_branch.residual.conv2.weight, std=0.1)
    return model


def heard(model: Gen3RTransformer, change: slice, hears: slice) -> bool:
    """Whether columns `hears` of the velocity depend on columns `change` of the noisy latents."""
    given = inputs()
    with torch.no_grad():
        before = model(*given)[..., hears]
        given[0][..., change] += 1
        return bool((model(*given)[..., hears] - before).abs().max() > 1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_takes_and_makes_two_halves(layout: str) -> None:
    model, left, right = transformer(layout), slice(6), slice(6, None)
    velocity = model(*inputs())
    assert velocity.shape == (2, 16, 2, 4, 12)
    velocity.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    joint = layout != "appearance"
    assert heard(model, left, left)
    assert heard(model, right, left) == heard(model, left, right) == heard(model, right, right) == joint
    assert bool(velocity[..., 6:].any()) == joint
    assert (model.config["in_channels"], model.config["out_channels"]) == (36, 16)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tokens_are_counted_beforehand(layout: str) -> None:
    model, seen = transformer(layout), []
    model.blocks[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    model(*inputs())
    assert seen == [model.token_count(frames=5, height=32, width=48)]


def test_only_shared_columns_repeat() -> None:
    columns = {
        layout: transformer(layout).rope(torch.zeros(1, 16, 2, 4, 12))[0].view(2, 2, 6, -1)[0, 0]
        for layout in ("shared_columns", "plain_columns")
    }
    assert torch.equal(columns["plain_columns"][:3], columns["shared_columns"][:3])
    assert not torch.equal(columns["plain_columns"][3:], columns["shared_columns"][3:])


@pytest.mark.parametrize("changes", ADAPTERS)
def test_adapters_of_every_kind_restore_their_clips_shape(changes: dict[str, Any]) -> None:
    adapter = GeometryAdapter(**tiny().geo_adapter, **changes)
    for frames in (1, 9):
        mean = adapter.encode(torch.randn(1, 320, frames, 4, 8)).mean
        latents = frames if "time_down" in changes else 1 + (frames - 1) // 4
        assert mean.shape == (1, 16, latents, 7, 14)
        assert adapter.decode(mean).shape == (1, 320, frames, 4, 8)


def test_the_linear_adapter_is_affine_and_looks_at_four_frames() -> None:
    torch.manual_seed(0)
    adapter = GeometryAdapter(**tiny().geo_adapter, linear=True)
    a, b = torch.randn(2, 1, 320, 9, 4, 4)
    with torch.no_grad():
        for code in (lambda x: adapter.encode(x).mean, lambda x: adapter.decode(adapter.encode(x).mean)):
            torch.testing.assert_close(code(0.3 * a + 0.7 * b), 0.3 * code(a) + 0.7 * code(b), atol=1e-5, rtol=1e-4)
        before = adapter.encode(a).mean
        a[:, :, 4] += 1
        changed = (adapter.encode(a).mean - before).abs().amax((0, 1, 3, 4)) > 1e-6
    assert changed.tolist() == [False, True, False]


def test_a_varied_model_is_refused(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    pipe.register_modules(
        transformer=Gen3RTransformer(**tiny().transformer, layout="channels", given_geometry="own").eval(),
        geo_adapter=GeometryAdapter(**tiny().geo_adapter, linear=True).eval(),
    )
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="layout channels is no longer supported"):
        load_components(tmp_path / "model")


def test_without_geometry_latents_vggt_sees_the_frames() -> None:
    pipe = tiny_pipeline()
    pipe.register_modules(transformer=Gen3RTransformer(**tiny().transformer, layout="appearance").eval())
    [scene] = pipe(torch.rand(1, 3, 112, 112), output_type="scene", generator=torch.Generator().manual_seed(0))
    assert isinstance(scene, Scene)
    latents = pipe(torch.rand(1, 3, 112, 112), output_type="latent", generator=torch.Generator().manual_seed(0))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(latents[..., 14:], noise[..., 14:])  # the right half rests
    frames = pipe.decode_frames(latents[..., :14])
    [decoded] = pipe.decode(latents, [""])
    torch.testing.assert_close(decoded.depth, pipe.reconstruct(frames[0]).depth)
