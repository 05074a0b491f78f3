"""The table of `gen3r evaluate`, on tiny models."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.cli.main import main
from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.evaluation import probe as probing
from gen3r.evaluation.metrics import absolute_relative, camera_auc, psnr, ssim
from gen3r.evaluation.probe import Probe
from gen3r.evaluation.protocol import PARTS, Mean, evaluate, held_out_clips
from gen3r.geometry.normalise import normalise_scene
from gen3r.geometry.splatting import warp_views
from gen3r.pipeline import Gen3RPipeline
from tests.tiny import tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:the prompt has")  # tiny models read 16 bytes

# of every part, in the table's order
ROWS = {
    "autoencoder": ["autoencoder PSNR", "autoencoder SSIM"],
    "geometry": ["VGGT AbsRel", "VGGT AbsRel, median scale", "VGGT AUC@30", "adapter adds AbsRel", "adapter AUC@30"],
    "generation": [
        "one view PSNR", "one view SSIM", "one view AbsRel", "one view AUC@30", "frame 0 PSNR",
        "repeat first frame PSNR", "repeat first frame SSIM", "depth warp PSNR", "depth warp SSIM",
    ],
    "two-views": ["two views PSNR", "two views SSIM", "two views AbsRel", "two views AUC@30"],
    "no-path": [
        *(f"one view, cameras free, {score}" for score in ("PSNR", "SSIM", "AbsRel", "AUC@30")),
        *(f"two views, path between, {score}" for score in ("PSNR", "SSIM", "AbsRel", "AUC@30")),
    ],
    "text": ["text alone indoors or out", "probe indoors or out", "chance indoors or out"],
}  # fmt: skip
ROOM, PLAZA = "A room with a red wooden floor.", "A plaza with a grey stone ground."


@pytest.fixture(scope="module")
def clip() -> Clip:
    return replace(render_clip(3, frames=5, split="test"), caption=ROOM, attributes={"place": "room"})


@pytest.fixture(scope="module")
def pipe() -> Gen3RPipeline:
    """VGGT sees single photos at another size than clips, as nano's does."""
    tiny = tiny_pipeline()
    return Gen3RPipeline(**tiny.components, defaults=tiny.defaults | {"photo_size": 140})


def _values(scores: dict[str, Mean]) -> dict[str, float]:
    return {name: mean.value for name, mean in scores.items()}


def test_each_row_measures_what_it_says(pipe: Gen3RPipeline, clip: Clip) -> None:
    scores = _values(evaluate(pipe, [clip], ["generation", "geometry", "autoencoder"]))
    assert list(scores) == [*ROWS["autoencoder"], *ROWS["geometry"], *ROWS["generation"]]
    images = clip.images
    repeated = images[:1].expand_as(images)
    assert scores["repeat first frame PSNR"] == pytest.approx(psnr(repeated, images))
    assert scores["repeat first frame SSIM"] == pytest.approx(ssim(repeated, images))
    _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    path = replace(clip.cameras, T_world_camera=poses)
    moved, _ = warp_views(images[:1], pipe.reconstruct(images[:1], *images.shape[-2:]).depth, [0], path)
    assert scores["depth warp PSNR"] == pytest.approx(psnr(moved, images))

    seen = pipe.reconstruct(images, feed_forward=True)
    as_seen = replace(clip, depth=3 * seen.depth, cameras=seen.cameras)
    perfect = _values(evaluate(pipe, [as_seen], ["autoencoder", "geometry"]))
    assert perfect["VGGT AbsRel"] == pytest.approx(0, abs=1e-5)
    assert perfect["VGGT AUC@30"] == 1 > perfect["adapter AUC@30"]
    assert perfect["adapter adds AbsRel"] > 1e-5
    assert perfect["autoencoder PSNR"] == scores["autoencoder PSNR"]


def test_two_views_are_the_first_and_the_last_along_the_true_cameras(pipe: Gen3RPipeline, clip: Clip) -> None:
    scores = evaluate(pipe, [clip], ["two-views"], seed=5)
    assert list(scores) == ROWS["two-views"]
    _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    path = Cameras(poses, clip.cameras.K_px, 112, 112)
    generator = torch.Generator().manual_seed(5)
    scene = pipe(
        clip.images[[0, -1]][None], prompt=ROOM, cameras=path, num_frames=5, output_size=0, generator=generator
    )[0]
    assert not isinstance(scene, torch.Tensor)
    made = scene.frames.permute(0, 3, 1, 2) / 255
    assert scores["two views PSNR"].value == pytest.approx(psnr(made, clip.images))
    assert scores["two views AbsRel"].value == pytest.approx(absolute_relative(scene.depth, clip.depth, clip.depth > 0))
    assert scores["two views AUC@30"].value == pytest.approx(camera_auc(scene.cameras.T_world_camera, poses))


