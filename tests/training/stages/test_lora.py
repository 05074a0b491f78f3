"""LoRA: the weights beside the adapters stay, the file is the one that diffusers reads, and a stop changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gen3r.cli.main import main
from gen3r.data.synthesis import synthesize
from gen3r.errors import InputError
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from gen3r.training.engine.checkpoint import CHECKPOINT
from gen3r.training.engine.loop import train
from gen3r.training.run import Run
from tests.tiny import latents_of, tiny_pipeline
from tests.training.stages import tiny_config, tiny_stage

pytest.importorskip("peft", reason="LoRA needs peft")

CONFIG = tiny_config("lora", batch_size=2, steps=3, optimizer="adamw", decay_fraction=0.0)
CHANGES = {"steps": 2, "batch_size": 2, "learning_rate": 0.1}


def test_only_adapters_are_trained_and_stored(training_data: Path, tmp_path: Path) -> None:
    stage = tiny_stage("lora", training_data)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    train(stage, CONFIG, tmp_path)
    changed = {name for name, value in stage.state_dict().items() if not torch.equal(value, before[name])}
    stored = {name.removeprefix("model/") for name in load_file(tmp_path / CHECKPOINT) if name.startswith("model/")}
    assert stored == {name for name in before if "lora_" in name} == changed
    assert len(stored) == 2 * 2 * 12  # A and B of 12 products in each of 2 blocks


def test_resumed_is_uninterrupted(training_data: Path, tmp_path: Path) -> None:
    train(tiny_stage("lora", training_data), CONFIG, tmp_path / "whole")
    train(tiny_stage("lora", training_data), tiny_config("lora", **{**vars(CONFIG), "steps": 1}), tmp_path / "stopped")
    with pytest.warns(UserWarning, match="goes on at step 1 with steps 1 -> 3"):
        train(tiny_stage("lora", training_data), CONFIG, tmp_path / "stopped")
    stopped, whole = (load_file(tmp_path / name / CHECKPOINT) for name in ("stopped", "whole"))
    assert stopped.keys() == whole.keys()
    assert [name for name, value in stopped.items() if not torch.equal(value, whole[name])] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has trained adapters for a model beside it."""
    folder = tmp_path_factory.mktemp("run")
    tiny_pipeline().save_pretrained(folder / "model")
    synthesize(folder / "train", 2, frames=5, workers=1)
    run = Run(folder, start=folder / "model")
    for half in ("appearance", "geometry"):
        run.encode_latents(kinds=[half])
    run.train("lora", CHANGES | {"rank": 4})
    return run


def test_fused_adapters_make_what_loaded_ones_make(run: Run, tmp_path: Path) -> None:
    pipe = Gen3RPipeline.from_pretrained(run.folder / "model")
    plain = latents_of(pipe)
    pipe.load_lora(run.folder / "lora")
    adapted = latents_of(pipe)
    assert (adapted - plain).abs().max() > 1e-2
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "fused")
    torch.testing.assert_close(
        latents_of(Gen3RPipeline.from_pretrained(tmp_path / "fused")), adapted, atol=1e-4, rtol=0
    )
    again = Gen3RPipeline.from_pretrained(run.folder / "model")
    assert torch.equal(latents_of(again), plain)


def test_the_file_is_diffusers_own(run: Run) -> None:
    with safe_open(run.folder / "lora" / "pytorch_lora_weights.safetensors", "pt") as file:
        assert "transformer.blocks.0.attn1.to_q.lora_A.weight" in file.keys()
        assert json.loads(file.metadata()["lora_adapter_metadata"])["transformer.r"] == 4


def test_generate(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "--prompt", "a room", "--model", str(run.folder / "model"), "--device", "cpu"]
    adapters = ["--lora", str(run.folder / "lora")]
    assert main([*command, "--out", str(tmp_path / "plain")]) == 0
    assert main([*command, *adapters, "--out", str(tmp_path / "adapted")]) == 0
    plain, adapted = (Scene.load(tmp_path / name / "scene.safetensors") for name in ("plain", "adapted"))
    assert not torch.equal(plain.frames, adapted.frames)
    assert adapted.settings["lora"] == adapters[1]
    assert main([*command, "--lora", str(tmp_path / "none"), "--out", str(tmp_path / "no")]) == 2
    assert "no LoRA at" in capsys.readouterr().err


def test_adapters_of_other_models(run: Run, tmp_path: Path) -> None:
    tensors = {f"transformer.blocks.0.attn1.to_q.lora_{n}.weight": torch.zeros(4, 4) for n in "AB"}
    for name, change in {"other": "transformer.", "foreign": "unet."}.items():
        save_file({k.replace("transformer.", change): v for k, v in tensors.items()}, tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors does not fit this transformer: size mismatch"):
        tiny_pipeline().load_lora(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"foreign\.safetensors holds nothing for this transformer"):
        tiny_pipeline().load_lora(tmp_path / "foreign.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="holds no LoRA"):
        tiny_pipeline().load_lora(tmp_path / "weights.safetensors")


def test_adapters_belong_to_their_transformer(run: Run, tmp_path: Path) -> None:
    pipe = Gen3RPipeline.from_pretrained(run.folder / "model")
    with torch.no_grad():
        pipe.transformer.proj_out.bias += 1
    pipe.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="lora adapts another transformer; remove it"):
        Run(run.folder, start=tmp_path / "other").train("lora", CHANGES | {"steps": 3, "rank": 4})
    with pytest.raises(InputError, match="made with other model sizes"):
        run.train("lora", CHANGES | {"steps": 3, "rank": 2})
