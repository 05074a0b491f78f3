"""A recording for the Rerun viewer: the points, and camera, frame and depth over time."""

from pathlib import Path
from typing import Any

from gen3r.export.images import reliable_depth
from gen3r.export.selection import Selection
from gen3r.export.unit import unit_name
from gen3r.export.video import FRAMES_PER_SECOND

JPEG_QUALITY = 90


def write(selection: Selection, path: Path) -> None:
    """Writes the recording, with times in seconds."""
    import rerun as rr  # pyright: ignore[reportMissingImports]

    recording = rr.RecordingStream("gen3r", recording_id=path.stem, send_properties=False)
    rr.set_log_time_enabled(False, recording)  # the time of writing says nothing
    stream = recording.binary_stream()  # its own writer of files waits forever on a full disk
    _log(selection, recording)
    path.write_bytes(stream.read() or b"")


def _log(selection: Selection, recording: Any) -> None:
    import rerun as rr  # pyright: ignore[reportMissingImports]

    scene, cloud = selection.scene, selection.cloud()
    assert cloud.widths is not None
    cameras = scene.cameras
    recording.log("world", rr.ViewCoordinates.RDF, static=True)
    recording.log("about", rr.TextDocument(f"{scene.prompt}\n\nUnit: {unit_name(scene)}"), static=True)
    points = rr.Points3D(cloud.points.numpy(), colors=cloud.colours, radii=cloud.widths.numpy() / 2)
    recording.log("world/points", points, static=True)
    for number, (T, K_px) in enumerate(zip(cameras.T_world_camera, cameras.K_px, strict=True)):
        recording.set_time("time", duration=number / FRAMES_PER_SECOND)
        recording.log("world/camera", rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
        lens = rr.Pinhole(image_from_camera=K_px, resolution=[cameras.width, cameras.height])
        recording.log("world/camera", lens)
        frame = rr.Image(scene.frames[number].numpy()).compress(jpeg_quality=JPEG_QUALITY)
        recording.log("world/camera/frame", frame)
        recording.log("world/camera/depth", rr.DepthImage(reliable_depth(selection, number), meter=1.0))
