"""`gen3r train`: every stage takes the options that it reads, and no other."""

import subprocess
import sys
from pathlib import Path

import pytest

from gen3r.cli.main import main
from gen3r.training.stages import STAGES


@pytest.mark.parametrize(
    "words",
    [
        ["package", "--out", "x", "--batch-size", "3"],
        ["package", "--out", "x", "--learning-rate", "9"],
        ["diffusion", "--clips", "3"],
        ["diffusion", "--teacher"],
        ["diffusion", "--out", "x"],
        ["diffusion", "--rank", "4"],
        ["adapter", "--rank", "4"],
        ["adapter", "--decoder-only"],
        ["adapter", "--gradient-checkpointing"],
        ["geometry", "--keep-latents"],
        ["text", "--single-frame"],
        ["text", "--sheet-every", "3"],
        ["latents", "--steps", "4"],
        ["latents", "--tracker", "tensorboard"],
        ["latents", "--dry-run"],
    ],
)
def test_options_that_a_stage_does_not_read_are_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--folder", str(tmp_path)]) == 2
    assert f"unrecognized arguments: {words[-2 if len(words) % 2 else -1]}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adapter", "--recipe", "published"], "starts from a model; name it with --start"),
        (["geometry", "--recipe", "published", "--start", "nano"], "recipe trains adapter, diffusion, distill, lora"),
        (["latents", "--single-frame", "--start", "nano"], "single_frame/train --frames 1"),
        (["adapter", "--keep-latents", "--online"], "train that stage first"),
        (["autoencoder", "--keep-latents", "--online"], "name it with --start"),
        (["autoencoder", "--keep-latents", "--decoder-only", "--online"], "leave --keep-latents out"),
        (["geometry", "--micro-batches", "0"], "--micro-batches must be at least 1, not 0"),
        (["geometry", "--minutes", "0"], "--minutes must be positive, not 0"),
        (["lora", "--rank", "0"], "--rank must be at least 1, not 0"),
        (["latents", "--clips", "0"], "--clips must be at least 1, not 0"),
        (["latents", "--shard", "2", "--num-shards", "2"], "there is no shard 2 of 2"),
        (["geometry", "--tracker", "slate"], "the trackers are tensorboard, wandb, not slate"),
        (["package"], "the following arguments are required: --out"),
    ],
)
def test_what_cannot_work_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--folder", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_stage_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in [*STAGES, "latents", "package"]:
        with pytest.raises(SystemExit, match="0"):
            main(["train", name, "--help"])
        assert "--folder" in capsys.readouterr().out


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from gen3r.cli.main import main\n"
        "try: main(['train', 'adapter', '--help'])\n"
        "except SystemExit: assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
