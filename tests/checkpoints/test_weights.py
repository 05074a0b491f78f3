"""Model folders as downloads, copies and other tools leave them."""

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gen3r.checkpoints import load_components, model_defaults
from gen3r.checkpoints.weights import open_tensors, weight_files
from gen3r.errors import InputError
from gen3r.pipeline import Gen3RPipeline

NAME = "diffusion_pytorch_model"


def put(folder: Path, name: str, *keys: str, value: float = 1.0, dtype: torch.dtype = torch.float32) -> None:
    save_file({key: torch.full((2,), value, dtype=dtype) for key in keys}, folder / f"{name}.safetensors")


def index(folder: Path, files: dict[str, str], name: str = f"{NAME}.safetensors.index.json") -> None:
    (folder / name).write_text(json.dumps({"weight_map": {k: f"{v}.safetensors" for k, v in files.items()}}))


@pytest.mark.parametrize(
    "stray", [NAME, f"{NAME}-00003-of-00003", f"{NAME}.fp16", f"{NAME}.non_ema", "model", "zzz", f"{NAME} (copy)"]
)
def test_the_index_decides_and_strays_are_named(tmp_path: Path, stray: str) -> None:
    put(tmp_path, f"{NAME}-00001-of-00002", "a", "old")
    put(tmp_path, f"{NAME}-00002-of-00002", "b")
    index(tmp_path, {"a": f"{NAME}-00001-of-00002", "b": f"{NAME}-00002-of-00002"})
    put(tmp_path, stray, "a", "b", "c", value=7)
    with pytest.warns(UserWarning, match=rf"{stray.replace('(', '.').replace(')', '.')}\.safetensors not read"):
        tensors = open_tensors(tmp_path)
    assert {name: tensor[0].item() for name, tensor in tensors.items()} == {"a": 1, "b": 1}


@pytest.mark.parametrize("stray", [f"{NAME}.fp16", f"{NAME}-00001-of-00002", "zzz"])
def test_the_usual_name_decides_without_an_index(tmp_path: Path, stray: str) -> None:
    put(tmp_path, NAME, "a")
    put(tmp_path, stray, "a", value=7)
    with pytest.warns(UserWarning, match="not read"):
        assert open_tensors(tmp_path)["a"][0] == 1


def test_companions_of_file_systems_are_skipped(tmp_path: Path) -> None:
    put(tmp_path, NAME, "a")
    for name in (f"._{NAME}.safetensors", f"._{NAME}.safetensors.index.json", ".DS_Store", f"{NAME}.safetensors:Zone"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    (tmp_path / ".cache.safetensors").mkdir()
    assert list(open_tensors(tmp_path)) == ["a"]


def test_a_pointer_of_git_lfs_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match="git lfs pull"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("other", [(f"{NAME}.fp16", "zzz"), ("a", "b"), (f"{NAME}-00001-of-00003", "a")])
def test_several_files_that_might_be_it_are_refused(tmp_path: Path, other: tuple[str, str]) -> None:
    for name in other:
        put(tmp_path, name, "a")
    with pytest.raises(InputError, match="without an index"):
        open_tensors(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": f"{NAME}-00009-of-00009"}, "lacks diffusion_pytorch_model-00009-of-00009.safetensors, which"),
        ({"a": f"../{NAME}"}, "no safetensors file beside it"),
        ({"a": "/etc/passwd"}, "no safetensors file beside it"),
        ({}, "no weight_map"),
        ({"c": NAME}, "damaged"),
    ],
)
def test_an_index_that_names_what_is_not_there(tmp_path: Path, weight_map: dict, message: str) -> None:
    put(tmp_path, NAME, "a")
    index(tmp_path, weight_map)
    with pytest.raises(InputError, match=message):
        open_tensors(tmp_path)
    for text in ('{"weight_map": {"a": 3}}', '{"weight_map": ["a"]}', "[]", "{", "[" * 100_000):
        (tmp_path / f"{NAME}.safetensors.index.json").write_text(text)
        with pytest.raises(InputError):
            open_tensors(tmp_path)


def test_variants_are_those_of_diffusers(tmp_path: Path) -> None:
    """One file, or shards with an index; a component without the variant takes its plain files."""
    put(tmp_path, NAME, "a")
    put(tmp_path, f"{NAME}.fp16", "a", value=2)
    with pytest.warns(UserWarning, match=rf"{NAME}.safetensors not read"):
        assert open_tensors(tmp_path, "fp16")["a"][0] == 2
    with pytest.warns(UserWarning, match="fp16.safetensors not read"):
        assert open_tensors(tmp_path, "bf16")["a"][0] == 1
    shards = [f"{NAME}.fp16-0000{i}-of-00002" for i in (1, 2)]
    (tmp_path / f"{NAME}.fp16.safetensors").unlink()
    (tmp_path / f"{NAME}.safetensors").unlink()
    for shard, key in zip(shards, "ab", strict=True):
        put(tmp_path, shard, key, value=3)
    assert set(weight_files(tmp_path, "fp16")) == {f"{shard}.safetensors" for shard in shards}
    for name in (f"{NAME}.safetensors.index.fp16.json", f"{NAME}.fp16.safetensors.index.json"):
        index(tmp_path, dict(zip("ab", shards, strict=True)), name)
        assert set(open_tensors(tmp_path, "fp16")) == {"a", "b"}
        (tmp_path / name).unlink()


