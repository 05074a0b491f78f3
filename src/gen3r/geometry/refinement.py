"""The refinement of a feed-forward reconstruction by the frames themselves."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.multi_view_stereo import mismatch, sharpen_frames
from gen3r.geometry.structure_from_motion import align_cameras, align_depth, map_frames, map_pair
from gen3r.media.crop import Size
from gen3r.media.images import eight_bits, evenly_spaced, resize

MATCHED_SIDE = 512  # longer side of the images in which features are matched
USUAL_FOCAL = 0.8  # of the longer side: a telephone's or wide-angle lens
JUDGED = 4  # frames by which cameras are judged
BETTER = 0.85  # of the mismatch under the predicted cameras: what other cameras must have
SURE = 0.5  # of it: cameras with less are not compared with further ones
CLEARLY = 0.97  # of the mismatch under the best cameras so far: what further ones must have


def matched_size(height: int, width: int) -> Size:
    """The size of images for `refine`, in the shape of a prediction of `height` x `width`."""
    factor = max(1.0, MATCHED_SIDE / max(height, width))
    return round(factor * height), round(factor * width)


def refine(
    matched: Tensor,
    images: Tensor,
    depth: Tensor,
    cameras: Cameras,
    frames: Iterable[int] | None = None,
) -> tuple[Tensor, Cameras] | None:
    """Depth [F, H, W] and cameras of frames, with cameras from matched features and depth from many views.

    matched: uint8 [F, H', W', 3], the frames in `matched_size`. images: [F, 3, H, W] in [0, 1]. depth, cameras: as
    predicted, which give the unit. frames: as in `sharpen_frames`. None where the frames cannot be matched: too few
    features, or no parallax.

    The predicted focal length may be far off, and cameras from matches may be wrong. A usual focal length is tried too.
    Of the cameras found, those under which the frames fit each other best are taken, if that is clearly better than
    under the predicted ones.
    """
    size = matched.shape[1], matched.shape[2]
    numbers = list(dict.fromkeys(evenly_spaced(len(images), JUDGED)))
    predicted = float(cameras.K_px[:, 0, 0].median()) * size[1] / cameras.width
    before = mismatch(images, depth, cameras, numbers)
    for scenes in map_frames(matched, cameras.T_world_camera, (predicted, USUAL_FOCAL * max(size))):
        best, most = None, BETTER * before
        for scene in scenes:
            found = align_cameras(depth, cameras, scene, size)
            after = mismatch(images, depth, found, numbers)
            if after < most:
                best, most = (scene, found), CLEARLY * after
            if after < SURE * before:
                break
        if best is not None:
            scene, found = best
            depth = align_depth(depth, scene, size)
            return sharpen_frames(images, depth, found, frames, _finer(matched, images)), found
    return None


def matched_pair(photos: Tensor, depth: Tensor, cameras: Cameras) -> Cameras:
    """The cameras of two photos [2, 3, H, W], from matched features where they fit clearly better; else as predicted.

    depth: as predicted, [2, h, w]. cameras: as predicted, at the photos' size, in the unit of the depth. The focal
    length stays: two images do not tell it.
    """
    size = depth.shape[-2:]
    images = resize(photos, *size)
    matched = eight_bits(resize(photos, *matched_size(*size)))
    height, width = matched.shape[1:3]
    small = cameras.resize(*size)
    scene = map_pair(matched, float(small.K_px[0, 0, 0]) * width / small.width)
    if scene is None:
        return cameras
    found = align_cameras(depth, small, scene, (height, width))
    after, before = (mismatch(images, depth, x, (0, 1)) for x in (found, small))
    return found.resize(cameras.height, cameras.width) if after < BETTER * before else cameras


def _finer(matched: Tensor, images: Tensor) -> Tensor | None:
    """Grey values of the frames in twice the pixels of `images` on each side, where `matched` has them."""
    height, width = (2 * side for side in images.shape[-2:])
    if matched.shape[1] < height:
        return None
    grey = (frame.float().mean(-1)[None, None] / 255 for frame in matched)
    return torch.cat([F.interpolate(frame, (height, width), mode="area")[0] for frame in grey])
