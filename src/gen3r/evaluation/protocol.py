"""The protocol that nano is measured with: held-out procedural scenes, every stage of the model on its own.

Each `..._scores` function takes a pipeline and a clip and returns numbers; `evaluate` averages them over clips.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose
from gen3r.cameras.paths import BETWEEN, FREE
from gen3r.data.records import Clip
from gen3r.evaluation.metrics import absolute_relative, camera_auc, median_scale, psnr, ssim
from gen3r.evaluation.probe import Probe, asked_for
from gen3r.geometry.normalise import normalise_scene
from gen3r.geometry.splatting import warp_views
from gen3r.models.tokens import packed_tokens
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene

if TYPE_CHECKING:
    from gen3r.data.synthetic import WorldName

Scores = dict[str, float]
PARTS = ("autoencoder", "geometry", "generation", "two-views", "no-path", "text")


@dataclass(frozen=True)
class Mean:
    """The mean of a score over scenes, its standard error (None of a single scene), and how many scenes have it."""

    value: float
    error: float | None
    scenes: int

    @classmethod
    def of(cls, values: list[float]) -> "Mean":
        """Of one value a scene."""
        x = torch.tensor(values, dtype=torch.float64)
        error = float(x.std() / len(x) ** 0.5) if len(x) > 1 else None
        return cls(sum(values) / len(values), error, len(values))


@torch.inference_mode()
def autoencoder_scores(pipe: Gen3RPipeline, clip: Clip) -> Scores:
    """The frames through the video autoencoder (posterior mean)."""
    frames = clip.images[None]
    latents = pipe.vae.encode_video(_as_taken(pipe, 2 * frames - 1).transpose(1, 2)).mean
    return _picture_scores("autoencoder", pipe.decode_frames(latents)[0].cpu(), frames[0])


@torch.inference_mode()
def geometry_scores(pipe: Gen3RPipeline, clip: Clip) -> Scores:
    """Depth and cameras of VGGT on the real frames, and both again after the tokens went through the adapter."""
    frames = clip.images[None]
    height, width = frames.shape[-2:]
    seen = pipe.reconstruct(frames[0])
    latents = pipe.geo_adapter.encode(packed_tokens(pipe.vggt, _as_taken(pipe, frames))).mean
    again = pipe.decode_geometry(latents)
    T, _ = decode_pose(again.pose_enc[-1, 0].cpu(), height, width)
    valid, truth = clip.depth > 0, clip.cameras.T_world_camera
    direct = absolute_relative(seen.depth, clip.depth, valid)
    return {
        "VGGT AbsRel": direct,
        "VGGT AbsRel, median scale": absolute_relative(seen.depth, clip.depth, valid, median_scale),
        "VGGT AUC@30": camera_auc(seen.cameras.T_world_camera, truth),
        "adapter adds AbsRel": absolute_relative(again.depth[0].cpu(), clip.depth, valid) - direct,
        "adapter AUC@30": camera_auc(T, truth),
    }


@torch.inference_mode()
def generation_scores(pipe: Gen3RPipeline, clip: Clip, seed: int) -> Scores:
    """One view and the true cameras in, the clip out; and what the first frame gives by itself: repeated, and moved by
    VGGT's depth of it."""
    frames, path = clip.images, _true_path(clip)
    scene = _generate(pipe, clip, seed, frames[:1], path)
    moved, _ = warp_views(frames[:1], pipe.reconstruct(frames[:1]).depth, [0], path)
    return {
        **_scene_scores("one view", scene, clip, path),
        "frame 0 PSNR": psnr(scene.images[0], frames[0]),
        **_picture_scores("repeat first frame", frames[:1].expand_as(frames), frames),
        **_picture_scores("depth warp", moved, frames),
    }


@torch.inference_mode()
def two_view_scores(pipe: Gen3RPipeline, clip: Clip, seed: int) -> Scores:
    """The first and the last view and the true cameras in, the clip out."""
    path = _true_path(clip)
    return _scene_scores("two views", _generate(pipe, clip, seed, clip.images[[0, -1]], path), clip, path)


