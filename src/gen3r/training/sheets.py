"""Sample sheets: what a stage in training makes of a few fixed clips that it is not trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.geometry.normalise import to_vggt_gauge
from gen3r.media.drawing import THUMBNAILS, colour_depth, labelled, stacked, strip
from gen3r.models.encoders import encode_text
from gen3r.models.tokens import packed_tokens
from gen3r.pipeline import Gen3RPipeline

Row = tuple[str, Tensor]


@torch.no_grad()
def sample_sheet(stage: str, pipe: Gen3RPipeline, clips: Sequence[Clip]) -> Image.Image:
    """The clips under each other, each with what the stage makes of it; `pipe` holds the modules in training."""
    trained, draw = {
        "autoencoder": (pipe.vae, _autoencoder), "geometry": (pipe.vggt, _geometry),
        "adapter": (pipe.geo_adapter, _adapter), "diffusion": (pipe.transformer, _diffusion),
        "distill": (pipe.transformer, _diffusion), "lora": (pipe.transformer, _diffusion),
    }[stage]  # fmt: skip
    pipe.to(trained.device)  # the frozen modules are not the stage's, which has moved its own
    rows = [row for clip in clips for row in [("frames", clip.frames), *draw(pipe, clip)]]
    return stacked([labelled(text, strip(pictures[_shown(len(pictures))].cpu())) for text, pictures in rows])


def _autoencoder(pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
    video = (2 * _images(pipe, clip) - 1).transpose(1, 2)
    decoded = pipe.decode_frames(pipe.vae.encode_video(video).mean)[0]
    return [("through the autoencoder", _pixels(decoded))]


def _geometry(pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
    seen = pipe.reconstruct(_images(pipe, clip)[0])
    return [("true depth", _depth(clip.depth)), ("VGGT's depth", _depth(seen.depth))]


def _adapter(pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
    frames = _images(pipe, clip)
    adapted = pipe.decode_geometry(pipe.geo_adapter.encode(packed_tokens(pipe.vggt, frames)).mean)
    own = pipe.reconstruct(frames[0])
    return [("VGGT's depth", _depth(own.depth)), ("VGGT's depth through the adapter", _depth(adapted.depth[0]))]


def _diffusion(pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
    """The clip from its first frame, caption and cameras."""
    frames = _images(pipe, clip)
    _, poses, _ = to_vggt_gauge(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    path = Cameras(poses, clip.cameras.K_px, *frames.shape[-2:])
    text = encode_text(
        pipe.tokenizer, pipe.text_encoder, [clip.caption], pipe.defaults["text_length"], frames.device
    )  # as in training: what is too long is cut without a word
    noise = torch.Generator().manual_seed(0)
    scene = pipe(
        frames[:, :1], cameras=path, num_frames=len(clip.frames), generator=noise, prompt_embeds=text,
        geometry_from="latents",
    )[0]  # fmt: skip
    assert not isinstance(scene, Tensor)
    return [("from the first frame", scene.frames), ("its depth", _depth(scene.depth))]


def _images(pipe: Gen3RPipeline, clip: Clip) -> Tensor:
    return clip.images[None].to(pipe.device)


def _pixels(images: Tensor) -> Tensor:
    """[F, 3, H, W] in [0, 1] -> uint8 [F, H, W, 3]."""
    return (255 * images).round().byte().permute(0, 2, 3, 1)


def _depth(depth: Tensor) -> Tensor:
    return colour_depth(depth.cpu(), depth.cpu() > 0)


def _shown(frames: int) -> list[int]:
    return np.unique(np.linspace(0, frames - 1, THUMBNAILS).round().astype(int)).tolist()
