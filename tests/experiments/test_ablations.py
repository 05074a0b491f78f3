"""The ablations: each variant is what its name says, and learns; the runner keeps results; the report shows them."""

import json
import math
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.ablations import runner
from experiments.ablations.__main__ import main
from experiments.ablations.models import (
    AppearanceOnly,
    LatentPerFrameAdapter,
    LinearAdapter,
    PlainColumns,
    ShallowAdapter,
    StackedChannels,
)
from experiments.ablations.report import figure, read_results, table, write_report
from experiments.ablations.runner import Ablation, Result, VariantRun, training_seconds
from experiments.ablations.stages import (
    OWN_GEOMETRY,
    OwnGeometryPipeline,
    ScheduledAlignment,
    initialise_linear,
    own_geometry_kind,
    per_frame,
)
from experiments.ablations.variants import BOTH, DIFFUSION, VARIANTS, Variant, chosen
from gen3r.data.records import Clip
from gen3r.errors import InputError
from gen3r.files import link
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.gaussian import DiagonalGaussian
from gen3r.models.presets import build_components, tiny
from gen3r.models.transformer import Gen3RTransformer
from gen3r.request import Request
from gen3r.training.stages.config import AdapterConfig, DiffusionConfig
from gen3r.training.stages.diffusion import ALL_VIEWS, NO_VIEWS
from tests.models.test_transformer import inputs
from tests.tiny import tiny_pipeline

SHORT = AdapterConfig(frames=(5,))
DIFFUSION_CONFIG = DiffusionConfig()
RUNS = [("kl-scheduled", 0), ("denoiser-own-geometry", 0)]


@pytest.fixture(scope="module", autouse=True)
def own_geometry_is_a_kind() -> Iterator[None]:
    with own_geometry_kind():
        yield


def transformer(kind: type[Gen3RTransformer]) -> Gen3RTransformer:
    torch.manual_seed(0)
    model = kind(**tiny().transformer)
    model.init_weights()
    torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    torch.nn.init.normal_(model.camera_branch.residual.conv2.weight, std=0.1)
    return model


def depends(model: Gen3RTransformer, output: slice, change: slice) -> bool:
    """Whether columns `output` of the velocity depend on columns `change` of the noisy latents."""
    given = inputs()
    with torch.no_grad():
        before = model(*given)[..., output]
        given[0][..., change] += 1
        return bool((model(*given)[..., output] - before).abs().max() > 1e-5)


@pytest.mark.parametrize("kind", [PlainColumns, StackedChannels, AppearanceOnly])
def test_every_transformer_takes_and_returns_two_halves(kind: type[Gen3RTransformer]) -> None:
    model, left, right = transformer(kind), slice(6), slice(6, None)
    tokens = []
    model.blocks[0].register_forward_pre_hook(lambda _, arguments: tokens.append(arguments[0].shape[1]))
    velocity = model(*inputs())
    assert velocity.shape == (2, 16, 2, 4, 12)
    assert tokens == [24 if kind is PlainColumns else 12]
    velocity.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    joint = kind is not AppearanceOnly
    assert depends(model, left, left)
    assert depends(model, left, right) == depends(model, right, left) == depends(model, right, right) == joint
    assert bool(velocity[..., 6:].any()) == joint
    assert (model.config["in_channels"], model.config["out_channels"]) == (36, 16)


def test_plain_columns_continue() -> None:
    shared, plain = (
        transformer(kind).rope(torch.zeros(1, 16, 2, 4, 12))[0].view(2, 2, 6, -1)[0, 0]
        for kind in (Gen3RTransformer, PlainColumns)
    )
    assert torch.equal(plain[:3], shared[:3])
    assert not torch.equal(plain[3:], shared[3:])


@pytest.mark.parametrize("kind", [ShallowAdapter, LatentPerFrameAdapter, LinearAdapter])
def test_every_adapter_restores_the_shape_of_its_clip(kind: type[GeometryAdapter]) -> None:
    adapter = kind(**tiny().geo_adapter)
    for frames in (1, 9):
        mean = adapter.encode(torch.randn(1, 320, frames, 4, 8)).mean
        latents = frames if kind is LatentPerFrameAdapter else 1 + (frames - 1) // 4
        assert mean.shape == (1, 16, latents, 7, 14)
        assert adapter.decode(mean).shape == (1, 320, frames, 4, 8)


