"""A whole run on tiny models: every stage from those before it, the package, and going on from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gen3r.checkpoints.identity import component_hash
from gen3r.cli.main import main
from gen3r.data.synthesis import synthesize
from gen3r.errors import InputError
from gen3r.files import exclusive_folder
from gen3r.media.drawing import GAP, LABEL, THUMBNAILS, WIDTH
from gen3r.models.components import MODULES
from gen3r.models.presets import tiny
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from gen3r.training import measurements
from gen3r.training.package import package
from gen3r.training.recipes import RECIPES, Recipe, nano
from gen3r.training.run import Run
from gen3r.training.stages import adapter
from gen3r.training.stages.stage import Stage
from gen3r.training.weights import new_like
from tests.tiny import tiny_pipeline

FRAMES = 9
CONFIG = replace(tiny(), num_frames=FRAMES)
ONE_STEP = {"steps": 1, "batch_size": 1}
LENGTHS = {"autoencoder": (9,), "geometry": (1, 2, 4, 8), "adapter": (5, 9)}


def short() -> Recipe:
    """Nano's recipe on clips of at most nine frames."""
    recipe = dict(nano())
    for name, frames in LENGTHS.items():
        [phase] = recipe[name]
        recipe[name] = (replace(phase, stage=replace(phase.stage, frames=frames)),)
    return recipe


def short_run(folder: Path, **options: Any) -> Run:
    return Run(folder, recipe=short(), **options)


