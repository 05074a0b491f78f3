"""The tab in which a scene is asked for: photos or a video, words, a camera path, settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import viser
from PIL import Image

from gen3r.app.store import MAX_FRAMES, MAX_STEPS
from gen3r.app.uploads import Upload, check_upload
from gen3r.cameras.names import BETWEEN, FREE, PATHS
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.media.drawing import side_by_side

AUTOMATIC, DRAWN = "automatic", "drawn by hand"
OUTPUT_SIZES: dict[str, int | None] = {"the photo's, at most 768": None, "512": 512, "1024": 1024, "1536": 1536}
OUTPUT_SIZES |= {"2048": 2048, "the model's own": 0}
MAX_PHOTOS = 2
_CAMERAS = (AUTOMATIC, DRAWN, *PATHS, BETWEEN, FREE)
PHOTO_TYPES = "image/*,video/*,.mkv"


class Form:
    """What one visitor asks for. What it makes is a `Job`, read from the same JSON as the command line's.

    on_path: called when the camera path may have changed.
    """

    def __init__(self, gui: viser.GuiApi, defaults: Mapping[str, Any], on_path: Callable[[], None]) -> None:
        self._gui, self._defaults, self._on_path = gui, defaults, on_path
        self.uploads: list[Upload] = []
        self.upload = gui.add_upload_button("Add a photo or a video", icon=viser.Icon.UPLOAD, mime_type=PHOTO_TYPES)
        self._picture = gui.add_image(_blank(), visible=False, format="jpeg")
        self.clear = gui.add_button("Remove the files", icon=viser.Icon.TRASH, visible=False)
        self.prompt = gui.add_text("Words", "", multiline=True, hint="what the scene shows; enough without a photo")
        self.camera = gui.add_dropdown("Camera", _CAMERAS, hint="automatic: the model's usual path")
        self.extent = gui.add_number("Extent", 0.0, step=0.05, visible=False)
        self.easing = gui.add_dropdown("Speed", ("linear", "ease"), visible=False, hint="ease: a soft start and end")
        self._about = gui.add_markdown("")
        with gui.add_folder("Settings", expand_by_default=False):
            frames, steps = int(defaults["num_frames"]), int(defaults["num_inference_steps"])
            self.frames = gui.add_number("Frames", frames, min=1, max=MAX_FRAMES, step=4)
            self.steps = gui.add_number("Steps", steps, min=1, max=MAX_STEPS, step=1)
            guidance = float(defaults["guidance_scale"])
            self.guidance = gui.add_number("Guidance", guidance, min=0.0, max=100.0, step=0.1)
            self.seed = gui.add_number("Seed", 0, min=0, max=2**31 - 1, step=1, hint="same seed, same scene")
            self.output_size = gui.add_dropdown("Frame size", tuple(OUTPUT_SIZES), hint="of scenes from photos")
            height, width = defaults["height"], defaults["width"]
            self.size = gui.add_text("Model's size", f"{height}x{width}", hint="height x width, in multiples of 112")
            self.negative = gui.add_text("Avoid", "", hint="words for what the scene should not show")
        self.camera.on_update(lambda _: self._choose())
        for control in (self.extent, self.easing, self.frames):
            control.on_update(lambda _: self._on_path())
        self.clear.on_click(lambda _: self.set_files([]))
        self._choose()

    @property
    def drawn(self) -> bool:
        """Whether the path is drawn in the scene."""
        return self.camera.value == DRAWN

    def job(self) -> Job:
        """What is asked for, without the files. A drawn path counts as none.

        Raises:
            InputError: a value that is none.
        """
        d, camera = self._defaults, self.camera.value
        if camera not in _CAMERAS:
            raise InputError("choose a camera path of the list")
        values: dict[str, Any] = {
            "prompt": self.prompt.value.strip(),
            "camera": None if camera in (AUTOMATIC, DRAWN) else camera,
            "extent": self.extent.value if camera in PATHS and self.extent.value != PATHS[camera][0] else None,
            "easing": self.easing.value if camera in PATHS else "linear",
            "num_frames": _unless(int(self.frames.value), d["num_frames"]),
            "num_inference_steps": _unless(int(self.steps.value), d["num_inference_steps"]),
            "guidance_scale": _unless(float(self.guidance.value), d["guidance_scale"]),
            "seed": int(self.seed.value),
            "output_size": OUTPUT_SIZES.get(self.output_size.value),
            "size": _unless(self.size.value.strip().lower(), f"{d['height']}x{d['width']}"),
            "negative_prompt": self.negative.value.strip() or None,
        }
        return Job.from_json({name: value for name, value in values.items() if value is not None})

    def add_file(self, content: bytes) -> None:
        """Takes an upload; a video replaces photos, and the other way round.

        Raises:
            InputError: it cannot be used, or there are two photos already.
        """
        new = check_upload(content)
        kept = [] if new.is_video else [x for x in self.uploads if not x.is_video]
        if len(kept) == MAX_PHOTOS:
            raise InputError("there are two photos already, the first and the last frame; remove them first")
        self.set_files([*kept, new])

    def set_files(self, uploads: Sequence[Upload]) -> None:
        """Replaces the files."""
        self.uploads = list(uploads)
        if uploads:
            self._picture.image = _strip(self.uploads)
        self._picture.visible = self.clear.visible = bool(uploads)
        self._on_path()

    def fill(self, job: Job, uploads: Sequence[Upload], drawn: bool) -> None:
        """Shows what an earlier job asked for."""
        request, d = job.request, self._defaults
        self.prompt.value = str(request.prompt)
        self.camera.value = DRAWN if drawn else job.camera or AUTOMATIC
        self._choose()
        if request.extent is not None:
            self.extent.value = request.extent
        self.easing.value = request.easing
        self.frames.value = request.num_frames or d["num_frames"]
        self.steps.value = request.num_inference_steps or d["num_inference_steps"]
        self.guidance.value = d["guidance_scale"] if request.guidance_scale is None else request.guidance_scale
        self.seed.value = job.seed
        sizes = {size: text for text, size in OUTPUT_SIZES.items()}
        self.output_size.value = sizes.get(request.output_size, sizes[None])
        height, width = job.size if job.size[0] else (d["height"], d["width"])
        self.size.value = f"{height}x{width}"
        self.negative.value = request.negative_prompt or ""
        self.set_files(uploads)

    def _choose(self) -> None:
        """Fits the controls to the kind of path."""
        name = self.camera.value
        self.extent.visible = self.easing.visible = name in PATHS
        if name in PATHS:
            extent, unit, does = PATHS[name]
            self.extent.value = float(extent)
            self._about.content = f"*{does}; extent: {unit}*"
        else:
            self._about.content = _ABOUT.get(name, "")
        self._on_path()


_ABOUT = {
    AUTOMATIC: "*the model's usual path*",
    DRAWN: "*open* Camera path *below, fly to a view, and add it*",
    BETWEEN: "*from the first of two photos to the second*",
    FREE: "*the model chooses the cameras*",
}


def _unless(value: Any, default: Any) -> Any:
    return None if value == default else value


def _blank() -> Any:
    import numpy as np

    return np.zeros((1, 1, 3), np.uint8)


def _strip(uploads: Sequence[Upload]) -> Any:
    import numpy as np

    return np.asarray(side_by_side([Image.fromarray(x.thumbnail.numpy()) for x in uploads]))
