"""The tab in which a scene is asked for: photos or a video, words, a camera path, settings."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import viser
from PIL import Image

from gen3r.app.store import CAMERAS, MAX_FRAMES, MAX_STEPS
from gen3r.app.uploads import Upload, check_upload
from gen3r.cameras.names import BETWEEN, FREE, PATHS
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.media.drawing import text_strip

AUTOMATIC, DRAWN = "automatic", "drawn by hand"
OUTPUT_SIZES: dict[str, int | None] = {"photo's, at most 768": None, "512": 512, "1024": 1024, "1536": 1536}
OUTPUT_SIZES |= {"2048": 2048, "the model's own": 0}