@pytest.fixture(autouse=True)
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of two clips, not of dozens, and short clips from the command line too."""
    monkeypatch.setitem(RECIPES, "nano", short)
    monkeypatch.setattr(measurements, "LATENT_CLIPS", 2)
    monkeypatch.setattr(measurements, "TOKEN_CLIPS", 2)


def stage_of(run: Run, name: str) -> Stage:
    return run.stage(name, run.recipe[name][0].stage)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    synthesize(folder / "train", 2, frames=FRAMES, workers=1)
    synthesize(folder / "held-out", 1, split="test", frames=FRAMES, workers=1)
    return short_run(folder, config=CONFIG)


@pytest.fixture(scope="module")
def packaged(run: Run) -> Path:
    for stage in ("autoencoder", "geometry", "adapter"):
        run.train(stage, ONE_STEP | ({"batch_size": 2} if stage == "geometry" else {}))
    for half in ("appearance", "geometry"):
        run.encode_latents(kinds=[half])
    run.train("diffusion", ONE_STEP)
    package(run, run.folder / "model")
    return run.folder / "model"


@pytest.mark.parametrize("name", ["autoencoder", "geometry"])
def test_clips_shorter_than_a_stage_takes_are_refused(run: Run, name: str) -> None:
    with pytest.raises(InputError, match="train have 9 frames; this phase takes 17"):
        stage_of(Run(run.folder, recipe=nano(), config=CONFIG), name)


def test_a_stage_needs_those_before_it(run: Run) -> None:
    with pytest.raises(InputError, match="train that stage first"):
        short_run(run.folder / "empty", config=CONFIG).components(("vae",))
    with pytest.raises(InputError, match=r"diffusion/checkpoint\.safetensors does not exist"):
        short_run(run.folder / "empty", config=CONFIG).components(("transformer",))


def test_the_package_makes_scenes(packaged: Path) -> None:
    pipe = Gen3RPipeline.from_pretrained(packaged, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    [scene] = pipe(torch.rand(1, 3, 112, 112), "a room", "dolly_in", num_inference_steps=1)
    assert isinstance(scene, Scene)
    assert scene.frames.shape == (FRAMES, 112, 112, 3)
    std = torch.tensor(pipe.vae.config["latents_std"])
    assert (std != 1).all()  # the latents' own spread was measured


def test_every_stage_drew_what_it_makes_of_held_out_clips(packaged: Path) -> None:
    for stage, rows in {"autoencoder": 2, "geometry": 3, "adapter": 3, "diffusion": 3}.items():
        with Image.open(packaged.parent / stage / "sheets" / "step-0000001.png") as sheet:
            row = LABEL + (WIDTH - (THUMBNAILS + 1) * GAP) // THUMBNAILS + GAP
            assert sheet.size == (WIDTH, rows * row + GAP)
            assert len(sheet.getcolors(2**24) or []) > 1000


def test_a_stage_that_starts_from_a_model_draws_too(run: Run, packaged: Path, tmp_path: Path) -> None:
    for name in ("train", "held-out"):
        (tmp_path / name).symlink_to(run.folder / name)
    short_run(tmp_path, start=packaged).train("geometry", ONE_STEP | {"batch_size": 2})
    assert {p.name for p in (tmp_path / "geometry").iterdir()} == {"checkpoint.safetensors", "metrics.jsonl", "sheets"}


def test_a_stage_is_trained_by_one_launch_at_a_time(run: Run, packaged: Path) -> None:
    with exclusive_folder(run.folder / "geometry"), pytest.raises(InputError, match="another process is writing in"):
        run.train("geometry", ONE_STEP | {"batch_size": 2})


@pytest.fixture(scope="module")
def student(run: Run, packaged: Path) -> Path:
    run.train("distill", ONE_STEP)
    package(run, run.folder / "student")
    return run.folder / "student"


def test_a_distilled_package_goes_its_own_few_steps(run: Run, packaged: Path, student: Path) -> None:
    many, few = (Gen3RPipeline.from_pretrained(p, torch_dtype=torch.float32) for p in (packaged, student))
    changed = {name for name, value in few.defaults.items() if value != many.defaults[name]}
    assert changed == {"num_inference_steps", "guidance_scale"}
    assert (few.defaults["num_inference_steps"], few.defaults["guidance_scale"]) == (4, 1.0)
    assert component_hash(few.transformer) != component_hash(many.transformer)
    assert component_hash(few.text_encoder) == component_hash(many.text_encoder)
    few.set_progress_bar_config(disable=True)
    walked = []
    few(output_type="latent", callback_on_step_end=lambda pipe, i, t, tensors: walked.append(float(t)))
    assert walked == (1000 * stage_of(run, "distill").sigmas[:-1]).tolist()
    with pytest.raises(InputError, match="samples in 4 steps"):
        few(num_inference_steps=1)


def test_the_teacher_can_be_packaged_still(run: Run, packaged: Path, student: Path) -> None:
    package(run, run.folder / "teacher", teacher=True)
    again, before = (
        Gen3RPipeline.from_pretrained(p, torch_dtype=torch.float32) for p in (run.folder / "teacher", packaged)
    )
    assert component_hash(again.transformer) == component_hash(before.transformer)
    assert again.defaults == before.defaults
    assert again.scheduler.config["shift_terminal"] is None


def test_the_student_drew_and_its_stage_can_be_planned(run: Run, student: Path) -> None:
    assert (run.folder / "distill" / "sheets" / "step-0000001.png").exists()
    text = "\n".join(run.plan("distill", {"steps": 3, "batch_size": 1}))
    trained = sum(p.numel() for p in run.components(()).transformer.parameters())
    assert f"parameters of teacher: 0.00 M trained, {trained / 1e6:.2f} M frozen" in text
    assert "steps: 1 to 3, 2 samples" in text


def test_a_distilled_model_is_no_teacher_and_stays_what_it_is(student: Path, tmp_path: Path) -> None:
    after = short_run(tmp_path, start=student, config=CONFIG)
    with pytest.raises(InputError, match="student is distilled already"):
        stage_of(after, "distill")
    package(after, tmp_path / "model")
    before, again = (Gen3RPipeline.from_pretrained(p) for p in (student, tmp_path / "model"))
    assert again.defaults == before.defaults
    assert again.scheduler.config["shift_terminal"] == before.scheduler.config["shift_terminal"] == 0.4


def test_a_student_of_an_older_teacher_is_refused(run: Run, student: Path, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    copy = short_run(tmp_path / "run", config=CONFIG)
    with pytest.warns(UserWarning, match="goes on at step 1 with steps 1 -> 2"):
        copy.train("diffusion", {"steps": 2, "batch_size": 1})
    with pytest.raises(InputError, match="distilled from another transformer"):
        package(copy, tmp_path / "model")
    with pytest.raises(InputError, match="distilled from another transformer"):
        copy.train("distill", ONE_STEP)
    package(copy, tmp_path / "model", teacher=True)


def test_a_plan_tells_and_writes_nothing(run: Run, packaged: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    lines = run.plan("adapter", {"steps": 11, "batch_size": 2, "micro_batches": 2})
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    text = "\n".join(lines)
    components = run.components(())
    frozen = sum(p.numel() for p in components.vggt.parameters())
    assert f"parameters of vggt: 0.00 M trained, {frozen / 1e6:.2f} M frozen" in text
    assert "batch: 2 = 2 micro-batch(es) of 1" in text
    assert "steps: 1 to 11, 20 samples" in text
    trained = sum(p.numel() for p in components.geo_adapter.parameters())
    assert f"parameters of geo_adapter: {trained / 1e6:.2f} M trained, 0.00 M frozen" in text


def test_a_resumed_adapter_measures_no_tokens_again(run: Run, packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "sample_tokens", None)
    stage = stage_of(run, "adapter")
    stage.prepare(run)
    assert stage.token_std.min() > 0
    assert len(stage.token_std) == run.config.geo_adapter["token_channels"]


def test_latents_of_older_models_are_refused_and_made_again(run: Run, packaged: Path) -> None:
    latents = run.latents(run.components(("vae", "vggt", "geo_adapter")))
    assert len(latents) == 2
    with pytest.warns(UserWarning, match="goes on at step 1 with steps 1 -> 2"):
        run.train("geometry", {"steps": 2, "batch_size": 2})
    with pytest.raises(
        InputError, match=r"geometry-000000\.safetensors was made with another vggt .*gen3r train latents"
    ):
        stage_of(run, "diffusion")
    run.encode_latents(kinds=["geometry"])
    stage_of(run, "diffusion")


def test_latents_are_measured_again_when_their_model_changes(run: Run, packaged: Path) -> None:
    path = run.folder / "autoencoder" / "statistics.json"
    before, written = json.loads(path.read_text()), path.stat().st_mtime_ns
    run.components(("vae",))
    assert path.stat().st_mtime_ns == written
    with pytest.warns(UserWarning, match="goes on at step 1 with steps 1 -> 2"):
        run.train("autoencoder", {"steps": 2, "batch_size": 1})
    run.components(("vae",))
    after = json.loads(path.read_text())
    assert after["weights"] != before["weights"]
    assert after["latents_std"] != before["latents_std"]


def test_frozen_encoders_come_from_the_cache_and_the_starting_model(packaged: Path, tmp_path: Path) -> None:
    """A run without clips of its own, on latents that `gen3r data encode` made."""
    synthesize(tmp_path / "clips", 2, frames=FRAMES, workers=1)
    command = ["data", "encode", tmp_path / "clips", tmp_path / "latents", "--model", packaged, "--embeddings"]
    assert main([*map(str, command), "--device", "cpu", "--dtype", "float32"]) == 0
    run = short_run(tmp_path, start=packaged, config=CONFIG)
    with pytest.raises(InputError, match="frozen text encoder"):
        run.train("text", ONE_STEP)
    run.train("diffusion", ONE_STEP)
    run.train("distill", ONE_STEP)
    package(run, tmp_path / "model")
    before, after = (
        Gen3RPipeline.from_pretrained(p, torch_dtype=torch.float32) for p in (packaged, tmp_path / "model")
    )
    for name in ("text_encoder", "image_encoder", "vae", "vggt"):
        assert component_hash(before.components[name]) == component_hash(after.components[name])
    assert component_hash(before.transformer) != component_hash(after.transformer)


def test_the_text_encoder_may_be_trained_ahead_on_single_frame_clips(packaged: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "train", 2, frames=FRAMES, workers=1)
    synthesize(tmp_path / "single_frame" / "train", 3, frames=1, seed=5, workers=1)
    run = short_run(tmp_path, start=packaged, config=CONFIG)
    for half in ("appearance", "geometry"):
        run.encode_latents(kinds=[half])
        run.encode_latents(single_frame=True, kinds=[half])
    assert len(stage_of(run, "text").latents) == 3
    (tmp_path / "clips" / "single_frame").mkdir(parents=True)
    (tmp_path / "clips" / "single_frame" / "train").symlink_to(tmp_path / "train")
    with pytest.raises(InputError, match="no single-frame clips"):
        short_run(tmp_path / "clips", start=packaged, config=CONFIG).encode_latents(
            single_frame=True, kinds=["appearance"]
        )
    given = Gen3RPipeline.from_pretrained(packaged, torch_dtype=torch.float32).text_encoder
    run.train("text", ONE_STEP)
    diffusion = stage_of(run, "diffusion")
    assert len(diffusion.single_frame_latents) == 3
    assert component_hash(diffusion.text_encoder) != component_hash(given)
    assert component_hash(diffusion.text_encoder) == component_hash(stage_of(run, "text").text_encoder)


def test_single_frame_clips_in_the_folder_of_older_versions(packaged: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "stills" / "train", 1, frames=1, workers=1)
    run = short_run(tmp_path, start=packaged, config=CONFIG)
    with pytest.raises(InputError, match="stills has another name now; rename it to single_frame"):
        stage_of(run, "text")


def test_training_goes_on_from_a_model(run: Run, packaged: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(run.folder / "train")
    after = short_run(tmp_path, start=packaged, config=CONFIG)
    fresh, given = (r.components((), ("vggt",)).vggt.state_dict() for r in (after, run))
    model = Gen3RPipeline.from_pretrained(packaged, torch_dtype=torch.float32)
    assert all(torch.equal(value, fresh[name]) for name, value in model.vggt.state_dict().items())
    assert not all(torch.equal(value, given[name]) for name, value in fresh.items())
    after.train("geometry", ONE_STEP | {"batch_size": 2})
    package(after, tmp_path / "model")
    again = Gen3RPipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float32)
    assert torch.equal(again.vae.post_quant_conv.weight, model.vae.post_quant_conv.weight)
    assert not torch.equal(again.vggt.camera_head.embed_pose.weight, model.vggt.camera_head.embed_pose.weight)


def test_what_starts_anew_is_float32_though_the_model_is_kept_in_bfloat16(packaged: Path, tmp_path: Path) -> None:
    pipe = Gen3RPipeline.from_pretrained(packaged, torch_dtype=torch.bfloat16)
    pipe.save_pretrained(tmp_path / "model")
    run = short_run(tmp_path, start=tmp_path / "model", config=CONFIG, remake=lambda name, module: new_like(module))
    for name, module in run.components((), MODULES).modules().items():
        assert {p.dtype for p in module.parameters()} == {torch.float32}, name


def continued_autoencoder(folder: Path, clips: Path, option: str) -> list[Any]:
    """The autoencoders of a tiny model and of what two steps of training with an option make of it."""
    tiny_pipeline().save_pretrained(folder / "start")
    (folder / "run").mkdir()
    (folder / "run" / "train").symlink_to(clips)
    command = ["train", "autoencoder", option, "--steps", "2", "--batch-size", "1", "--learning-rate", "0.01"]
    where = ["--start", str(folder / "start"), "--folder", str(folder / "run")]
    assert main([*command, *where]) == 0
    assert main(["train", "package", *where, "--out", str(folder / "made")]) == 0
    return [Gen3RPipeline.from_pretrained(folder / name).vae for name in ("start", "made")]


def test_a_decoder_alone_is_trained_through_the_command_line(tmp_path: Path, training_data: Path) -> None:
    autoencoders = continued_autoencoder(tmp_path, training_data / "clips", "--decoder-only")
    before, after = (vae.state_dict() for vae in autoencoders)
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name].bfloat16())}
    assert moved == {"decoder", "post_quant_conv"}


def test_an_autoencoder_learns_near_the_latents_that_it_keeps(tmp_path: Path, training_data: Path) -> None:
    before, after = continued_autoencoder(tmp_path, training_data / "clips", "--keep-latents")
    first = json.loads((tmp_path / "run" / "autoencoder" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["shift"] == 0
    assert not torch.equal(after.encoder.conv_in.weight, before.encoder.conv_in.weight.bfloat16())


def test_vggt_and_adapter_go_on_by_online_clips_and_keep_the_latents(packaged: Path, tmp_path: Path) -> None:
    where = ["--start", str(packaged), "--folder", str(tmp_path / "run")]
    assert main(["train", "geometry", "--online", *where, "--steps", "1", "--batch-size", "2"]) == 0
    assert main(["train", "adapter", "--online", "--keep-latents", *where, "--steps", "1", "--batch-size", "5"]) == 0
    assert main(["train", "package", *where, "--out", str(tmp_path / "model")]) == 0
    before, after = (Gen3RPipeline.from_pretrained(path) for path in (packaged, tmp_path / "model"))
    for name in ("latents_mean", "latents_std"):
        assert after.geo_adapter.config[name] == before.geo_adapter.config[name]
    changed = {n for n in ("vae", "vggt", "geo_adapter", "transformer")
               if component_hash(getattr(after, n)) != component_hash(getattr(before, n).bfloat16())}  # fmt: skip
    assert changed == {"vggt", "geo_adapter"}


@pytest.mark.filterwarnings("always:adapter goes on")
def test_what_a_stage_learned_otherwise_before_is_told(
    packaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train").symlink_to(packaged.parent / "train")
    command = ["train", "adapter", "--start", str(packaged), "--folder", str(tmp_path), "--batch-size", "5"]
    assert main([*command, "--keep-latents", "--steps", "1"]) == 0
    assert main([*command, "--steps", "2"]) == 0
    assert "adapter goes on at step 1 with steps 1 -> 2, keep_latents True -> False" in capsys.readouterr().err


@pytest.mark.nightly
def test_a_run_of_online_clips_needs_no_others(packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ["--start", str(packaged), "--folder", str(tmp_path / "run"), "--online"]
    for stage in ("autoencoder", "adapter"):
        assert main(["train", stage, *where, "--steps", "1", "--batch-size", "5"]) == 0
    assert main(["train", "package", *where, "--out", str(tmp_path / "model")]) == 0
    before, after = (Gen3RPipeline.from_pretrained(path) for path in (packaged, tmp_path / "model"))
    for name in ("vae", "geo_adapter"):
        config, old = getattr(after, name).config, getattr(before, name).config
        assert config["latents_mean"] != old["latents_mean"]
        assert config["latents_std"] == pytest.approx(old["latents_std"], rel=1)
    assert not (tmp_path / "run" / "train").exists()
