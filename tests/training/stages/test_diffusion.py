"""The diffusion stage: its conditions are those of sampling, and its single-frame clips and timesteps are as drawn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.shards import ClipShards
from gen3r.data.synthesis import synthesize
from gen3r.errors import InputError
from gen3r.models.components import Components
from gen3r.models.presets import tiny
from gen3r.models.transformer import Gen3RTransformer
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request
from gen3r.training.latent_cache.shards import HALVES
from gen3r.training.stages.config import DiffusionConfig
from gen3r.training.stages.diffusion import ALL_VIEWS, NO_VIEWS, DiffusionStage
from tests.tiny import tiny_pipeline
from tests.training.stages import MODEL, encoded

WARPED = (*HALVES, "warped")


class WithoutDepth:
    """Clips without their depth."""

    def __init__(self, clips: ClipShards) -> None:
        self.clips, self.shape, self.fingerprint = clips, clips.shape, clips.fingerprint

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Clip:
        clip = self.clips[number]
        return replace(clip, depth=torch.zeros_like(clip.depth))


def stage_of(
    pipe: Gen3RPipeline, clips: Any, folder: Path, kinds: tuple[str, ...] = HALVES, **config: Any
) -> DiffusionStage:
    """The diffusion stage of a pipeline's components on latents of these kinds."""
    components = Components(**pipe.components)
    return DiffusionStage(components, encoded(components, clips, folder, kinds), MODEL, DiffusionConfig(**config))


def pipeline_with(**changes: Any) -> Gen3RPipeline:
    """A tiny pipeline with another transformer, in the products of encoding."""
    pipe = tiny_pipeline()
    pipe.register_modules(transformer=Gen3RTransformer(**tiny().transformer, **changes).eval())
    pipe.mixed_precision = True
    return pipe


def sampled_control(pipe: Gen3RPipeline, images: torch.Tensor, frames: int, path: Cameras | None) -> torch.Tensor:
    """The control [B, 20, f, h, 2w] of images [B, n, 3, H, W] in sampling."""
    cameras = "free" if path is None else path
    request = Request(images=images, num_frames=frames, height=112, width=112, cameras=cameras)
    with torch.no_grad():
        predictions = [pipe.predict_geometry(sample[None]) for sample in images] if path is not None else []
        paths = None if path is None else [path]
        depth = pipe.prepare_depth(request, images, paths, predictions)
        return pipe.prepare_control(request, images, paths, depth)


def alike(trained: torch.Tensor, sampled: torch.Tensor) -> bool:
    """Whether controls agree in either half, as far as bfloat16 goes."""
    pairs = zip(trained.chunk(2, dim=-1), sampled.chunk(2, dim=-1), strict=True)
    return all(bool((mine - its).norm() <= 0.01 * its.norm()) for mine, its in pairs)


def rows_of(diffusion: DiffusionStage) -> dict[str, torch.Tensor]:
    return {k: torch.stack([diffusion.latents[n][k] for n in (0, 1)]).float() for k in diffusion.latents[0]}


def test_controls_are_the_same_in_training_and_sampling(training_data: Path, tmp_path: Path) -> None:
    clips, pipe = ClipShards(training_data / "clips"), pipeline_with()
    diffusion = stage_of(pipe, clips, tmp_path)
    frames = [clips[n].images for n in (0, 1)]
    for views, images in {
        0: [frames[0][[0, -1]], frames[1][:1]], ALL_VIEWS: frames, NO_VIEWS: [f[:0] for f in frames],
    }.items():  # fmt: skip
        trained = diffusion.control({**rows_of(diffusion), "views": torch.full((2,), views)})
        for n in (0, 1):
            assert alike(trained[n], sampled_control(pipe, images[n][None], 17, None)[0])
        assert not trained[..., 14:].any()


