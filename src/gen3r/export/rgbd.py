"""An RGB-D sequence for robotics: the folders and lists of TUM's benchmark, and ROS's camera_info."""

import json
from pathlib import Path

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats.trajectories import to_tum
from gen3r.export.images import frame_name, write_depth_png, write_frames
from gen3r.export.selection import Selection
from gen3r.export.unit import unit_name
from gen3r.export.video import FRAMES_PER_SECOND
from gen3r.files import write_text

PER_UNIT = 5000.0  # stored numbers, TUM's factor


def write(selection: Selection, folder: Path) -> None:
    """Writes rgb/ and depth/, the lists rgb.txt, depth.txt and associations.txt, groundtruth.txt, and
    camera_info.yaml, or a folder of one a frame where the lens changes."""
    folder.mkdir(exist_ok=True)
    scene = selection.scene
    write_frames(selection, folder / "rgb")
    write_depth_png(selection, folder / "depth", PER_UNIT)
    entries = [(f"{n / FRAMES_PER_SECOND:.6f}", frame_name(n)) for n in range(len(scene.frames))]
    header = "# {}; depth: 16 bits, " + f"{PER_UNIT:g} stored numbers per unit; unit: {unit_name(scene)}\n"
    for kind in ("rgb", "depth"):
        lines = "".join(f"{time} {kind}/{name}\n" for time, name in entries)
        write_text(header.format("timestamp filename") + lines, folder / f"{kind}.txt")
    lines = "".join(f"{time} rgb/{name} {time} depth/{name}\n" for time, name in entries)
    write_text(lines, folder / "associations.txt")
    path = to_tum(scene.cameras, FRAMES_PER_SECOND)
    write_text(header.format("timestamp tx ty tz qx qy qz qw") + path, folder / "groundtruth.txt")
    if scene.cameras.one_lens:
        write_text(_camera_info(scene.cameras), folder / "camera_info.yaml")
    else:
        for n in range(len(entries)):
            info = _camera_info(scene.cameras[n : n + 1])
            write_text(info, folder / "camera_info" / frame_name(n, ".yaml"))


def _camera_info(cameras: Cameras) -> str:
    """The YAML of ROS's camera calibration of the first camera; its pixel centres are at whole numbers."""
    K = cameras.K_px[0].double().clone()
    K[:2, 2] -= 0.5
    projection = [[*row, 0.0] for row in K.tolist()]
    matrices = {
        "camera_matrix": K.tolist(), "distortion_coefficients": [[0.0] * 5],
        "rectification_matrix": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "projection_matrix": projection,
    }  # fmt: skip
    size = [f"image_width: {cameras.width}", f"image_height: {cameras.height}"]
    lines = [*size, "camera_name: gen3r", "distortion_model: plumb_bob"]
    for name, rows in matrices.items():
        data = json.dumps([x for row in rows for x in row])
        lines += [f"{name}:", f"  rows: {len(rows)}", f"  cols: {len(rows[0])}", f"  data: {data}"]
    return "\n".join(lines) + "\n"
