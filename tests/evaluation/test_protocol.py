"""The table of `gen3r evaluate`, on tiny models."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gen3r.cli.main import main
from gen3r.data.synthetic import render_clip
from gen3r.evaluation.metrics import psnr
from gen3r.evaluation.protocol import evaluate
from tests.tiny import tiny_pipeline

ROWS = {
    "autoencoder PSNR", "VGGT AbsRel", "VGGT AUC@30", "adapter adds AbsRel", "adapter AUC@30", "one view PSNR",
    "repeat first frame PSNR", "frame 0 PSNR", "one view AbsRel", "one view AUC@30",
}  # fmt: skip


def test_each_row_measures_what_it_says() -> None:
    clip = replace(render_clip(0, frames=5, split="test"), caption="a room")
    pipe = tiny_pipeline()
    scores = evaluate(pipe, [clip])
    assert set(scores) == ROWS
    images = clip.images[None]
    assert scores["repeat first frame PSNR"] == pytest.approx(psnr(images[:, :1].expand_as(images), images))

    seen = pipe.reconstruct(images[0])
    as_seen = replace(clip, depth=3 * seen.depth, cameras=seen.cameras)
    perfect = evaluate(pipe, [as_seen], generate=False)
    assert perfect["VGGT AbsRel"] == pytest.approx(0, abs=1e-5)
    assert perfect["VGGT AUC@30"] == 1 > perfect["adapter AUC@30"]
    assert perfect["adapter adds AbsRel"] > 1e-5
    assert perfect["autoencoder PSNR"] == scores["autoencoder PSNR"]


@pytest.mark.filterwarnings("ignore:the prompt has")
def test_the_command_measures_a_folder_stored_in_bfloat16(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_pipeline().to(torch.bfloat16).save_pretrained(tmp_path / "tiny")
    assert main(["evaluate", "--model", str(tmp_path / "tiny"), "--scenes", "1", "--json"]) in (0, None)
    scores = json.loads(capsys.readouterr().out)
    assert set(scores) >= ROWS
    assert all(math.isfinite(scores[row]) for row in ROWS)
