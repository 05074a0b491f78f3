"""rgb.mp4 and depth.mp4: H.264 videos that every player shows."""

from pathlib import Path

import av
import numpy as np

from gen3r.export.colour import colour_depth
from gen3r.files import whole_file
from gen3r.scene import Scene

FRAMES_PER_SECOND = 12


def write_rgb_video(scene: Scene, path: Path) -> None:
    """The frames as a video."""
    write_video(scene.frames.numpy(), path)


def write_depth_video(scene: Scene, path: Path) -> None:
    """The depth as a video in colours: near is light, far is dark, one scale for the clip."""
    write_video(colour_depth(scene.depth.numpy(), scene.mask.numpy()), path)


def write_video(frames: np.ndarray, path: Path, fps: int = FRAMES_PER_SECOND) -> None:
    """Writes uint8 [F, H, W, 3]; an odd height or width loses its last row or column."""
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    with whole_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "medium"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
