"""The refinement of a feed-forward reconstruction by the frames themselves."""

from collections.abc import Callable, Iterable

from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.multi_view_stereo import sharpen_frames
from gen3r.geometry.structure_from_motion import align_cameras, map_frames
from gen3r.media.crop import Size

MATCHED_SIDE = 512  # longer side of the images in which features are matched
USUAL_FOCAL = 0.8  # of the longer side: a telephone's or wide-angle lens


def matched_size(height: int, width: int) -> Size:
    """The size of images for `refine`, in the shape of a prediction of `height` x `width`."""
    factor = max(1.0, MATCHED_SIDE / max(height, width))
    return round(factor * height), round(factor * width)


def refine(
    matched: Tensor,
    images: Tensor,
    depth: Tensor,
    cameras: Cameras,
    frames: Callable[[], Iterable[int]] | None = None,
) -> tuple[Tensor, Cameras] | None:
    """Depth [F, H, W] and cameras of frames, with cameras from matched features and depth from many views.

    matched: uint8 [F, H', W', 3], the frames in `matched_size`. images: [F, 3, H, W] in [0, 1]. depth, cameras: as
    predicted, which give the unit. frames: as in `sharpen_frames`. None where the frames cannot be matched: too few
    features, or no parallax. Where the mapping fails from the predicted focal length, which may be far off, it starts
    once more from a usual one.
    """
    predicted = float(cameras.K_px[:, 0, 0].median()) * matched.shape[2] / cameras.width
    scene = map_frames(matched, predicted, USUAL_FOCAL * max(matched.shape[1:3]))
    if scene is None:
        return None
    cameras = align_cameras(depth, cameras, scene, (matched.shape[1], matched.shape[2]))
    return sharpen_frames(images, depth, cameras, frames), cameras