def test_a_pipeline_of_a_variant(copy: Path) -> None:
    """The transformer has one, the others do not."""
    file = copy / "transformer" / f"{NAME}.safetensors"
    half = {name: (2 * tensor).half() for name, tensor in load_file(file).items()}
    save_file(half, file.with_name(f"{NAME}.fp16.safetensors"))
    with pytest.warns(UserWarning, match="not read"):
        pipe = Gen3RPipeline.from_pretrained(copy, variant="fp16")
    assert pipe.transformer.dtype == torch.float16
    assert torch.equal(pipe.transformer.state_dict()["proj_out.bias"], half["proj_out.bias"])
    with pytest.raises(InputError, match="no weights of the variant int4"):
        load_components(copy, variant="int4")


@pytest.mark.parametrize(
    ("change", "dtype", "message"),
    [
        (lambda t: t.index_fill(0, torch.tensor([1]), float("nan")), None, "not finite"),
        (lambda t: t.index_fill(0, torch.tensor([0]), float("-inf")), None, "not finite"),
        (lambda t: t + 1e30, torch.float16, "not finite in torch.float16"),
        (lambda t: t.to(torch.int8), None, "holds torch.int8"),
        (lambda t: t.to(torch.float8_e4m3fn), None, "holds torch.float8"),
    ],
)
def test_weights_that_are_no_numbers(copy: Path, change: Callable, dtype: torch.dtype | None, message: str) -> None:
    file = copy / "transformer" / f"{NAME}.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "proj_out.bias": change(tensors["proj_out.bias"])}, file)
    with pytest.raises(InputError, match=f"proj_out.bias {message}" if "holds t" in message else message):
        load_components(copy, dtype, only=["transformer"])


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("model_index.json", [], "no JSON object"),
        ("model_index.json", {"defaults": 3}, "defaults that are no object"),
        ("model_index.json", {"defaults": {"num_frames": "x"}}, 'a default num_frames of "x"'),
        ("model_index.json", {"defaults": {"height": True}}, "a default height of true"),
        ("model_index.json", {"defaults": {"cameras": []}}, "a default cameras"),
        ("vggt/config.json", {"num_heads": "x"}, "describes no vggt"),
        ("vggt/config.json", {"num_heads": -1}, "describes no vggt"),
        ("transformer/config.json", {"num_attention_heads": 10**9}, "num_attention_heads is 1000000000"),
        ("transformer/config.json", {"num_layers": 100_000}, "num_layers is 100000"),
        ("transformer/config.json", {"attention_head_dim": 10**6}, "attention_head_dim is 1000000"),
        ("text_encoder/config.json", {"num_layers": -2}, "text_encoder"),
        ("image_encoder/config.json", {"hidden_act": "loud"}, "describes no image_encoder"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": -1}, "describes no FlowMatch"),
        ("scheduler/scheduler_config.json", {"_class_name": ["os.system"]}, "has the scheduler"),
        ("scheduler/scheduler_config.json", {"_class_name": "os.system"}, "has the scheduler os.system"),
    ],
)
def test_configurations_misstated(copy: Path, place: str, change: Any, message: str) -> None:
    path = copy / place
    data = {**json.loads(path.read_text()), **change} if isinstance(change, dict) else change
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=message) as caught:
        load_components(copy)
    assert len(str(caught.value).splitlines()) == 1


def test_defaults_may_lack_entries(copy: Path) -> None:
    path = copy / "model_index.json"
    path.write_text(json.dumps({"defaults": {"guidance_scale": 3, "num_frames": 5}}))
    assert model_defaults(copy)["guidance_scale"] == 3
    assert model_defaults(copy)["height"] == 560


ODD = (None, -1, 0, 10**12, "x", [], {}, float("nan"), True, [[]], "9" * 5000)


def spoil(folder: Path, rng: random.Random) -> None:
    """One thing wrong with one file."""
    path = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    if path.suffix == ".json" and rng.random() < 0.6:
        data = json.loads(path.read_text())
        data[rng.choice(sorted(data))] = rng.choice(ODD)
        path.write_text(json.dumps(data))
        return
    data = bytearray(path.read_bytes())
    way = rng.randrange(4)
    if way == 0:
        path.unlink()
    elif way == 1:
        path.write_bytes(data[: rng.randrange(len(data))])
    else:
        reach = len(data) if way == 2 else min(len(data), 2000)  # the header of safetensors, too
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(reach)] = rng.randrange(256)
        path.write_bytes(data)


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.nightly)])
def test_damaged_folders_give_a_model_or_one_line(ours: Path, tmp_path: Path, count: int) -> None:
    rng, messages = random.Random(count), []
    for number in range(count):
        folder = Path(shutil.copytree(ours, tmp_path / "spoilt"))
        spoil(folder, rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load_components(folder)
        except InputError as error:
            messages.append(f"{number} {error}")
        shutil.rmtree(folder)
    assert [message for message in messages if len(message.splitlines()) != 1] == []
