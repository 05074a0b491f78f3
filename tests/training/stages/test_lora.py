"""LoRA: the weights beside the adapters stay, the file is the one that diffusers reads, and a stop changes nothing.

Adapters of a distilled student bring its way of sampling.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gen3r.checkpoints.lora import lora_sampling
from gen3r.cli.main import main
from gen3r.data.shards import ClipShards
from gen3r.data.synthesis import synthesize
from gen3r.errors import InputError
from gen3r.models.components import Components
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from gen3r.training.engine.checkpoint import CHECKPOINT
from gen3r.training.engine.loop import train
from gen3r.training.package import package
from gen3r.training.run import Run
from gen3r.training.stages.config import DistillConfig
from tests.tiny import latents_of, tiny_pipeline
from tests.training.stages import distill_stage, encoded, tiny_config, tiny_stage

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


def test_a_student_of_adapters_starts_as_one_of_whole_weights(training_data: Path, tmp_path: Path) -> None:
    losses, clips = [], ClipShards(training_data / "clips")
    for rank in (None, 4):
        torch.manual_seed(0)
        pipe = tiny_pipeline()
        latents = encoded(Components(**pipe.components), clips, tmp_path / str(rank))
        stage = distill_stage(pipe, latents, DistillConfig(rank=rank))
        torch.manual_seed(0)
        loss, _ = stage(stage.make_batch(np.random.default_rng(0), 2))
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    trained = {name for name, parameter in stage.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in stage.named_parameters() if "lora_" in name} != set()


@pytest.fixture(scope="module")
def student(run: Run) -> Run:
    """The run with adapters of a distilled student."""
    run.train("distill", CHANGES | {"rank": 4})
    return run


def test_a_student_brings_its_way_of_sampling(student: Run, tmp_path: Path) -> None:
    pipe = Gen3RPipeline.from_pretrained(student.folder / "model")
    plain, steps = latents_of(pipe), pipe.defaults["num_inference_steps"]
    pipe.load_lora(student.folder / "distill")
    assert (pipe.defaults["num_inference_steps"], pipe.defaults["guidance_scale"]) == (4, 1.0) != (steps, 1.0)
    assert pipe.scheduler.config["shift_terminal"]
    adapted = latents_of(pipe)
    pipe.unload_lora_weights()
    assert pipe.defaults["num_inference_steps"] == steps
    assert torch.equal(latents_of(pipe), plain)
    package(student, tmp_path / "packaged")
    packaged = Gen3RPipeline.from_pretrained(tmp_path / "packaged", torch_dtype=torch.float32)
    assert packaged.defaults["num_inference_steps"] == 4
    assert not any("lora" in name for name, _ in packaged.transformer.named_parameters())
    torch.testing.assert_close(latents_of(packaged), adapted, atol=0.1, rtol=0.05)  # bfloat16 in the package


def test_generate_with_a_student(student: Run, tmp_path: Path) -> None:
    command = ["generate", "--prompt", "a room", "--model", str(student.folder / "model"), "--device", "cpu"]
    assert main([*command, "--lora", str(student.folder / "distill"), "--out", str(tmp_path / "scene")]) == 0
    settings = Scene.load(tmp_path / "scene" / "scene.safetensors").settings
    assert (settings["steps"], settings["guidance"]) == (4, 1.0)


@pytest.mark.parametrize("sampling", ["4", "{", '{"num_inference_steps": 1}', "[]"])
def test_a_student_that_says_wrongly_how_it_samples(student: Run, tmp_path: Path, sampling: str) -> None:
    tensors = load_file(student.folder / "distill" / "pytorch_lora_weights.safetensors")
    save_file(tensors, tmp_path / "wrong.safetensors", {"gen3r_sampling": sampling})
    with pytest.raises(InputError, match=r"wrong\.safetensors says wrongly how it samples"):
        lora_sampling(tmp_path / "wrong.safetensors")
