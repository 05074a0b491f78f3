"""Makes a sheet of scenes: the first, middle and last frame of each in a row.

python dev/photos.py OUT.jpg SCENE ...
"""

import sys
from pathlib import Path

from gen3r.media.drawing import labelled, stacked, strip
from gen3r.media.images import evenly_spaced
from gen3r.scene import Scene

COLUMNS = 3


def main(out: str, *folders: str) -> None:
    """A row's label is the name of the scene's folder, and what the scene was made from."""
    rows = []
    for folder in folders:
        scene = Scene.load(folder)
        text = f"{Path(folder).name}, from {scene.settings['task']}"
        rows.append(labelled(text, strip(scene.frames[evenly_spaced(len(scene.frames), COLUMNS)], COLUMNS)))
    stacked(rows).save(out, quality=88)


if __name__ == "__main__":
    main(*sys.argv[1:])
