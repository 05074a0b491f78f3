"""Tiers of memory: the same scene in each; what stays in files; what is counted before the work; refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import TorchAoConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from gen3r.checkpoints import convert, cost, load_components, open_components
from gen3r.checkpoints.cost import fitting_tier, model_stages, own_clip
from gen3r.cli.main import main
from gen3r.errors import InputError
from gen3r.models import vggt
from gen3r.models.components import MODULES
from gen3r.models.cost import Clip, Count, Stage, StageCounter, most_memory
from gen3r.models.memory import TIERS
from gen3r.models.transformer import Gen3RTransformer
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from tests.tiny import latents_of, tiny_pipeline

CPU, CLIP = torch.device("cpu"), Clip(5, 112, 112)


def scene_of(pipe: Gen3RPipeline) -> Scene:
    """A scene that all components make."""
    photo = torch.rand(3, 112, 112, generator=torch.Generator().manual_seed(1))
    pipe.set_progress_bar_config(disable=True)
    [scene] = pipe(photo, "a room", "still", generator=torch.Generator().manual_seed(0), output_size=0)
    assert isinstance(scene, Scene)
    return scene


@pytest.fixture(scope="module")
def plain(model: Path) -> Scene:
    return scene_of(Gen3RPipeline.from_pretrained(model))


def loaded_bytes(pipe: Gen3RPipeline, component: str) -> int:
    return sum(p.numel() * p.element_size() for p in pipe.components[component].parameters() if not p.is_meta)


def watch(pipe: Gen3RPipeline) -> dict[str, tuple[int, int]]:
    """For each component, filled as it runs: the most bytes of its own weights, and of all others', that are there."""
    most = dict.fromkeys(MODULES, (0, 0))

    def note(name: str) -> None:
        sizes = {other: loaded_bytes(pipe, other) for other in MODULES}
        own, others = sizes.pop(name), sum(sizes.values())
        most[name] = max(most[name][0], own), max(most[name][1], others)

    for name in MODULES:
        layers = [m for m in pipe.components[name].modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)]
        for layer in layers[:: len(layers) // 3]:
            layer.register_forward_hook(lambda *_, name=name: note(name))
    return most


@pytest.mark.parametrize("tier", TIERS[1:])
def test_a_tier_gives_the_same_scene_with_fewer_weights(tier: str, model: Path, plain: Scene) -> None:
    """Equal to the bit but for VGGT's heads, which see one frame at a time in `low`, and but for tiles, which a frame
    this small has none of."""
    pipe = Gen3RPipeline.from_pretrained(model, memory=tier)
    most, scene = watch(pipe), scene_of(pipe)
    assert not any(loaded_bytes(pipe, name) for name in MODULES)
    assert torch.equal(scene.images, plain.images)
    assert torch.allclose(scene.depth, plain.depth, rtol=1e-5)
    assert torch.allclose(scene.points, plain.points, rtol=1e-5, atol=1e-6)
    sizes = {n: sum(p.numel() * p.element_size() for p in pipe.components[n].parameters()) for n in MODULES}
    assert all(others == 0 for _, others in most.values())
    whole = {name for name, (own, _) in most.items() if own == sizes[name]}
    assert whole == ({*MODULES} - {"text_encoder", "image_encoder"} if tier == "balanced" else set())


def test_a_layer_is_read_while_the_one_before_it_runs(model: Path) -> None:
    pipe = Gen3RPipeline.from_pretrained(model, memory="low")
    assert pipe.offload is not None
    ahead, ran = pipe.offload._ahead, []

    def note(layer: nn.Module, *_: Any) -> None:
        ran.append((layer, ahead._read is not None and ahead._read[0].module is layer))

    layers = [layer for layer in pipe.transformer.modules() if [*layer.parameters(recurse=False)]]
    for layer in layers:
        layer.register_forward_pre_hook(note)
    latents_of(pipe)
    order, read = zip(*ran, strict=True)
    second = order.index(order[-1]) + 2  # step, whose first layer ran after another one before
    assert set(order[second:]) > set(pipe.transformer.blocks.modules()) & set(layers)
    assert all(read[second:])
    assert ahead._read is None


def test_weights_in_files_are_those_that_are_loaded(model: Path, tmp_path: Path) -> None:
    """In both layouts, whose names and shapes differ, and with conversion to another type."""
    convert(model, tmp_path / "published")
    for folder, dtype in ((tmp_path / "published", None), (model, torch.bfloat16)):
        loaded, (opened, stored) = load_components(folder, dtype).modules(), open_components(folder, dtype)
        for name, module in loaded.items():
            assert all(p.is_meta for p in opened.modules()[name].parameters())
            for key, tensor in module.named_parameters():
                assert torch.equal(stored[name][key], tensor), key
                assert stored[name][key].dtype == tensor.dtype


def test_damaged_weights_are_refused_when_they_are_read(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    pipe.transformer.proj_out.weight.data[0, 0] = torch.nan
    pipe.save_pretrained(tmp_path / "model")
    broken = Gen3RPipeline.from_pretrained(tmp_path / "model", memory="low")
    with pytest.raises(InputError, match=r"proj_out\.weight holds values that are not finite"):
        latents_of(broken)


def test_adapters_work_where_weights_stay_in_files(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    trained = tiny_pipeline()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained.transformer.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    trained.save_lora_weights(tmp_path, transformer_lora_layers=get_peft_model_state_dict(trained.transformer))
    latents = []
    for tier in ("high", "low"):
        pipe = Gen3RPipeline.from_pretrained(model, memory=tier)
        pipe.load_lora(tmp_path)
        latents.append(latents_of(pipe))
    assert torch.equal(*latents)
    assert loaded_bytes(pipe, "transformer") < 20_000
    assert not torch.equal(latents[0], latents_of(Gen3RPipeline.from_pretrained(model)))


def test_what_needs_loaded_weights_says_so(model: Path, tmp_path: Path) -> None:
    pipe = Gen3RPipeline.from_pretrained(model, memory="balanced")
    for call in (
        lambda: pipe.to("cpu"),
        lambda: pipe.save_pretrained(tmp_path / "copy"),
        pipe.fuse_lora,
        pipe.enable_layerwise_casting,
        lambda: pipe.enable_group_offload("cpu"),
        lambda: pipe.enable_model_cpu_offload(device="cpu:0"),
    ):
        with pytest.raises(InputError, match='memory="high"'):
            call()


def test_components_that_are_given(model: Path) -> None:
    """They take the place of the model's own; unknown ones, and tiers that leave weights in files, are refused."""
    mine = load_components(model, only=["vae"]).vae
    assert Gen3RPipeline.from_pretrained(model, vae=mine).vae is mine
    with pytest.raises(InputError, match="vggt is a VGGT, not VideoVAE"):
        Gen3RPipeline.from_pretrained(model, vggt=mine)
    with pytest.raises(InputError, match="no unet; its components are geo_adapter, image_encoder"):
        Gen3RPipeline.from_pretrained(model, unet=mine)
    with pytest.raises(InputError, match='memory="low" needs them in their files'):
        Gen3RPipeline.from_pretrained(model, memory="low", vae=mine)


def test_quantized_components(model: Path) -> None:
    """What diffusers quantizes takes the place of the model's own, and makes nearly the same latents.

    The test needs gen3r[quantization], which `make test` does not install: diffusers would load it in every command.
    """
    quantization = pytest.importorskip("torchao.quantization")
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    transformer = Gen3RTransformer.from_pretrained(
        model, subfolder="transformer", quantization_config=config, torch_dtype=torch.float32
    )
    layers = [m for m in transformer.blocks.modules() if isinstance(m, nn.Linear)]
    assert layers
    assert all(isinstance(layer.weight, quantization.Int8Tensor) for layer in layers)
    quantized = latents_of(Gen3RPipeline.from_pretrained(model, transformer=transformer))
    plain = latents_of(Gen3RPipeline.from_pretrained(model))
    assert not torch.equal(quantized, plain)
    assert (quantized - plain).std() < 0.05 * plain.std()


@pytest.fixture(scope="module")
def stages(model: Path) -> list[Stage]:
    return model_stages(model, None, CLIP)


def test_the_cost_of_stages_agrees_with_the_models(model: Path, stages: list[Stage]) -> None:
    """Parameters and weights are those of the components."""
    components = load_components(model).modules()
    assert {stage.component: (stage.parameters, stage.weights) for stage in stages} == {
        name: (sum(p.numel() for p in m.parameters()), sum(p.numel() * p.element_size() for p in m.parameters()))
        for name, m in components.items()
    }
    assert [stage.name for stage in stages] == [
        "text", "photos", "image", "conditions", "denoising", "frames", "tokens", "geometry"
    ]  # fmt: skip


def test_long_clips_are_counted_from_short_ones(model: Path) -> None:
    """Five latents from two and three, against torch's own counter on real tensors."""
    vae = load_components(model, only=["vae"]).vae
    attention: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter, torch.no_grad():
        vae.decode_latents(torch.zeros(1, 16, 5, 14, 14))
    counted = StageCounter(open_components(model)[0], Clip(17, 112, 112))
    counted.add_streamed("frames", "vae", counted.decode_video)
    assert counted.found[0].operations == counter.get_total_flops()


def test_the_memory_of_a_stage_is_what_its_tensors_take() -> None:
    """Of a chain of layers: inputs, and the most of what lies between."""
    net = nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 1)).to("meta")
    with Count(net) as count, torch.no_grad():
        net(torch.zeros(100, 10, device="meta"))
    assert count.most == 4 * (100 * 10 + 2 * 100 * 1000)
    assert count.operations == 2 * 100 * (10 * 1000 + 1000)


def test_tiers_take_less_and_less(stages: list[Stage]) -> None:
    high, balanced, low = (most_memory(stages, tier) for tier in TIERS)
    assert low < balanced < high
    assert stages[0].model == sum({s.component: s.weights for s in stages}.values())


@pytest.mark.nightly
def test_tiles_take_less_where_frames_are_larger(model: Path) -> None:
    stages = model_stages(model, None, Clip(5, 560, 560))
    assert {s.name for s in stages if s.tiled < s.live} == {"conditions", "frames", "geometry"}


def memory_of(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(cost, "free_memory", lambda device: int(free))


def test_auto_takes_the_first_tier_that_fits(model: Path, stages: list[Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    clip = CLIP
    monkeypatch.setattr(cost, "model_stages", lambda *_: stages)
    for tier in TIERS:
        memory_of(monkeypatch, most_memory(stages, tier))
        assert fitting_tier(model, None, clip, CPU) == tier
    memory_of(monkeypatch, most_memory(stages, "low") - 1)
    with pytest.warns(UserWarning, match="low needs about .* fewer frames or a smaller size"):
        assert fitting_tier(model, None, clip, CPU) == "low"
    memory_of(monkeypatch, most_memory(stages, "balanced"))
    with pytest.warns(UserWarning, match="high needs about .*; --memory balanced fits"):
        assert fitting_tier(model, None, clip, CPU, "high") == "high"
    with pytest.raises(InputError, match="memory is auto, high, balanced, low, not most"):
        fitting_tier(model, None, clip, CPU, "most")


def test_nano_is_loaded_whole_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is counted for it."""
    memory_of(monkeypatch, 2e9)
    monkeypatch.setattr(cost, "model_stages", None)
    assert fitting_tier("nano", None, own_clip("nano"), CPU) == "high"


def test_too_little_memory_is_refused_before_work(
    model: Path,
    stages: list[Stage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cost, "model_stages", lambda *_: stages)
    memory_of(monkeypatch, 1e5)
    call = ["generate", "--prompt", "a room", "--model", str(model), "--out", str(tmp_path / "scene")]
    for choice in ((), ("--memory", "high")):
        assert main([*call, *choice]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "fewer frames or a smaller size need less" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_lack_of_memory_names_the_option(
    error: Exception, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> Tensor:
        raise error

    monkeypatch.setattr(vggt.VGGT, "heads", fail)
    call = ["generate", "--prompt", "a room", "--model", str(model), "--out", str(tmp_path / "scene")]
    assert main(call) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("gen3r: error: out of memory; try --memory low, ")


def test_info_tells_the_cost(
    model: Path, stages: list[Stage], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(cost, "model_stages", lambda *given: asked.append(given) or stages)
    assert main(["info", str(model), "--cost", "5", "112"]) == 0
    assert asked[0][2] == CLIP
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [row[:2] for row in rows[1:-1]] == [[stage.name, stage.component] for stage in stages]
    assert main(["info", str(model), "--cost", "6", "112"]) == 2
    assert "4k + 1 frames, not 6" in capsys.readouterr().err
    assert main(["info", str(model), "--cost", "five", "112"]) == 2
    assert "--cost takes frames and a size, such as --cost 49 560" in capsys.readouterr().err