def test_a_shallow_adapter_has_a_block_less_per_stage() -> None:
    blocks = [
        [type(block).__name__ for block in coder.blocks].count("WanResidualBlock")
        for kind in (GeometryAdapter, ShallowAdapter)
        for coder in (kind(**tiny().geo_adapter).encoder, kind(**tiny().geo_adapter).decoder)
    ]
    assert blocks == [8, 12, 4, 8]


def test_the_linear_adapter_is_affine_and_takes_four_frames_per_latent() -> None:
    torch.manual_seed(0)
    adapter = LinearAdapter(**tiny().geo_adapter)
    a, b = torch.randn(2, 1, 320, 9, 4, 4)
    with torch.no_grad():
        for code in (lambda x: adapter.encode(x).mean, lambda x: adapter.decode(adapter.encode(x).mean)):
            torch.testing.assert_close(code(0.3 * a + 0.7 * b), 0.3 * code(a) + 0.7 * code(b), atol=1e-5, rtol=1e-4)
        before = adapter.encode(a).mean
        a[:, :, 4] += 1
        changed = (adapter.encode(a).mean - before).abs().amax((0, 1, 3, 4)) > 1e-6
    assert changed.tolist() == [False, True, False]


def test_a_linear_adapter_starts_as_the_principal_components() -> None:
    torch.manual_seed(0)
    adapter = LinearAdapter(token_channels=320, resample_scale=10)
    static = torch.randn(64, 12, 1, 1, 1).expand(-1, -1, 5, 4, 4)
    tokens = torch.einsum("ck,bkfhw->bcfhw", torch.randn(320, 12), static)
    initialise_linear(adapter, tokens.transpose(0, 1).flatten(1))
    with torch.no_grad():
        posterior = adapter.encode(tokens)
        again = adapter.decode(posterior.mean)
    assert ((again - tokens).square().mean() / tokens.square().mean()) < 0.02
    torch.testing.assert_close(posterior.logvar, torch.full_like(posterior.logvar, -4.0))


def test_an_appearance_latent_stands_for_each_of_its_frames() -> None:
    mean = torch.arange(3.0).view(1, 1, 3, 1, 1)
    assert per_frame(DiagonalGaussian(mean, mean)).mean.flatten().tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """An ablation of a tiny model with one clip of five frames, and latents of every kind."""
    return tiny_ablation(tmp_path_factory.mktemp("ablations"), num_frames=5)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """The same with a clip as long as those of nano's recipe."""
    return tiny_ablation(tmp_path_factory.mktemp("long"), num_frames=17)


def tiny_ablation(folder: Path, num_frames: int) -> Ablation:
    save_model(folder / "start", num_frames)
    ablation = Ablation(out=folder / "runs", start=str(folder / "start"), steps=2, clips=1, scenes=1)
    ablation.prepare(list(VARIANTS.values()))
    return ablation


def save_model(folder: Path, num_frames: int, seed: int = 0) -> None:
    pipe = tiny_pipeline(seed)
    pipe.register_to_config(defaults={**pipe.defaults, "num_frames": num_frames})
    pipe.save_pretrained(folder)


def variant_run(variant: Variant, ablation: Ablation, folder: Path) -> VariantRun:
    for name in ("train", "latents"):
        link(folder / name, ablation.out / name)
    return VariantRun(folder, ablation.start, remake=variant.remake, variant=variant, steps=2)


