"""The tables of `gen3r evaluate --data`, on tiny models and small folders in the standard form."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen3r.cameras.camera import Cameras
from gen3r.cameras.paths import trajectory
from gen3r.cli.main import main
from gen3r.data.clips import load_clip
from gen3r.data.readers import detect_dataset
from gen3r.data.records import Clip, ClipRecord
from gen3r.data.standard import write_scene
from gen3r.errors import InputError
from gen3r.evaluation.datasets import evaluate_records, means
from gen3r.evaluation.generation import along_true_path, spread, true_path
from gen3r.evaluation.metrics import fine_detail, psnr, ssim
from gen3r.evaluation.reconstruction import camera_scores, depth_scores, reconstruction_tables
from gen3r.evaluation.rivals import best_direction, flat_wall, row_prior, standing_still, straight_line
from gen3r.geometry.splatting import warp_views
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from tests.poses import random_cameras, random_poses, seeds
from tests.tiny import tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:the prompt has")  # tiny models read 16 bytes
FRAMES, HEIGHT, WIDTH = 4, 120, 150


@pytest.fixture(scope="module")
def pipe() -> Gen3RPipeline:
    return tiny_pipeline()


def record(depth: bool = True, camera: str = "dolly_in", frames: int = FRAMES) -> ClipRecord:
    """A clip of soft noise, of which no corners can be matched, before a slope that is nearer at its bottom, and
    unknown to the left."""
    coarse = torch.rand(frames, 3, HEIGHT // 30, WIDTH // 30, generator=torch.Generator().manual_seed(0))
    noise = torch.nn.functional.interpolate(255 * coarse, (HEIGHT, WIDTH), mode="bilinear").movedim(1, -1)
    slope = torch.linspace(4, 2, HEIGHT)[:, None].repeat(1, WIDTH)
    slope[:, : WIDTH // 3] = 0
    K = torch.tensor([[130.0, 0, WIDTH / 2], [0, 130, HEIGHT / 2], [0, 0, 1]])
    cameras = trajectory(camera, frames, K, HEIGHT, WIDTH, scene_depth=3)
    pixels = noise.to(torch.uint8)
    return ClipRecord(
        "test", "clip", cameras, pixels.__getitem__, (lambda _: slope) if depth else None, captions=("a slope",)
    )


def clip(size: int = 112, camera: str = "dolly_in") -> Clip:
    return load_clip(record(camera=camera), [*range(FRAMES)], size, size)


@given(st.integers(2, 40), st.integers(2, 30))
def test_rows_and_walls_are_what_they_say(height: int, width: int) -> None:
    rows = row_prior(torch.zeros(2, height, width))
    assert (rows.shape, flat_wall(rows).unique().tolist()) == ((2, height, width), [1])
    assert (rows.diff(dim=1) < 0).all()
    assert rows.diff(dim=2).abs().max() == 0
    inverse = (1 / rows[0, :, 0]).diff()
    torch.testing.assert_close(inverse, inverse.mean().expand_as(inverse), atol=1e-5, rtol=1e-4)
    assert rows.max() / rows.min() < 2


def test_depth_is_judged_where_it_is_known() -> None:
    truth = record().read_depth(0)[None]  # type: ignore[misc]
    scores = depth_scores(torch.where(truth > 0, 7 * truth, 1e-3), truth)
    assert scores["AbsRel"] == pytest.approx(0, abs=1e-6)
    assert scores["delta<1.25"] == scores["rank"] == pytest.approx(1)
    assert scores["rank, row prior"] == pytest.approx(1, abs=1e-3)
    assert 0 < scores["AbsRel, row prior"] < scores["AbsRel, flat wall"]
    assert "rank" not in depth_scores(truth, flat_wall(truth))  # whose order is not defined


@pytest.mark.parametrize(("camera", "direction"), [("dolly_in", "forward"), ("truck_left", "left")])
def test_the_straight_line_is_the_best_of_four(camera: str, direction: str) -> None:
    T = trajectory(camera, 6, torch.eye(3), 2, 2).T_world_camera
    assert best_direction([T, T]) == direction
    scores = camera_scores(standing_still(6), T, direction)
    assert scores["AUC@30, straight line"] == scores["far AUC@30, straight line"] == 1
    assert scores["far direction [deg], straight line"] == pytest.approx(0, abs=1e-3)
    assert scores["far direction [deg]"] == 90
    assert scores["ATE/length, straight line"] == pytest.approx(0, abs=1e-6)
    assert scores["ATE/length"] == scores["ATE/length, standing still"] > 0.1


@given(seeds)
def test_cameras_that_are_true_up_to_a_similarity_are_perfect(seed: int) -> None:
    truth = random_poses(seed, 5)
    moved = random_poses(seed + 1, 1)[0] @ truth
    moved[:, :3, 3] *= 2
    scores = camera_scores(moved, truth, "forward")
    assert scores["AUC@30"] == scores["far AUC@30"] == scores["rotation AUC@30"] == 1
    assert max(scores[x] for x in ("far direction [deg]", "rotation [deg]", "ATE/length")) < 1e-3


def test_far_pairs_stand_apart() -> None:
    truth = straight_line(5, "right")
    bent = truth.clone()
    bent[1, 2, 3] = 1  # the pairs 0-1 and 1-2 point elsewhere; those far apart, 3 and 4 steps, less so
    scores = camera_scores(bent, truth, "right")
    assert scores["far AUC@30"] > scores["AUC@30"] > 0


def test_the_models_own_scene_is_reconstructed_without_error(pipe: Gen3RPipeline) -> None:
    seen = pipe.reconstruct(clip().images)
    scored = replace(clip(), depth=3 * seen.depth, cameras=seen.cameras)
    tables = reconstruction_tables(pipe, scored, "forward")
    assert tables["depth of the clip"]["AbsRel"] == pytest.approx(0, abs=1e-5)
    assert tables["depth of the clip"]["rank"] == pytest.approx(1)
    assert tables["cameras"]["AUC@30"] == 1
    alone = pipe.reconstruct(clip().images[:1]).depth
    single = replace(scored, depth=torch.cat([alone, torch.zeros(FRAMES - 1, 112, 112)]))
    photos = reconstruction_tables(pipe, single, None)["depth of single photos"]  # the only one with depth
    assert photos["AbsRel"] == pytest.approx(0, abs=1e-5)


def test_generation_is_judged_on_the_frames_that_are_not_given(pipe: Gen3RPipeline) -> None:
    real = clip(120, "truck_left")
    ends = [0, FRAMES - 1]
    scores = along_true_path(pipe, real, ends, seed=3)
    cameras = true_path(pipe, real, ends, pipe.predict_photos(real.images[ends]).depth[0])
    path, places = spread(cameras, 5)
    generator = torch.Generator().manual_seed(3)
    scene = pipe(real.images[[0, -1]][None], prompt="a slope", cameras=path, generator=generator)[0]
    assert isinstance(scene, Scene)
    made = torch.nn.functional.interpolate(scene.images, (120, 120), mode="bicubic", antialias=True).clamp(0, 1)
    made, target = made[places[1:-1]], real.images[1:-1]
    assert scores["PSNR"] == pytest.approx(psnr(made, target), abs=1e-3)
    assert scores["SSIM"] == pytest.approx(ssim(made, target), abs=1e-4)
    assert scores["detail"] == pytest.approx(fine_detail(made) / fine_detail(target), rel=1e-3)
    assert scores["PSNR, repeat"] == pytest.approx(psnr(real.images[[0, 3]], target))
    generator.manual_seed(3)
    [plain] = pipe(real.images[[0, -1]][None], prompt="a slope", cameras=path, generator=generator, output_size=0)
    assert isinstance(plain, Scene)
    small = torch.nn.functional.interpolate(plain.images, (120, 120), mode="bicubic", antialias=True).clamp(0, 1)
    assert scores["PSNR, generated"] == pytest.approx(psnr(small[places[1:-1]], target), abs=2e-3)
    assert scores["PSNR, generated"] != scores["PSNR"]
    assert 0 < scores["coverage"] <= 1

    first = along_true_path(pipe, real, [0], seed=3)
    depth = pipe.predict_photos(real.images[:1]).depth[0]
    cameras = true_path(pipe, real, [0], depth)
    depth = torch.nn.functional.interpolate(depth[:, None], (120, 120), mode="bilinear")[:, 0]
    warped, known = warp_views(real.images[:1], depth, [0], cameras)
    assert first["PSNR, depth warp"] == pytest.approx(psnr(warped[1:], real.images[1:]))
    assert first["coverage"] == pytest.approx(float(known[1:].float().mean()))
    assert first["coverage"] < scores["coverage"]


def test_what_is_exported_is_the_scenes_own_depth_and_cameras(pipe: Gen3RPipeline) -> None:
    real = clip()
    path, places = spread(first_path(pipe, real), 5)
    generator = torch.Generator().manual_seed(0)
    scene = pipe(real.images[:1][None], prompt="a slope", cameras=path, generator=generator)[0]
    assert isinstance(scene, Scene)
    own = replace(scene.cameras, T_world_camera=scene.cameras.T_world_camera[places], K_px=scene.cameras.K_px[places])
    warped, _ = warp_views(real.images[:1], scene.depth[:1], [0], own)
    scores = along_true_path(pipe, real, [0], seed=0)
    assert scores["PSNR, exported"] == pytest.approx(psnr(warped[1:], real.images[1:]))
    assert scores["PSNR, exported"] == pytest.approx(scores["PSNR, depth warp"], abs=0.1)  # it is what steered
    assert scores["fit PSNR, exported"] == pytest.approx(psnr(warped[1:], scene.images[places[1:]]))


@given(seeds, st.integers(2, 6), st.integers(0, 12))
def test_a_path_leads_through_all_cameras(seed: int, count: int, more: int) -> None:
    cameras = random_cameras(seed, count)
    path, places = spread(cameras, count + more)
    assert len(path) == count + more
    assert (places[0], places[-1]) == (0, count + more - 1)
    assert len(set(places)) == count
    torch.testing.assert_close(path.T_world_camera[places], cameras.T_world_camera)
    torch.testing.assert_close(path.K_px[places], cameras.K_px)


def first_path(pipe: Gen3RPipeline, real: Clip) -> Cameras:
    """The true path in the scale that the model sees in the first frame."""
    return true_path(pipe, real, [0], pipe.predict_photos(real.images[:1]).depth[0])


def test_the_path_has_the_scale_that_the_model_sees(pipe: Gen3RPipeline) -> None:
    real = clip()
    closer = replace(real, depth=3 * real.depth, cameras=real.cameras.scaled(3))
    torch.testing.assert_close(first_path(pipe, real).centres, first_path(pipe, closer).centres)
    truth = real.depth[:1]
    doubled = true_path(pipe, real, [0], 2 * truth)
    torch.testing.assert_close(doubled.centres, 2 * real.cameras.centres)
    blind = replace(real, depth=0 * real.depth)
    predicted = pipe.reconstruct(real.images, 112, 112, feed_forward=True).cameras.centres
    ours = first_path(pipe, blind).centres
    assert ours.norm() == pytest.approx(max(float(predicted.norm()), 1e-3 * FRAMES**0.5), rel=1e-3)


def test_scenes_have_the_tables_that_their_data_allow(pipe: Gen3RPipeline) -> None:
    still = record(camera="pan_left")
    clips = {"whole": record(), "no depth": record(depth=False), "still": still}
    found = evaluate_records(pipe, clips, longer_side=84)
    depth = ["depth of the clip", "depth of single photos"]
    rest = ["one view", "two views", "autoencoder"]
    assert list(found["whole"]) == [*depth, "cameras", *rest]
    assert list(found["no depth"]) == ["cameras", *rest]
    assert list(found["still"]) == [*depth, "autoencoder"]
    average = means(found)
    assert average["cameras"]["AUC@30"].scenes == 2
    assert average["autoencoder"]["PSNR"].value == pytest.approx(
        sum(tables["autoencoder"]["PSNR"] for tables in found.values()) / 3
    )
    two = evaluate_records(pipe, {"two frames": record(frames=2)}, ["generation", "two-views"])
    assert list(two["two frames"]) == ["one view"]  # nothing is left to compare two views with


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


def test_the_command_prints_a_row_for_each_scene(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "short"):
        write_scene(record(), tmp_path / "data" / name)
    damaged = tmp_path / "data" / "short" / "transforms.json"
    damaged.write_text(json.dumps({"frames": json.loads(damaged.read_text())["frames"][:1]}))
    asked = ["evaluate", "--model", model, "--data", str(tmp_path / "data"), "--only", "reconstruction"]
    assert main(asked) == 0
    output = capsys.readouterr()
    assert "warning: short left out: it has fewer than 2 frames" in output.err
    tables = [table.splitlines() for table in output.out.split("\n\n")]
    assert [table[0].split(" | ")[0] for table in tables] == [
        "| depth of the clip", "| depth of single photos", "| cameras"
    ]  # fmt: skip
    for table in tables:
        assert [row.split(" | ")[0] for row in table[2:]] == ["| a", "| b", "| **mean of 2**"]
        assert len({row.count("|") for row in table}) == 1

    assert main([*asked, "--scenes", "1", "--eval-size", "84", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert list(scores) == ["model", "data", "eval_size", "seed", "mean", "scenes"]
    assert list(scores["scenes"]) == ["a"]
    mean = scores["mean"]["cameras"]["AUC@30"]
    assert mean == {"value": scores["scenes"]["a"]["cameras"]["AUC@30"], "error": None, "scenes": 1}


def test_the_command_refuses_what_it_cannot_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str) -> str:
        assert main(["evaluate", *arguments]) == 2
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "holds no dataset" in error("--data", str(tmp_path / "empty"))
    assert "text is not measured on datasets" in error("--data", str(tmp_path), "--only", "text")
    assert "reconstruction is not measured on the procedural world" in error("--only", "reconstruction")
    assert "--eval-size must be at least 1" in error("--data", str(tmp_path), "--eval-size", "0")
    write_scene(record(frames=2), tmp_path / "one")
    path = tmp_path / "one" / "transforms.json"
    path.write_text(json.dumps({"frames": json.loads(path.read_text())["frames"][:1]}))
    assert "no scene can be measured" in error("--data", str(tmp_path / "one"))


def test_scenes_that_cannot_be_read_are_left_out(pipe: Gen3RPipeline, tmp_path: Path) -> None:
    write_scene(record(), tmp_path / "a")
    next((tmp_path / "a" / "images").iterdir()).write_bytes(b"")
    broken = detect_dataset(tmp_path)[0]
    with pytest.warns(UserWarning, match="a left out: .* is not an image that can be read"):
        found = evaluate_records(pipe, {"a": broken, "b": record()}, ["reconstruction"])
    assert list(found) == ["b"]
    with pytest.warns(UserWarning, match="a left out"), pytest.raises(InputError, match="no scene can be read"):
        evaluate_records(pipe, {"a": broken}, ["reconstruction"])
