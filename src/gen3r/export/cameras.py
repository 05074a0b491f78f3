"""cameras.json: the clip's cameras in Gen3R's own format."""

from pathlib import Path

from gen3r.cameras import formats
from gen3r.scene import Scene


def write_cameras(scene: Scene, path: Path) -> None:
    """Writes the scene's cameras; `gen3r generate --camera` reads them."""
    formats.write_cameras(path, scene.cameras)
