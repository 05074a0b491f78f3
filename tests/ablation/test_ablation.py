"""The ablation: runs on tiny models to a table, what is done stays done, and what was stopped goes on."""

import json
import math
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gen3r.ablation import report, runner
from gen3r.ablation.report import read_results, table, write_report
from gen3r.ablation.runner import Ablation, Result
from gen3r.ablation.variants import BOTH, VARIANTS, chosen
from gen3r.cli.main import main
from gen3r.errors import InputError
from gen3r.models.presets import build_components, tiny
from tests.tiny import tiny_pipeline

RUNS = [("kl-scheduled", 0), ("denoiser-own-geometry", 0)]


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    folder = tmp_path_factory.mktemp("ablation")
    model(folder / "start")
    return Ablation(folder / "runs", folder / "start", steps=2, clips=1, scenes=1)


def model(folder: Path, seed: int = 0) -> None:
    """A tiny one whose clips are as long as nano's."""
    pipe = tiny_pipeline(seed)
    pipe.register_to_config(defaults={**pipe.defaults, "num_frames": 17})
    pipe.save_pretrained(folder)


@pytest.fixture(scope="module")
def done(ablation: Ablation) -> list[int]:
    """How many results there were after each run. The first was stopped once, after its training, and went on."""
    checkpoints = [ablation.folder / "kl-scheduled-0" / stage / "checkpoint.safetensors" for stage in BOTH]
    seen, called, measure = [], [], runner.evaluate

    def stop(*arguments: Any, **options: Any) -> dict[str, float]:
        seen.append([path.stat().st_mtime_ns for path in checkpoints])
        if len(seen) == 1:
            raise KeyboardInterrupt
        patch.undo()
        return measure(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the prompt has")  # more tokens than the tiny text encoder takes
        patch.setattr(runner, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            ablation.run(RUNS, lambda: None)
        ablation.run(RUNS, lambda: called.append(len(read_results(ablation.folder))))
    assert seen[0] == seen[1]  # trained no further
    return called


def test_every_run_leaves_its_result_alone(ablation: Ablation, done: list[int]) -> None:
    assert done == [1, 2]
    results = {r.variant: r for r in read_results(ablation.folder)}
    assert {p.name for p in ablation.folder.iterdir()} == {
        "train", "latents", "settings.json", *(f"{name}-{seed}.json" for name, seed in RUNS)
    }  # fmt: skip
    for name, _ in RUNS:
        result = results[name]
        assert tuple(result.curves) == tuple(result.parameters) == tuple(result.seconds) == VARIANTS[name].stages
        for stage, lines in result.curves.items():
            assert [line["step"] for line in lines] == [0, 1]
            assert result.seconds[stage] >= lines[-1]["seconds"] > 0
        assert math.isfinite(result.scores["one view PSNR"])


def test_nothing_is_done_twice_or_mixed(ablation: Ablation, done: list[int]) -> None:
    before = {p: p.stat().st_mtime_ns for p in ablation.folder.rglob("*")}
    ablation.run(RUNS, lambda: pytest.fail("a run was done again"))
    with pytest.raises(InputError, match="was begun with --steps 2"):
        replace(ablation, steps=3).run(RUNS, lambda: None)
    other = ablation.folder.parent / "other"
    model(other, seed=1)
    with pytest.raises(InputError, match="weights of another model"):
        replace(ablation, start=other).run(RUNS, lambda: None)
    assert {p: p.stat().st_mtime_ns for p in ablation.folder.rglob("*")} == before


def test_the_report_is_made_of_the_results(ablation: Ablation, done: list[int], tmp_path: Path) -> None:
    paths = write_report(ablation.folder, tmp_path)
    assert {p.name for p in paths} == {"results.md", "adapter.png", "alignment.png", "denoiser.png"}
    text = (tmp_path / "results.md").read_text()
    assert text.count("| kl-scheduled |") == 2  # its adapter, and the transformer on it
    assert "2 steps a stage, 1 clips, 1 held-out scenes, seeds 0." in text
    for path in paths[1:]:
        with Image.open(path) as picture:
            assert len(picture.getcolors(2**24) or []) > 10


def made(name: str, seed: int, auc: float, tokens: list[float]) -> Result:
    lines = [{"step": 5 * i, "tokens": value, "kl": 10.0, "seconds": 1.0} for i, value in enumerate(tokens)]
    return Result(
        variant=name, seed=seed, parameters={"adapter": 4_700_000}, seconds={"adapter": 10.0 + seed},
        scores={"adapter adds AbsRel": 0.1, "adapter AUC@30": auc}, curves={"adapter": lines},
    )  # fmt: skip


def test_the_table_has_means_and_spreads(tmp_path: Path) -> None:
    results = [made("adapter-wide", 0, 0.5, [9, 9, 9, 9, 1, 3]), made("adapter-wide", 1, 0.7, [9, 9, 9, 9, 3, 5])]
    results.append(made("kl-off", 0, 0.25, [9, 9, 9, 9, 4, 4]))
    for result in results:
        (tmp_path / f"{result.variant}-{result.seed}.json").write_text(json.dumps(asdict(result)))
    rows = table(read_results(tmp_path), "adapter").splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["kl-off", "adapter-wide"]
    assert [cell.strip() for cell in rows[3].split("|")[3:-1]] == [
        "3 ± 1.4", "10 ± 0", "0.1 ± 0", "0.6 ± 0.14", "4.70", "10",
    ]  # fmt: skip
    assert "| 4 | 10 | 0.1 | 0.25 |" in rows[2]
    assert report.curves(results, "adapter").size[0] > 0


def test_time_adds_up_over_interruptions() -> None:
    lines = [{"step": float(s), "seconds": t} for s, t in enumerate([1.0, 2.0, 3.0, 0.5, 1.5])]
    assert runner._seconds(lines, 10) == pytest.approx((3.0 + 1.5) * 10 / 5)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_changes_what_a_model_has(name: str) -> None:
    """Its arguments exist, and its stages are those that they concern."""
    variant, config = VARIANTS[name], tiny()
    build_components(
        replace(
            config,
            geo_adapter=config.geo_adapter | variant.geo_adapter,
            transformer=config.transformer | variant.transformer,
        )
    )
    assert "adapter" in variant.stages or (not variant.geo_adapter and variant.kl == "adaptive")
    assert "diffusion" in variant.stages or not variant.transformer


def test_the_command_tells_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["train", "ablate", "--folder", str(tmp_path / "runs")]
    assert chosen(["kl", "denoiser-joint"]) == ["kl-adaptive", "kl-off", "kl-fixed", "kl-scheduled", "denoiser-joint"]
    assert main([*folder, "--only", "kl", "--seeds", "3", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("adapter and diffusion") == 12
    for options, message in {
        ("--only", "klein"): "no variant is called klein; they are kl-adaptive",
        ("--steps", "0"): "--steps must be at least 1, not 0",
        ("--part", "2", "--parts", "2"): "no part 2 of 2",
    }.items():
        assert main([*folder, *options]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
