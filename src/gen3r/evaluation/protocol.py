"""The protocol of nano's scores: held-out procedural scenes, every stage of the model by itself.

Each `..._scores` function takes a pipeline and a clip and returns numbers; `evaluate` averages them over clips.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose
from gen3r.cameras.paths import BETWEEN, FREE
from gen3r.data.records import Clip
from gen3r.evaluation.metrics import absolute_relative, camera_auc, median_scale, psnr, ssim
from gen3r.evaluation.options import PARTS
from gen3r.geometry.normalise import normalise_scene
from gen3r.geometry.splatting import warp_views
from gen3r.models.tokens import packed_tokens
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene

if TYPE_CHECKING:
    from gen3r.evaluation.probe import Probe  # which needs gen3r[world]

Scores = dict[str, float]


@dataclass(frozen=True)
class Mean:
    """The mean of a score over scenes, its standard error (None for a single scene), and the number of scenes."""

    value: float
    error: float | None
    scenes: int

    @classmethod
    def of(cls, values: list[float]) -> "Mean":
        """From one value per scene."""
        x = torch.tensor(values, dtype=torch.float64)
        error = float(x.std() / len(x) ** 0.5) if len(x) > 1 else None
        return cls(sum(values) / len(values), error, len(values))


@torch.inference_mode()
def autoencoder_scores(pipe: Gen3RPipeline, clip: Clip) -> Scores:
    """The frames through the video autoencoder (posterior mean)."""
    latents = pipe.vae.encode_video(_model_input(pipe, 2 * clip.images - 1).transpose(1, 2)).mean
    return _image_scores("autoencoder", pipe.decode_frames(latents)[0].cpu(), clip.images)


@torch.inference_mode()
def geometry_scores(pipe: Gen3RPipeline, clip: Clip) -> Scores:
    """Depth and cameras of VGGT on the real frames, and of VGGT's tokens after the adapter's encoder and decoder."""
    direct = pipe.reconstruct(clip.images, *clip.frames.shape[1:3], feed_forward=True)
    latents = pipe.geo_adapter.encode(packed_tokens(pipe.vggt, _model_input(pipe, clip.images))).mean
    decoded = pipe.decode_geometry(latents)
    T, _ = decode_pose(decoded.pose_enc[-1, 0].cpu(), clip.cameras.height, clip.cameras.width)
    valid, truth = clip.depth > 0, clip.cameras.T_world_camera
    error = absolute_relative(direct.depth, clip.depth, valid)
    return {
        "VGGT AbsRel": error,
        "VGGT AbsRel, median scale": absolute_relative(direct.depth, clip.depth, valid, median_scale),
        "VGGT AUC@30": camera_auc(direct.cameras.T_world_camera, truth),
        "adapter adds AbsRel": absolute_relative(decoded.depth[0].cpu(), clip.depth, valid) - error,
        "adapter AUC@30": camera_auc(T, truth),
    }


@torch.inference_mode()
def generation_scores(pipe: Gen3RPipeline, clip: Clip, seed: int) -> Scores:
    """The clip from its first frame and the true cameras. Baselines: the first frame repeated, and warped by VGGT's
    depth of it."""
    frames, path = clip.images, _true_path(clip)
    scene = _generate(pipe, clip, seed, frames[:1], path)
    depth = pipe.reconstruct(frames[:1], path.height, path.width).depth
    warped, _ = warp_views(frames[:1], depth, [0], path)
    return {
        **_scene_scores("one view", scene, clip),
        "frame 0 PSNR": psnr(scene.images[0], frames[0]),
        **_image_scores("repeat first frame", frames[:1].expand_as(frames), frames),
        **_image_scores("depth warp", warped, frames),
    }


@torch.inference_mode()
def two_view_scores(pipe: Gen3RPipeline, clip: Clip, seed: int) -> Scores:
    """The clip from its first and last frame and the true cameras."""
    return _scene_scores("two views", _generate(pipe, clip, seed, clip.images[[0, -1]], _true_path(clip)), clip)


@torch.inference_mode()
def no_path_scores(pipe: Gen3RPipeline, clip: Clip, seed: int) -> Scores:
    """The same without the true cameras: free cameras, or a path between the cameras that VGGT predicts."""
    free = _generate(pipe, clip, seed, clip.images[:1], FREE)
    between = _generate(pipe, clip, seed, clip.images[[0, -1]], BETWEEN)
    return {
        **_scene_scores("one view, cameras free,", free, clip),
        **_scene_scores("two views, path between,", between, clip),
    }


@torch.inference_mode()
def text_scores(pipe: Gen3RPipeline, clip: Clip, seed: int, probe: "Probe") -> Scores:
    """The caption alone with free cameras: 1 if the probe finds the asked-for place, indoors or outdoors, else 0.
    References: the probe on the real clip, and the commonest answer."""
    from gen3r.evaluation.probe import asked_for

    wanted = asked_for(clip)
    answers = {
        "text alone": probe.answer(_generate(pipe, clip, seed)), "probe": probe.answer(clip), "chance": probe.commonest,
    }  # fmt: skip
    return {f"{name} indoors or out": float(answer == wanted) for name, answer in answers.items()}


def _generate(
    pipe: Gen3RPipeline, clip: Clip, seed: int, images: Tensor | None = None, cameras: Cameras | str = FREE
) -> Scene:
    """A scene from the clip's caption and, if any, images [n, 3, H, W]."""
    scene = pipe(
        None if images is None else images[None],
        prompt=clip.caption,
        cameras=cameras,
        num_frames=len(clip.frames),
        output_size=0,  # the model's own frames and geometry
        generator=torch.Generator().manual_seed(seed),
    )[0]
    assert isinstance(scene, Scene)
    return scene


