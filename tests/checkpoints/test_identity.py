"""The hash of a component: the same for the same model, another for anything else."""

from pathlib import Path

import pytest
import torch

from gen3r.checkpoints import convert, load_components
from gen3r.checkpoints.identity import component_hash
from tests.tiny import tiny_pipeline

NAMES = ("transformer", "vae", "geo_adapter", "vggt", "text_encoder", "image_encoder", "tokenizer")


def hashes(parts: dict) -> dict[str, str]:
    return {name: component_hash(parts[name]) for name in NAMES}


def test_it_survives_files_and_layouts(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    ours = hashes(pipe.components)
    assert len(set(ours.values())) == len(NAMES)
    pipe.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "published")
    assert hashes(vars(load_components(tmp_path / "ours"))) == ours
    assert hashes(vars(load_components(tmp_path / "published"))) == ours
    convert(tmp_path / "published", tmp_path / "again")
    assert hashes(vars(load_components(tmp_path / "again"))) == ours


def test_values_count_and_types_do_not(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    for name in NAMES[:-1]:
        pipe.components[name].to(torch.bfloat16)
    rounded = hashes(pipe.components)
    pipe.save_pretrained(tmp_path / "half")
    assert hashes(vars(load_components(tmp_path / "half", torch.float32))) == rounded
    original = hashes(tiny_pipeline().components)
    assert [name for name in NAMES if rounded[name] == original[name]] == ["tokenizer"]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_one_weight_counts(name: str) -> None:
    module = tiny_pipeline().components[name]
    before = component_hash(module)
    module.train().requires_grad_(True)
    assert component_hash(module) == before
    weight = next(iter(module.parameters()))
    with torch.no_grad():
        weight.view(-1)[-1] += 1e-3
    assert component_hash(module) != before


def test_strides_do_not_count_and_settings_do() -> None:
    vae = tiny_pipeline().vae
    before = component_hash(vae)
    for layer in vae.modules():
        if isinstance(layer, torch.nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)
    assert component_hash(vae) == before
    vae.register_to_config(latents_mean=(0.5,) * 16)
    assert component_hash(vae) != before