@pytest.mark.parametrize("name", ["kl-adaptive", "adapter-shallow", "adapter-every-frame", "adapter-linear"])
def test_every_adapter_learns(name: str, shared: Ablation, tmp_path: Path) -> None:
    """The loss of its first step depends on every weight."""
    run = variant_run(VARIANTS[name], shared, tmp_path)
    stage: Any = run.stage("adapter", SHORT)
    stage.prepare(run)
    loss, _ = stage(stage.make_batch(np.random.default_rng(0), 5))
    loss.backward()
    assert [n for n, p in stage.geo_adapter.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", chosen(["denoiser"]))
def test_every_denoiser_learns(name: str, shared: Ablation, tmp_path: Path) -> None:
    """The loss of its first step depends on the weights, and is the mean of what it reports."""
    stage: Any = variant_run(VARIANTS[name], shared, tmp_path).stage("diffusion", DIFFUSION_CONFIG)
    loss, report = stage(stage.make_batch(np.random.default_rng(0), 2))
    loss.backward()
    assert stage.transformer.patch_embedding.weight.grad is not None
    assert stage.transformer.config["unseen_frames"] == ("warped" if name == "denoiser-warped" else "black")
    assert list(report) == (["appearance"] if name == "denoiser-appearance" else ["appearance", "geometry"])
    assert loss.item() == pytest.approx(sum(v.item() for v in report.values()) / len(report), rel=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_changes_what_its_stages_train(name: str) -> None:
    variant, components = VARIANTS[name], vars(build_components(tiny()))
    for component in ("geo_adapter", "transformer"):
        plain = components[component]
        remade = variant.remake(component, plain)
        public = [{k: v for k, v in m.config.items() if not k.startswith("_")} for m in (plain, remade)]
        changed = type(remade) is not type(plain) or public[0] != public[1]
        assert changed == (component in variant.models or bool(variant.config.get(component)))
    assert {*variant.stages} <= {*variant.trains}
    changed_models = {*variant.models, *(name for name, changes in variant.config.items() if changes)}
    assert "adapter" in variant.trains or "geo_adapter" not in changed_models
    assert "diffusion" in variant.trains or "transformer" not in changed_models


def test_the_alignment_has_the_weight_of_its_variant(shared: Ablation, tmp_path: Path) -> None:
    kl, reconstruction = torch.tensor(100.0), torch.tensor(1.0)
    weights = {}
    for name in ("kl-adaptive", "kl-off", "kl-fixed"):
        (tmp_path / name).mkdir()
        stage: Any = variant_run(VARIANTS[name], shared, tmp_path / name).stage("adapter", SHORT)
        weights[name] = stage.alignment_weight(kl, reconstruction)
    assert weights == {"kl-adaptive": pytest.approx(1e-3), "kl-off": 0.0, "kl-fixed": 0.01}


def test_the_scheduled_alignment_rises_over_half_of_the_steps(shared: Ablation, tmp_path: Path) -> None:
    run = replace(variant_run(VARIANTS["kl-scheduled"], shared, tmp_path), steps=4)
    stage = run.stage("adapter", SHORT)
    assert isinstance(stage, ScheduledAlignment)
    stage.prepare(run)
    rising = [stage.alignment_weight(torch.tensor(100.0), torch.tensor(1.0)) for _ in range(4)]
    assert rising == pytest.approx([0, 5e-4, 1e-3, 1e-3])


def test_own_geometry_is_the_same_in_training_and_sampling(shared: Ablation, tmp_path: Path) -> None:
    run = variant_run(VARIANTS["denoiser-own-geometry"], shared, tmp_path)
    diffusion: Any = run.stage("diffusion", DIFFUSION_CONFIG)
    row = {k: v[None].float() for k, v in diffusion.latents[0].items()}
    images = run.clips()[0].images
    pipe = run.pipeline(diffusion.components, run.model)
    assert isinstance(pipe, OwnGeometryPipeline)
    frames_of = {0: images[[0, -1]], ALL_VIEWS: images, NO_VIEWS: images[:0]}
    for views, frames in frames_of.items():
        with torch.no_grad():
            trained = diffusion.control({**row, "views": torch.tensor([views])})
            request = Request(images=frames[None] if len(frames) else None, num_frames=5, height=112, width=112)
            sampled = pipe.prepare_control(request.resolve(pipe.defaults), frames[None], None, [])
        assert_alike(trained, sampled)
        assert bool(sampled[:, :16, ..., 14:].any()) == (views != NO_VIEWS)
        assert not sampled[:, 16:, ..., 14:].any()


def assert_alike(trained: Tensor, sampled: Tensor) -> None:
    """Both halves of a control agree, as far as bfloat16 goes."""
    for ours, theirs in zip(trained.chunk(2, dim=-1), sampled.chunk(2, dim=-1), strict=True):
        assert (ours - theirs).norm() <= 0.01 * theirs.norm()


def test_own_geometry_is_left_out_without_conditioning_frames(shared: Ablation, tmp_path: Path) -> None:
    run = variant_run(VARIANTS["denoiser-own-geometry"], shared, tmp_path)
    config = replace(DIFFUSION_CONFIG, single_frame=1.0)
    diffusion: Any = run.stage("diffusion", config)
    batch = diffusion.make_batch(np.random.default_rng(0), 2)
    assert OWN_GEOMETRY not in batch
    assert not diffusion.control(batch)[:, :16, ..., 14:].any()


def test_appearance_alone_has_its_geometry_from_the_frames(shared: Ablation, tmp_path: Path) -> None:
    run = variant_run(VARIANTS["denoiser-appearance"], shared, tmp_path)
    components = run.components((), ("transformer",))
    pipe = tiny_pipeline()
    pipe.register_modules(transformer=components.transformer.eval())
    given = {"generator": torch.Generator().manual_seed(0), "num_frames": 5}
    latents = pipe(torch.rand(1, 3, 112, 112), output_type="latent", **given)
    assert isinstance(latents, Tensor)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(latents[..., 14:], noise[..., 14:])  # the right half does not move
    frames = pipe.decode_frames(latents[..., :14])
    [scene] = pipe.decode(latents, geometry_from=VARIANTS["denoiser-appearance"].geometry_from)
    torch.testing.assert_close(scene.depth, pipe.reconstruct(frames[0]).depth)


def interrupt_once(ablation: Ablation, runs: list[tuple[str, int]]) -> list[int]:
    """Runs that stop once, after training; returns the number of results after each run."""
    checkpoints = [ablation.path(*runs[0]).with_suffix("") / stage / "checkpoint.safetensors" for stage in BOTH]
    written: list[list[int]] = []
    counts: list[int] = []
    evaluate = runner.evaluate

    def stop(pipe: Any, clips: list[Clip], parts: list[str]) -> Any:
        written.append([path.stat().st_mtime_ns for path in checkpoints if path.exists()])
        if len(written) == 1:
            raise KeyboardInterrupt
        patch.undo()
        return evaluate(pipe, clips, parts)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the prompt has")  # more tokens than the tiny text encoder takes
        patch.setattr(runner, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            ablation.run(runs, lambda: None)
        ablation.run(runs, lambda: counts.append(len(read_results(ablation.out))))
    assert written[0]
    assert written[0] == written[1]  # trained no further
    return counts


@pytest.mark.nightly
def test_an_ablation_from_start_to_report(long: Ablation, tmp_path: Path) -> None:
    ablation = replace(long, out=tmp_path / "runs")
    assert interrupt_once(ablation, RUNS) == [1, 2]
    assert {p.name for p in ablation.out.iterdir()} == {
        "train", "latents", "settings.json", *(f"{name}-{seed}.json" for name, seed in RUNS)
    }  # fmt: skip
    for result in read_results(ablation.out):
        trains = VARIANTS[result.variant].trains
        assert tuple(result.curves) == tuple(result.parameters) == tuple(result.seconds) == trains
        for stage, lines in result.curves.items():
            assert [line["step"] for line in lines] == [0, 1]
            assert result.seconds[stage] >= lines[-1]["seconds"] > 0
        assert math.isfinite(result.scores["one view PSNR"])
    paths = write_report(ablation.out)
    assert {p.name for p in paths} == {"results.md", "adapter.png", "alignment.png", "denoiser.png"}
    text = (ablation.out / "results.md").read_text()
    assert text.count("| kl-scheduled |") == 2  # its adapter, and the transformer on it
    assert "2 steps per stage, 1 clips, 1 held-out scenes, seeds 0." in text
    ablation.run(RUNS, lambda: pytest.fail("a run was repeated"))


@pytest.mark.nightly
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_from_start_to_result(name: str, long: Ablation) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the prompt has")
        long.run([(name, 7)], lambda: None)
    [result] = [r for r in read_results(long.out) if (r.variant, r.seed) == (name, 7)]
    assert tuple(result.curves) == VARIANTS[name].trains
    assert all(math.isfinite(score) for score in result.scores.values())


def test_a_run_leaves_its_result_alone_and_results_are_not_mixed(shared: Ablation, tmp_path: Path) -> None:
    """The whole way of one variant: train, evaluate, keep. Other settings are refused."""
    ablation = replace(shared, out=tmp_path / "runs")
    ablation.out.mkdir()
    for name in ("train", "latents"):
        link(ablation.out / name, shared.out / name)
    run = ("denoiser-channels", 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the prompt has")
        ablation.run([run], lambda: None)
    assert {p.name for p in ablation.out.iterdir()} == {"train", "latents", "settings.json", "denoiser-channels-0.json"}
    [result] = read_results(ablation.out)
    assert tuple(result.curves) == tuple(result.parameters) == tuple(result.seconds) == DIFFUSION
    assert [line["step"] for line in result.curves["diffusion"]] == [0, 1]
    assert math.isfinite(result.scores["one view PSNR"])
    before = {p: p.stat().st_mtime_ns for p in ablation.out.iterdir()}
    ablation.run([run], lambda: pytest.fail("a run was repeated"))
    with pytest.raises(InputError, match="was begun with --steps 2"):
        replace(ablation, steps=3).run([run], lambda: None)
    save_model(tmp_path / "other", 5, seed=1)
    with pytest.raises(InputError, match="weights of another model"):
        replace(ablation, start=str(tmp_path / "other")).run([run], lambda: None)
    assert {p: p.stat().st_mtime_ns for p in ablation.out.iterdir()} == before


def result_of(name: str, seed: int, auc: float, tokens: list[float]) -> Result:
    lines = [{"step": 5 * i, "tokens": value, "kl": 10.0, "seconds": 1.0} for i, value in enumerate(tokens)]
    return Result(
        variant=name, seed=seed, parameters={"adapter": 4_700_000}, seconds={"adapter": 10.0 + seed},
        scores={"adapter adds AbsRel": 0.1, "adapter AUC@30": auc}, curves={"adapter": lines},
    )  # fmt: skip


def test_the_report_has_means_deviations_and_curves(tmp_path: Path) -> None:
    results = [result_of("adapter-wide", s, a, [9, 9, 9, 9, *t]) for s, a, t in ((0, 0.5, [1, 3]), (1, 0.7, [3, 5]))]
    results.append(result_of("adapter-narrow", 0, 0.25, [9, 9, 9, 9, 4, 4]))
    for result in results:
        (tmp_path / f"{result.variant}-{result.seed}.json").write_text(json.dumps(asdict(result)))
    (tmp_path / "settings.json").write_text(json.dumps({"start": "nano", "steps": 30, "clips": 2, "scenes": 1}))
    rows = table(read_results(tmp_path), "adapter").splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["adapter-narrow", "adapter-wide"]
    assert [cell.strip() for cell in rows[3].split("|")[3:-1]] == [
        "3 ± 1.4", "10 ± 0", "0.1 ± 0", "0.6 ± 0.14", "4.70", "10",
    ]  # fmt: skip
    assert "| 4 | 10 | 0.1 | 0.25 |" in rows[2]
    tokens, kl = figure(results, "adapter").axes
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in tokens.lines}
    assert drawn == {"adapter-wide": [9, 9, 9, 9, 2, 4], "adapter-narrow": [9, 9, 9, 9, 4, 4]}
    assert (tokens.get_title(), tokens.get_yscale(), kl.get_title()) == ("tokens", "log", "kl")
    assert [p.name for p in write_report(tmp_path)] == ["results.md", "adapter.png"]
    assert "30 steps per stage, 2 clips, 1 held-out scenes, seeds 0, 1." in (tmp_path / "results.md").read_text()


def test_time_adds_up_over_interruptions() -> None:
    lines = [{"step": float(s), "seconds": t} for s, t in enumerate([1.0, 2.0, 3.0, 0.5, 1.5])]
    assert training_seconds(lines, 10) == pytest.approx((3.0 + 1.5) * 10 / 5)


def test_the_command_lists_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--out", str(tmp_path / "runs")]
    assert chosen(["kl", "denoiser-joint"]) == ["kl-adaptive", "kl-off", "kl-fixed", "kl-scheduled", "denoiser-joint"]
    assert main([*folder, "--only", "kl", "--seeds", "3", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("adapter and diffusion") == 12
    for options, message in {
        ("--only", "klein"): "no variant is called klein; they are kl-adaptive",
        ("--steps", "0"): "--steps must be at least 1, not 0",
        ("--shard", "2", "--num-shards", "2"): "no shard 2 of 2",
    }.items():
        assert main([*folder, *options]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found before anything is trained."""
    monkeypatch.delitem(sys.modules, "experiments.ablations.report")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["--out", str(tmp_path / "runs")]) == 2
    assert re.fullmatch(r"gen3r: error: .* pip install 'gen3r\[ablation\]'\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