@torch.inference_mode()
def no_path_scores(pipe: Gen3RPipeline, clip: Clip, seed: int) -> Scores:
    """The same without the cameras: one view and free cameras; and two views, with a path from one to the other where
    VGGT sees them."""
    path, views = _true_path(clip), clip.images
    free, between = _generate(pipe, clip, seed, views[:1], FREE), _generate(pipe, clip, seed, views[[0, -1]], BETWEEN)
    return {
        **_scene_scores("one view, cameras free,", free, clip, path),
        **_scene_scores("two views, path between,", between, clip, path),
    }


@torch.inference_mode()
def text_scores(pipe: Gen3RPipeline, clip: Clip, seed: int, probe: Probe) -> Scores:
    """The caption alone in, cameras free: whether the probe finds in the scene what the caption asks for, 1 or 0; the
    same for the real clip; and for the commonest answer."""
    made, real = probe.answers(_generate(pipe, clip, seed)), probe.answers(clip)
    scores: Scores = {}
    for name, wanted in asked_for(clip).items():
        scores[f"text alone {name}"] = float(made[name] == wanted)
        scores[f"probe {name}"] = float(real[name] == wanted)
        scores[f"chance {name}"] = float(probe.classifiers[name].commonest == wanted)
    return scores


def _generate(
    pipe: Gen3RPipeline, clip: Clip, seed: int, given: Tensor | None = None, path: Cameras | str = FREE
) -> Scene:
    """A scene of the clip's caption, the given views [n, 3, H, W], if any, and the path."""
    scene = pipe(
        None if given is None else given[None],
        prompt=clip.caption,
        cameras=path,
        num_frames=len(clip.frames),
        generator=torch.Generator().manual_seed(seed),
    )[0]
    assert isinstance(scene, Scene)
    return scene


def _true_path(clip: Clip) -> Cameras:
    """The clip's cameras in VGGT's gauge."""
    _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    return Cameras(poses, clip.cameras.K_px, clip.cameras.height, clip.cameras.width)


def _picture_scores(name: str, images: Tensor, target: Tensor) -> Scores:
    """Of images [F, 3, H, W] against the real ones."""
    return {f"{name} PSNR": psnr(images, target), f"{name} SSIM": ssim(images, target)}


def _scene_scores(name: str, scene: Scene, clip: Clip, path: Cameras) -> Scores:
    """Of a generated scene against the clip and the requested cameras."""
    return {
        **_picture_scores(name, scene.images, clip.images),
        f"{name} AbsRel": absolute_relative(scene.depth, clip.depth, clip.depth > 0),
        f"{name} AUC@30": camera_auc(scene.cameras.T_world_camera, path.T_world_camera),
    }


def _as_taken(pipe: Gen3RPipeline, frames: Tensor) -> Tensor:
    """Frames on the pipeline's device and in its type."""
    return frames.to(pipe.device, pipe.transformer.dtype)


def evaluate(
    pipe: Gen3RPipeline,
    clips: Iterable[Clip],
    parts: Collection[str] = PARTS,
    seed: int = 0,
    probe: Probe | None = None,
) -> dict[str, Mean]:
    """Mean scores over clips. The first clip is sampled with `seed`, the next with the next.

    probe: judges the scenes of the part "text", which needs it.
    """
    assert probe is not None or "text" not in parts
    measures: dict[str, Callable[[Clip, int], Scores]] = {
        "autoencoder": lambda clip, i: autoencoder_scores(pipe, clip),
        "geometry": lambda clip, i: geometry_scores(pipe, clip),
        "generation": lambda clip, i: generation_scores(pipe, clip, i),
        "two-views": lambda clip, i: two_view_scores(pipe, clip, i),
        "no-path": lambda clip, i: no_path_scores(pipe, clip, i),
        "text": lambda clip, i: text_scores(pipe, clip, i, probe),  # pyright: ignore[reportArgumentType]
    }
    pipe.set_progress_bar_config(disable=True)
    values: dict[str, list[float]] = {}
    for i, clip in enumerate(clips, seed):
        for part in PARTS:
            for name, value in measures[part](clip, i).items() if part in parts else ():
                values.setdefault(name, []).append(value)
    return {name: Mean.of(found) for name, found in values.items()}


def held_out_clips(count: int, frames: int, height: int, width: int, world: "WorldName" = "small") -> Iterator[Clip]:
    """The first `count` scenes of a procedural world's test split, each rendered when it is asked for."""
    from gen3r.data.synthetic import render_clip

    for seed in tqdm(range(count), desc="scenes", unit="scene"):
        yield render_clip(seed, frames, height, width, split="test", world=world)
