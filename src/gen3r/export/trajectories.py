"""The camera path as a text file."""

from pathlib import Path

from gen3r.cameras.formats.trajectories import to_kitti, to_tum
from gen3r.export.selection import Selection
from gen3r.export.video import FRAMES_PER_SECOND
from gen3r.files import write_text


def write_tum(selection: Selection, path: Path) -> None:
    """Writes TUM's lines, at the frame rate of the video."""
    write_text(to_tum(selection.scene.cameras, FRAMES_PER_SECOND), path)


def write_kitti(selection: Selection, path: Path) -> None:
    """Writes KITTI's lines."""
    write_text(to_kitti(selection.scene.cameras), path)
