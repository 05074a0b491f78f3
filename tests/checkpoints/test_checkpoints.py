"""Loading, saving and converting of whole model folders."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gen3r.checkpoints import convert, load_components, model_defaults, published_tensor_shapes
from gen3r.checkpoints.published import COMPONENTS
from gen3r.errors import InputError
from gen3r.locations import PACKAGED
from gen3r.models.components import Components
from tests.tiny import tiny_pipeline


def state(components: Components) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name, module in components.modules().items()
        for key, value in module.state_dict().items()
    }


def of_tiny() -> Components:
    return Components(**tiny_pipeline().components)


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_save_and_load_keep_every_number(ours: Path) -> None:
    components = load_components(ours)
    assert_equal(state(components), state(of_tiny()))
    assert components.defaults == tiny_pipeline().config.defaults
    assert components.defaults | {"least_steps": 1} == model_defaults(ours)


def test_nanos_tokenizer_is_saved_as_it_was(tmp_path: Path) -> None:
    """Not with how its library was told to read it."""
    load_components("nano").tokenizer.save_pretrained(tmp_path)
    for path in (PACKAGED / "nano" / "tokenizer").iterdir():
        assert (tmp_path / path.name).read_text() == path.read_text()


def test_loaded_models_compute_the_same(ours: Path) -> None:
    """Buffers that no file holds, such as rotary tables, must be real after loading."""
    loaded, built = load_components(ours), tiny_pipeline()
    images = torch.rand(1, 2, 3, 56, 56)
    assert torch.equal(loaded.vggt(images).depth, built.vggt(images).depth)
    ids = torch.tensor([[5, 6, 1]])
    assert torch.equal(loaded.text_encoder(ids).last_hidden_state, built.text_encoder(ids).last_hidden_state)
    pixels = torch.rand(1, 3, 56, 56)
    assert torch.equal(loaded.image_encoder(pixels).image_embeds, built.image_encoder(pixels).image_embeds)
    for a, b in zip(loaded.transformer.rope.buffers(), built.transformer.rope.buffers(), strict=True):
        assert torch.equal(a, b)


def test_conversion_there_and_back(ours: Path, tmp_path: Path) -> None:
    assert convert(ours, tmp_path / "published") == "published"
    assert convert(tmp_path / "published", tmp_path / "again") == "pipeline"
    assert_equal(state(load_components(ours)), state(load_components(tmp_path / "again")))
    names = {c.folder: set(load_file(tmp_path / "published" / c.folder / c.file)) for c in COMPONENTS.values()}
    assert all(n.startswith("model.") for n in names["geo_adapter"] | names["wan_vae"])
    assert "model.visual.head" in names["clip_image_encoder"]


def test_nano_goes_there_and_back(tmp_path: Path) -> None:
    assert convert("nano", tmp_path / "published") == "published"
    assert convert(tmp_path / "published", tmp_path / "again") == "pipeline"
    before, after = load_components("nano"), load_components(tmp_path / "again")
    assert_equal(state(before), state(after))
    for name in ("transformer", "geo_adapter", "vae", "vggt"):
        old, new = (dict(getattr(x, name).config) for x in (before, after))
        assert {k: v for k, v in old.items() if k[0] != "_"} == {k: v for k, v in new.items() if k[0] != "_"}
    assert (after.defaults, after.scheduler.config) == (before.defaults, before.scheduler.config)


def test_bfloat16_is_kept_and_types_change_on_request(ours: Path, tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    pipe.to(torch.bfloat16)
    pipe.save_pretrained(tmp_path / "half")
    kept = load_components(tmp_path / "half")
    heads = ("vggt.camera_head", "vggt.depth_head", "vggt.point_head")  # always computed in float32
    assert {v.dtype for k, v in state(kept).items() if not k.startswith(heads)} == {torch.bfloat16}
    assert {v.dtype for k, v in state(kept).items() if k.startswith(heads)} == {torch.float32}
    wide = load_components(tmp_path / "half", torch.float32)
    assert {v.dtype for v in state(wide).values()} == {torch.float32}


def test_shards_are_joined(copy: Path) -> None:
    before = state(load_components(copy))
    place = copy / "transformer"
    (file,) = place.glob("*.safetensors")
    tensors = load_file(file)
    file.unlink()
    names = sorted(tensors)
    for i, part in enumerate((names[::2], names[1::2])):
        save_file({n: tensors[n] for n in part}, place / f"model-{i}-of-2.safetensors")
    assert_equal(state(load_components(copy)), before)


def rewrite(place: Path, change) -> None:
    (file,) = place.glob("*.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("proj_out.bias"), "lacks the tensor proj_out.bias"),
        (lambda t: t.update(stranger=torch.zeros(1)), "unknown tensor stranger"),
        (lambda t: t.update({"proj_out.bias": torch.zeros(3)}), r"proj_out.bias has shape \[3\] instead of"),
    ],
)
def test_wrong_tensors_are_named(copy: Path, change, message: str) -> None:
    rewrite(copy / "transformer", change)
    with pytest.raises(InputError, match=message):
        load_components(copy)


def test_damaged_folders(copy: Path) -> None:
    (file,) = (copy / "vae").glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        load_components(copy)
    file.rename(file.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(InputError, match="pickle"):
        load_components(copy)
    (copy / "vae" / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"no .safetensors file"):
        load_components(copy)
    (copy / "vae" / "config.json").unlink()
    (copy / "vae").rmdir()
    with pytest.raises(InputError, match="missing"):
        load_components(copy)
    (copy / "model_index.json").write_text("{")
    with pytest.raises(InputError, match="not whole JSON"):
        load_components(copy)


@pytest.mark.parametrize("name", ["no/such/folder", "./nothing", "nothing"])
def test_models_that_are_not_there(name: str) -> None:
    with pytest.raises(InputError, match="no model at"):
        load_components(name)


def test_output_is_never_overwritten(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        convert(ours, tmp_path / "full")
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_published_shapes() -> None:
    shapes = published_tensor_shapes()
    assert {k: len(v) for k, v in shapes.items()} == {
        "transformer": 989, "wan_vae": 194, "geo_adapter": 202, "vggt": 1403, "text_encoder": 242,
        "clip_image_encoder.model.visual": 392,
    }  # fmt: skip
    assert shapes["geo_adapter"]["model.encoder.init_block.resample.1.weight"] == [1024, 10240, 3, 3]
    assert shapes["transformer"]["patch_embedding.weight"] == [1536, 36, 1, 2, 2]
    keys = json.loads((Path(__file__).parents[1] / "golden" / "components" / "keys.json").read_text())
    assert set(keys["wan_vae"]) == {k.removeprefix("model.") for k in shapes["wan_vae"]}
