"""The protocol that nano is measured with: held-out procedural scenes, every stage of the model on its own.

Each function takes a pipeline and a clip and returns numbers; `evaluate` averages them over clips.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose
from gen3r.data.records import Clip
from gen3r.evaluation.metrics import absolute_relative, camera_auc, psnr
from gen3r.geometry.gauge import to_vggt_gauge
from gen3r.models.tokens import packed_tokens
from gen3r.pipeline import Gen3RPipeline

Scores = dict[str, float]


@torch.inference_mode()
def autoencoder_scores(pipe: Gen3RPipeline, clip: Clip) -> Scores:
    """PSNR of the frames through the video autoencoder (posterior mean)."""
    frames = clip.images[None]
    latents = pipe.vae.encode_video(_as_taken(pipe, 2 * frames - 1).transpose(1, 2)).mean
    return {"autoencoder PSNR": psnr(pipe.decode_frames(latents).cpu(), frames)}


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
        "VGGT AUC@30": camera_auc(seen.cameras.T_world_camera, truth),
        "adapter adds AbsRel": absolute_relative(again.depth[0].cpu(), clip.depth, valid) - direct,
        "adapter AUC@30": camera_auc(T, truth),
    }


@torch.inference_mode()
def generation_scores(pipe: Gen3RPipeline, clip: Clip, seed: int) -> Scores:
    """One view and the true cameras in, the clip out, against the true clip and against the first frame repeated."""
    frames = clip.images[None]
    _, poses, _ = to_vggt_gauge(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    path = Cameras(poses, clip.cameras.K_px, *frames.shape[-2:])
    generator = torch.Generator().manual_seed(seed)
    scene = pipe(frames[:, :1], prompt=clip.caption, cameras=path, num_frames=len(clip.frames), generator=generator)[0]
    assert not isinstance(scene, Tensor)
    made = scene.frames.permute(0, 3, 1, 2)[None].float() / 255
    valid = clip.depth > 0
    return {
        "one view PSNR": psnr(made, frames),
        "repeat first frame PSNR": psnr(frames[:, :1].expand_as(frames), frames),
        "frame 0 PSNR": psnr(made[:, 0], frames[:, 0]),
        "one view AbsRel": absolute_relative(scene.depth, clip.depth, valid),
        "one view AUC@30": camera_auc(scene.cameras.T_world_camera, poses),
    }


def _as_taken(pipe: Gen3RPipeline, frames: Tensor) -> Tensor:
    """Frames on the pipeline's device and in its type."""
    return frames.to(pipe.device, pipe.transformer.dtype)


def evaluate(pipe: Gen3RPipeline, clips: list[Clip], generate: bool = True) -> Scores:
    """Mean scores over clips."""
    measures: list[Callable[[Clip, int], Scores]] = [
        lambda clip, i: autoencoder_scores(pipe, clip),
        lambda clip, i: geometry_scores(pipe, clip),
    ]
    if generate:
        measures.append(lambda clip, i: generation_scores(pipe, clip, i))
    pipe.set_progress_bar_config(disable=True)
    rows = [
        {k: v for measure in measures for k, v in measure(clip, i).items()}
        for i, clip in enumerate(tqdm(clips, desc="clips", unit="clip"))
    ]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def held_out_clips(count: int, frames: int, height: int, width: int) -> list[Clip]:
    """The first `count` scenes of the procedural world's test split."""
    from gen3r.data.synthetic import render_clip

    seeds = tqdm(range(count), desc="rendering", unit="clip")
    return [render_clip(seed, frames, height, width, split="test") for seed in seeds]