def test_without_a_path_one_view_is_free_and_two_have_one_between(pipe: Gen3RPipeline, clip: Clip) -> None:
    scores = evaluate(pipe, [clip], ["no-path"], seed=5)
    assert list(scores) == ROWS["no-path"]
    for name, views, cameras in (
        ("one view, cameras free", [0], "free"),
        ("two views, path between", [0, -1], "between"),
    ):
        generator = torch.Generator().manual_seed(5)
        options = {"cameras": cameras, "num_frames": 5, "output_size": 0, "generator": generator}
        scene = pipe(clip.images[views][None], prompt=ROOM, **options)[0]
        assert not isinstance(scene, torch.Tensor)
        assert scores[f"{name}, PSNR"].value == pytest.approx(psnr(scene.images, clip.images))
        truth = clip.cameras.T_world_camera
        assert scores[f"{name}, AUC@30"].value == pytest.approx(camera_auc(scene.cameras.T_world_camera, truth))


def test_text_alone_is_judged_by_what_its_frames_show(pipe: Gen3RPipeline, clip: Clip) -> None:
    scene = pipe(prompt=ROOM, num_frames=5, generator=torch.Generator().manual_seed(0))[0]
    assert not isinstance(scene, torch.Tensor)
    like_made = replace(clip, frames=scene.frames, depth=scene.depth)
    like_real = replace(clip, caption=PLAZA, attributes={"place": "plaza"})
    probe = Probe.fit([like_made, like_real, like_real])
    scores = evaluate(pipe, [clip], ["text"], probe=probe)
    assert list(scores) == ROWS["text"]
    assert _values(scores) == dict(zip(ROWS["text"], (1, 0, 0), strict=True))
    assert evaluate(pipe, [clip, like_real], ["text"], probe=probe)["chance indoors or out"] == Mean(0.5, 0.5, 2)


def test_each_scene_has_its_own_seed(pipe: Gen3RPipeline, clip: Clip) -> None:
    both = evaluate(pipe, [clip, clip], ["two-views"], seed=3)["two views PSNR"]
    first, second = (evaluate(pipe, [clip], ["two-views"], seed=s)["two views PSNR"].value for s in (3, 4))
    assert first != second
    assert both.value == pytest.approx((first + second) / 2)
    assert both.error == pytest.approx(abs(first - second) / 2)


def test_held_out_clips_are_those_of_the_test_split() -> None:
    clip = next(held_out_clips(2, 1, 28, 56))
    assert torch.equal(clip.frames, render_clip(0, 1, 28, 56, split="test").frames)


def test_the_command_measures_a_folder_stored_in_bfloat16(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "CLIPS", 12)
    assert tuple(ROWS) == PARTS
    tiny_pipeline().to(torch.bfloat16).save_pretrained(tmp_path / "tiny")
    model = str(tmp_path / "tiny")
    assert main(["evaluate", "--model", model, "--scenes", "1", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    rows = [row for part in PARTS for row in ROWS[part]]
    assert list(scores) == ["model", "scenes", "seed", *rows, "standard errors", "scenes of each"]
    assert all(math.isfinite(scores[row]) for row in rows)
    assert scores["scenes of each"] == dict.fromkeys(rows, 1)

    asked = ["--scenes", "2", "--only", "autoencoder"]
    assert main(["evaluate", "--model", model, *asked]) == 0
    header, _, decibels, similarity = capsys.readouterr().out.splitlines()
    assert header == f"| {model}, 2 held-out scenes | mean ± standard error |"
    assert decibels.startswith("| autoencoder PSNR | ")
    assert " ± " in similarity


def test_the_command_refuses_what_it_cannot_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--scenes", "0"]) == 2
    assert "--scenes must be at least 1" in capsys.readouterr().err
    assert main(["evaluate", "--only", "everything"]) == 2
    assert "invalid choice: 'everything'" in capsys.readouterr().err