def _true_path(clip: Clip) -> Cameras:
    """The clip's cameras in VGGT's normalised scene."""
    _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    return replace(clip.cameras, T_world_camera=poses)


def _image_scores(name: str, images: Tensor, target: Tensor) -> Scores:
    """Of images [F, 3, H, W] against the real ones."""
    return {f"{name} PSNR": psnr(images, target), f"{name} SSIM": ssim(images, target)}


def _scene_scores(name: str, scene: Scene, clip: Clip) -> Scores:
    """Of a generated scene against the clip."""
    return {
        **_image_scores(name, scene.images, clip.images),
        f"{name} AbsRel": absolute_relative(scene.depth, clip.depth, clip.depth > 0),
        f"{name} AUC@30": camera_auc(scene.cameras.T_world_camera, _true_path(clip).T_world_camera),
    }


def _model_input(pipe: Gen3RPipeline, images: Tensor) -> Tensor:
    """Images [F, 3, H, W] as a batch of one, on the pipeline's device and in its type."""
    return images[None].to(pipe.device, pipe.transformer.dtype)


def evaluate(
    pipe: Gen3RPipeline,
    clips: Iterable[Clip],
    parts: Collection[str] = PARTS,
    seed: int = 0,
    probe: "Probe | None" = None,
) -> dict[str, Mean]:
    """Mean scores over clips. The seed of the first clip's sampling is `seed`; each next clip's is one more.

    probe: judges the scenes of the part "text", which needs it.
    """
    assert probe is not None or "text" not in parts
    measures: dict[str, Callable[[Clip, int], Scores]] = {
        "autoencoder": lambda clip, _: autoencoder_scores(pipe, clip),
        "geometry": lambda clip, _: geometry_scores(pipe, clip),
        "generation": lambda clip, i: generation_scores(pipe, clip, i),
        "two-views": lambda clip, i: two_view_scores(pipe, clip, i),
        "no-path": lambda clip, i: no_path_scores(pipe, clip, i),
        "text": lambda clip, i: text_scores(pipe, clip, i, probe),  # pyright: ignore[reportArgumentType]
    }
    pipe.set_progress_bar_config(disable=True)
    values: dict[str, list[float]] = {}
    for i, clip in enumerate(clips, seed):
        for part in (part for part in PARTS if part in parts):
            for name, value in measures[part](clip, i).items():
                values.setdefault(name, []).append(value)
    return {name: Mean.of(found) for name, found in values.items()}


def held_out_clips(count: int, frames: int, height: int, width: int) -> Iterator[Clip]:
    """The first `count` scenes of the procedural world's test split, rendered one by one."""
    from gen3r.data.synthetic import render_clip

    for seed in tqdm(range(count), desc="scenes", unit="scene"):
        yield render_clip(seed, frames, height, width, split="test")