@pytest.mark.parametrize("with_depth", [True, False])
def test_warped_views_are_the_same_in_training_and_sampling(
    with_depth: bool, training_data: Path, tmp_path: Path
) -> None:
    """Two clips, of two views and of one, with cameras and without; cameras are in VGGT's normalised frame."""
    clips: Any = ClipShards(training_data / "clips")
    if not with_depth:
        clips = WithoutDepth(clips)
    pipe = pipeline_with(unseen_frames="warped")
    with pytest.raises(InputError, match="make them with: gen3r train latents --folder"):
        stage_of(pipe, clips, tmp_path)
    diffusion = stage_of(pipe, clips, tmp_path, WARPED)
    row = rows_of(diffusion)
    images = [clips[0].images[[0, -1]], clips[1].images[:1]]
    for cameras in (1.0, 0.0):
        batch = {**row, "views": torch.zeros(2, dtype=torch.long), "with_cameras": torch.full((2,), cameras)}
        trained = diffusion.control(batch)
        for n in (0, 1):
            path = Cameras(row["T_world_camera"][n], row["K_px"][n], 112, 112)
            sampled = sampled_control(pipe, images[n][None], 17, path if cameras else None)
            assert alike(trained[n], sampled[0])
            assert bool(sampled[:, 16:, ..., 14:].any()) == bool(cameras)
    for views in (ALL_VIEWS, NO_VIEWS):  # these have no warped views
        batch = {**row, "views": torch.full((2,), views), "with_cameras": torch.ones(2)}
        assert not diffusion.control(batch)[..., 14:].any()


def test_single_frame_clips_are_first_frames_conditioned_on_text_alone(training_data: Path, tmp_path: Path) -> None:
    clips, pipe = ClipShards(training_data / "clips"), pipeline_with(unseen_frames="warped")
    diffusion = stage_of(pipe, clips, tmp_path, WARPED, single_frame=1.0)
    batch = diffusion.make_batch(np.random.default_rng(0), 2)
    assert len(batch["captions"]) == 2 * 5  # of 17 frames, 5 latent ones
    first = [diffusion.latents[n]["appearance"][:, :1].float() for n in range(len(clips))]
    assert all(any(torch.equal(row, frame) for frame in first) for row in batch["appearance"])
    conditions = diffusion.conditions(batch)
    sampled = sampled_control(pipe, torch.zeros(10, 0, 3, 112, 112), 1, None)
    assert all(map(alike, conditions.control, sampled))
    assert not conditions.rays.any()
    assert not conditions.image_embeds.any()
    loss, report = diffusion(batch)
    assert loss.isfinite()
    assert report["geometry"] > 0


def test_single_frame_clips_may_have_a_cache_of_their_own(training_data: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "scenes", 3, frames=1, size=112, seed=7, workers=1)
    components = Components(**tiny_pipeline().components)
    others = encoded(components, ClipShards(tmp_path / "scenes"), tmp_path / "single_frame")
    latents = encoded(components, ClipShards(training_data / "clips"), tmp_path / "clips")
    config = DiffusionConfig(single_frame=1.0, drop_text=0.0)
    diffusion = DiffusionStage(components, latents, MODEL, config, others)
    batch = diffusion.make_batch(np.random.default_rng(0), 2)
    assert {*batch["captions"]} <= {*others.captions}
    assert not {*batch["captions"]} & {*latents.captions}
    assert diffusion(batch)[0].isfinite()


def test_timesteps_without_a_view_are_late(training_data: Path, tmp_path: Path) -> None:
    diffusion = stage_of(tiny_pipeline(), ClipShards(training_data / "clips"), tmp_path, no_views=0.5)
    batch = diffusion.make_batch(np.random.default_rng(0), 400)
    alone = batch["views"] == NO_VIEWS
    assert batch["time"][alone].mean().item() == pytest.approx(3 / 4, abs=0.05)
    assert batch["time"][~alone].mean().item() == pytest.approx(1 / 2, abs=0.05)
