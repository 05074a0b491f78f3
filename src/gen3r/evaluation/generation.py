"""Generation along the true path of a posed clip, from one view or two, beside trivial rivals."""

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.paths import resample
from gen3r.data.records import Clip
from gen3r.evaluation.metrics import fine_detail, psnr, ssim
from gen3r.evaluation.protocol import Scores
from gen3r.evaluation.reconstruction import own_size, resized
from gen3r.geometry.normalise import unit_of_cameras
from gen3r.geometry.splatting import warp_views
from gen3r.media.images import evenly_spaced, resize_and_crop
from gen3r.models.conditioning import steering_depth
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene

AT_ONCE = 4  # frames that are warped at the measured size in one step, to bound memory


@torch.inference_mode()
def along_true_path(pipe: Gen3RPipeline, clip: Clip, given: list[int], seed: int) -> Scores:
    """The clip from the frames `given` (the first; the first and the last), its caption and its true cameras.

    Only the other frames are measured. Rivals: the frames that the model generates, before photos are drawn over them;
    the nearest given frame repeated; and the given frames warped at full size by the depth that steers the model.
    "exported" is the same warp by the depth and cameras of the scene that the model makes. "fit" compares both warps
    with the scene's frames.
    """
    photos, others = clip.images[given], [i for i in range(len(clip.frames)) if i not in given]
    predicted = pipe.predict_photos(photos).depth[0].cpu()
    cameras = true_path(pipe, clip, given, predicted)
    depth = steering_depth(photos, predicted, given, cameras)
    path, places = spread(cameras, pipe.defaults["num_frames"])
    sampled: dict[str, Tensor] = {}
    scene = pipe(
        photos[None], prompt=clip.caption, cameras=path, generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=lambda _pipe, _step, _timestep, state: sampled.update(state),
    )[0]  # fmt: skip
    assert isinstance(scene, Scene)
    own = taken(scene.cameras, places).resize_and_crop(cameras.height, cameras.width)
    warped, known = _warp(photos, resized(depth, cameras), given, cameras, others)
    exported, _ = _warp(photos, resized(scene.depth[[places[i] for i in given]], own), given, own, others)
    generated = pipe.decode_frames(sampled["latents"].chunk(2, dim=-1)[0])[0].cpu()
    made, unrendered = (
        resize_and_crop(x[[places[i] for i in others]], cameras.height, cameras.width)
        for x in (scene.images, generated)
    )
    nearest = [min(given, key=lambda g: abs(g - i)) for i in others]
    real = clip.images[others]
    detail = fine_detail(real)  # 0 for black frames, of which no share can be taken
    methods = {"": made, ", generated": unrendered, ", repeat": clip.images[nearest], ", depth warp": warped}
    return {
        **{f"PSNR{name}": psnr(images, real) for name, images in methods.items()},
        "PSNR, exported": psnr(exported, real),
        **{f"SSIM{name}": ssim(images, real) for name, images in methods.items()},
        **{f"detail{x}": fine_detail(methods[x]) / detail for x in ("", ", generated", ", depth warp") if detail > 0},
        "coverage": float(known.double().mean()),
        "fit PSNR, exported": psnr(exported, made),
        "fit PSNR, depth warp": psnr(warped, made),
    }


def spread(cameras: Cameras, frames: int) -> tuple[Cameras, list[int]]:
    """`frames` cameras through all the given ones, evenly, and the places of those among them."""
    places = evenly_spaced(frames, len(cameras))
    legs = [resample(cameras[i : i + 2], b - a + 1)[: b - a] for i, (a, b) in enumerate(pairwise(places))]
    T = torch.cat([*(leg.T_world_camera for leg in legs), cameras.T_world_camera[-1:]])
    K = torch.cat([*(leg.K_px for leg in legs), cameras.K_px[-1:]])
    return replace(cameras, T_world_camera=T, K_px=K), places


def true_path(pipe: Gen3RPipeline, clip: Clip, given: list[int], predicted: Tensor) -> Cameras:
    """The clip's cameras in the unit in which the true depth of the given frames fits the `predicted` one [n, h, w].

    One photo does not tell its scale, so the path takes the scale that the model sees: the median ratio over the pixels
    whose depth is known. Without any, it is the scale at which VGGT predicts the clip's cameras.
    """
    truth = clip.depth[given]
    ratio = (resized(predicted, clip.cameras) / truth)[truth > 0]
    if len(ratio):
        return clip.cameras.scaled(float(ratio.median()))
    seen = pipe.reconstruct(clip.images, *own_size(pipe), feed_forward=True).cameras
    return clip.cameras.scaled(1 / unit_of_cameras(clip.cameras.T_world_camera, seen.T_world_camera))


def taken(cameras: Cameras, places: list[int]) -> Cameras:
    """The cameras of these places."""
    return replace(cameras, T_world_camera=cameras.T_world_camera[places], K_px=cameras.K_px[places])


def _warp(
    images: Tensor, depth: Tensor, frame_indices: list[int], cameras: Cameras, wanted: list[int]
) -> tuple[Tensor, Tensor]:
    """`warp_views` to some of the cameras, a few at a time."""
    sources, parts = [*range(len(frame_indices))], []
    for start in range(0, len(wanted), AT_ONCE):
        some = taken(cameras, [*frame_indices, *wanted[start : start + AT_ONCE]])
        parts.append([x[len(sources) :] for x in warp_views(images, depth, sources, some)])
    warped, known = zip(*parts, strict=True)
    return torch.cat(warped), torch.cat(known)
