"""A job: one generation as people ask for it, with files and names where a `Request` has images and cameras.

The command line, the app and batches all make jobs, and a job is a JSON file. Importing this loads nothing heavy.
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen3r.cameras.names import BETWEEN, FREE, PATHS
from gen3r.errors import InputError, no_file
from gen3r.files import parse_json, read_text
from gen3r.options import option, options_of, parse_size, read_values
from gen3r.request import Request

if TYPE_CHECKING:
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One generation: what to start from, along which camera path, and everything else that a `Request` says.

    request: the options of the request; its images and cameras are left open.
    """

    inputs: tuple[Path, ...] = option((), "images, one video, or one folder", metavar="IMAGE", positional=True)
    camera: str | None = option(None, "a camera path below, or a camera file (default: below)", metavar="NAME|FILE")
    camera_scale: float = option(1.0, "factor on a camera file's lengths", metavar="X")
    size: tuple[int, int] = option(
        (None, None),
        "N or HEIGHTxWIDTH of the clip that the model makes, multiples of 112 (default: the model's)",
        parse=parse_size,
    )
    seed: int = option(0, "same seed, same scene (default: 0)", metavar="N")
    request: Request = Request()  # noqa: RUF009  (it is frozen)

    def check(self) -> None:
        """Refuses what no model can serve, and inputs that are not there, without reading a file.

        Raises:
            InputError: says what to give instead.
        """
        if not self.inputs and not str(self.request.prompt).strip():
            raise InputError('nothing to start from; give an image, or text with --prompt "..."')
        for path in self.inputs:
            if not path.exists():
                raise no_file("image, video or folder", path)
        if not 0 <= self.seed < 2**63:
            raise InputError(f"a seed is a whole number from 0 to 2^63 - 1, not {self.seed}")
        if not (math.isfinite(self.camera_scale) and self.camera_scale > 0):
            raise InputError(f"a camera scale is a positive number, not {self.camera_scale}")

    def resolve(self, defaults: Mapping[str, Any]) -> Request:
        """The request with its cameras read, its images opened but not read, and a model's defaults; checked.

        defaults: of the model, by `gen3r.checkpoints.model_defaults` or a pipeline's `defaults`.

        Raises:
            InputError: a file is missing or unreadable, or the request is one that no model can serve.
        """
        from gen3r.media.sequence import ImageSequence

        images, cameras, (height, width) = ImageSequence.open(self.inputs), self.camera, self.size
        if cameras not in (None, FREE, BETWEEN, *PATHS) and os.path.exists(
            cameras
        ):  # which is False for what is too long to be a path
            from gen3r.cameras.formats import read_cameras

            own = height or defaults["height"], width or defaults["width"]
            shape = images.first_size() if images.count else own
            cameras = read_cameras(cameras, shape=shape).scaled(self.camera_scale)
        elif cameras and (os.sep in cameras or Path(cameras).suffix):
            raise InputError(f"no camera file at {cameras}")
        elif self.camera_scale != 1:
            warnings.warn("--camera-scale is for camera files; --extent sets how far a named path goes", stacklevel=2)
        request = replace(
            self.request, images=images if images.count else None, cameras=cameras, height=height, width=width
        )
        request = request.resolve(defaults)
        if 2 < images.count < request.num_frames:
            warnings.warn(
                f"{images.count} images for {request.num_frames} frames: some repeat; --frames N asks for fewer",
                stacklevel=2,
            )
        return request

    def generate(
        self, pipe: "Gen3RPipeline", request: Request | None = None, on_step: Callable[..., Any] | None = None
    ) -> "Scene":
        """The scene of this job.

        request: as `resolve` returned it, perhaps with its images read already. on_step: as `callback_on_step_end`.
        """
        [scene] = generate_scenes([self], [request or self.resolve(pipe.defaults)], pipe, on_step)
        return scene

    def to_json(self) -> dict[str, Any]:
        """Every option that is not at its default, as JSON values."""
        return {
            name: [str(x) if isinstance(x, Path) else x for x in value] if isinstance(value, tuple) else value
            for part in (self, self.request)
            for name, value in ((f.name, getattr(part, f.name)) for f in options_of(type(part)))
            if value != _DEFAULTS[name]
        }

    @classmethod
    def from_json(cls, values: Any, folder: Path = Path()) -> "Job":
        """The job of `to_json`. Relative paths of files start from `folder`.

        Raises:
            InputError: an unknown option, or a value that is not what the option takes.
        """
        values = read_values(values, cls, Request)
        values["inputs"] = tuple(folder / p for p in values.get("inputs", ()))
        if values.get("camera") and os.path.exists(folder / values["camera"]):
            values["camera"] = str(folder / values["camera"])
        own = {f.name for f in fields(cls)}
        request = Request(**{name: value for name, value in values.items() if name not in own})
        return cls(**{name: value for name, value in values.items() if name in own}, request=request)

    @classmethod
    def load(cls, path: Path) -> "Job":
        """The job in a JSON file; paths in it start from the file's folder.

        Raises:
            InputError: the file cannot be read, or holds something else.
        """
        text = read_text(path, "file of options")
        try:
            values = parse_json(text, path)
        except InputError as error:
            raise InputError(f'{path} is not a file of options in JSON, such as {{"prompt": "a room"}}') from error
        return cls.from_json(values, path.parent)


def generate_scenes(
    jobs: Sequence[Job],
    requests: Sequence[Request],
    pipe: "Gen3RPipeline",
    on_step: Callable[..., Any] | None = None,
) -> list["Scene"]:
    """The scenes of one or more jobs, denoised as one batch.

    requests: as `Job.resolve` returned them. Of several, all but images, prompts, seeds and given cameras are equal.
    """
    import torch

    from gen3r.scene import Scene

    request = requests[0]
    if len(jobs) > 1:
        images = torch.cat([r.read_images() for r in requests]) if request.num_views else None
        cameras = request.cameras if isinstance(request.cameras, str) else [r.cameras for r in requests]
        request = replace(request, images=images, prompt=[r.prompt for r in requests], cameras=cameras)
    generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
    scenes = pipe(request, generator=generators, callback_on_step_end=on_step)
    for scene, job in zip(scenes, jobs, strict=True):
        assert isinstance(scene, Scene)
        scene.settings.update(seed=job.seed, inputs=[p.name for p in job.inputs])
    return scenes  # pyright: ignore[reportReturnType]


_DEFAULTS = {f.name: f.default for kind in (Job, Request) for f in options_of(kind)}
