"""Frames as H.264 videos that every player shows."""

from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import Colorspace
from torch import Tensor

from gen3r.files import whole_file

FRAMES_PER_SECOND = 12
# Coarser artefacts would pass for the model's. With its tree of macroblocks, x264 gives the same frames other bytes.
_QUALITY = {"crf": "14", "preset": "medium", "x264-params": "mbtree=0"}
_BT709 = 1


def write_video(frames: Tensor, path: Path) -> None:
    """Writes frames uint8 [F, H, W, 3] as H.264, yuv420p, marked BT.709.

    An odd height or width gets its last row or column twice: the format halves the colour's resolution.

    Raises:
        InputError: the file cannot be written.
    """
    even = _even(frames).cpu().numpy()
    with whole_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_QUALITY)
        stream.height, stream.width, stream.pix_fmt = even.shape[1], even.shape[2], "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        for image in even:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode())


def _even(frames: Tensor) -> Tensor:
    height, width = frames.shape[1:3]
    if height % 2 == 0 and width % 2 == 0:
        return frames
    planes = frames.permute(0, 3, 1, 2).float()
    return F.pad(planes, (0, width % 2, 0, height % 2), mode="replicate").to(torch.uint8).permute(0, 2, 3, 1)
