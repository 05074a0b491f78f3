"""The request: what one generation is asked for, completed from a model's defaults and checked before any work.

Importing this loads nothing heavy: the command line reads its options from `Request`.
"""

import math
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from gen3r.cameras.names import BETWEEN, FREE, Easing
from gen3r.errors import InputError
from gen3r.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from gen3r.cameras.camera import Cameras

SIZE_STEP = 112
MAX_STEPS = 1_000_000
FAST_STEPS = 20  # with `fast`, where a model has more
FAST_GUIDED = 0.5  # share of the steps that are guided with `fast`
NARROWEST, WIDEST = 1, 170  # degrees that a path's cameras see
MOST_OUTPUT = 8192  # pixels of the longer side of frames rendered from photos
PHOTO_SIDE = 768  # longer side of frames rendered from photos, where neither the request nor the photo says less
_WHOLE = ("num_frames", "height", "width", "output_size", "num_inference_steps")
_REAL = ("extent", "fov", "guidance_scale", "guided_share")
TASKS = ("text", "one view", "two views")  # by the number of conditioning frames
_DEFAULTED = (
    "negative_prompt", "num_frames", "height", "width", "num_inference_steps", "guidance_scale", "clamp_known",
    "geometry_from",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What one generation is asked for. A field that is None takes the model's own value in `resolve`.

    images: the conditioning frames. None (text alone), 1 (first), 2 (first and last) or all frames of the clip: an
        image, a list of images, an array or tensor of n or of B times n images, for B samples, or an `ImageSequence`.
        An image is a path, a Pillow image, an array [H, W, 3] or a tensor [3, H, W]; uint8, or floats in [0, 1]. A
        path may lead to a folder or a video. One or two images with cameras that are not free are photos: the frames
        are rendered at the size and shape of the first one, and the model sees each photo whole. Otherwise each image
        is resized to cover the clip's size and cropped in the centre.
    prompt: one, or one per sample. None is no text.
    cameras: "free" leaves them to the model. "between" leads from the first of two images to the second, as VGGT
        predicts them. A name from `gen3r.cameras.paths` is scaled to the median depth that VGGT predicts for the
        images (1 for text alone). `Cameras` are resampled to the clip; their unit is the mean distance of the scene's
        points. A list has one of these per sample, all but "free". None: the model's own path for the task, else
        "free".
    extent, easing: of a named path.
    fov: horizontal angle of view of the frames along a named path, in degrees. None: what the EXIF of the first image
        says (its focal length for 35 mm film), else what VGGT predicts.
    num_frames: 4k + 1. height, width: of the clip that the model makes; multiples of 112, in pixels.
    output_size: longer side in pixels of the frames that are rendered from photos. None: 768, or the photo's if that
        is less. 0 turns the rendering off: the frames and their geometry are the model's.
    fast: fewer and cheaper steps, at some loss: UniPC in place of Euler, a cache of steps, and guidance in part of
        them. Models of at most 20 steps, such as nano, have nothing to gain.
    guided_share: share of the steps, from the first, that are guided. None: all, or the first half with `fast`.
    clamp_known: known latents, such as the first frame's, follow their own straight path from the noise instead of the
        predicted velocity. Conditioning frames then come out as the autoencoder decodes them. The published
        implementation does not clamp.
    geometry_from: "frames" runs VGGT on the generated frames. "latents" decodes the denoised geometry latents, as in
        the published implementation. For nano, "frames" is more accurate.
    prompt_embeds, negative_prompt_embeds: [B, L, D]. image_embeds: [B, N, D']. They replace the encoders.
    """

    images: Any = None
    prompt: str | Sequence[str] | None = option("", "text that describes the scene", metavar="TEXT")
    negative_prompt: str = option(None, "text that describes what to avoid (default: the model's)", metavar="TEXT")
    cameras: "Cameras | str | Sequence[Cameras | str] | None" = None
    extent: float | None = option(None, "how far a named path goes (default: listed below)", metavar="X")
    easing: Easing = option("linear", "constant speed, or a soft start and end (default: linear)")
    fov: float | None = option(
        None,
        "horizontal angle of view in degrees (default: what the photo's EXIF says, else as predicted)",
        metavar="DEG",
    )
    num_frames: int = option(None, "frames of the clip, 4k + 1 (default: the model's)", flag="--frames", metavar="N")
    height: int = None  # pyright: ignore[reportAssignmentType]
    width: int = None  # pyright: ignore[reportAssignmentType]
    output_size: int | None = option(
        None,
        "longer side of the frames rendered from one or two photos, 0 for the model's own frames "
        "(default: 768, or the photo's if that is less)",
        flag="--out-size",
        metavar="N",
    )
    num_inference_steps: int = option(None, "denoising steps (default: the model's)", flag="--steps", metavar="N")
    guidance_scale: float = option(
        None, "strength of text guidance, 1 turns it off (default: the model's)", flag="--guidance", metavar="X"
    )
    fast: bool = option(False, "fewer and cheaper steps, at some loss, for models of more than 20")
    guided_share: float = None  # pyright: ignore[reportAssignmentType]
    clamp_known: bool = None  # pyright: ignore[reportAssignmentType]
    geometry_from: Literal["frames", "latents"] = None  # pyright: ignore[reportAssignmentType]
    prompt_embeds: "Tensor | None" = None
    negative_prompt_embeds: "Tensor | None" = None
    image_embeds: "Tensor | None" = None

    def resolve(self, defaults: Mapping[str, Any]) -> "Request":
        """The same request with the model's own values where it leaves something open, checked.

        Raises:
            InputError: sizes, counts, names or text that no model can serve. The message says what to give instead.
        """
        from gen3r.media.sequence import exif_fov, open_paths

        request = self._with_plain_numbers()._resolve_fast(defaults["num_inference_steps"])
        request = replace(request, **{x: defaults[x] for x in _DEFAULTED if getattr(request, x) is None})
        request = replace(request, images=open_paths(self.images), prompt="" if self.prompt is None else self.prompt)
        check_size(request.num_frames, request.height, request.width)
        request._check_sampling()
        if request.num_inference_steps < defaults.get("least_steps", 1):
            own, least = defaults["num_inference_steps"], defaults["least_steps"]
            raise InputError(
                f"this model samples in {own} steps, or in {least} at least; not in {request.num_inference_steps}"
            )
        own = defaults["height"], defaults["width"]
        if (request.height, request.width) != own:
            warnings.warn(
                f"this model was trained on clips of {own[0]} x {own[1]}: others are blurred or distorted. Without a "
                "size, frames of a photo have the photo's size all the same",
                stacklevel=3,
            )
        if request.output_size and request.output_size < max(request.height, request.width):
            least = max(request.height, request.width)
            raise InputError(f"the output size is at least the model's, {least}, or 0; not {request.output_size}")
        if (request.output_size or 0) > MOST_OUTPUT:
            raise InputError(f"the output size is {MOST_OUTPUT} at most, not {request.output_size}")
        request._check_text()
        if request.num_views not in (0, 1, 2, request.num_frames) or request.num_views > request.num_frames:
            raise InputError(
                f"{request.num_views} images: give none, one (first), two (first and last) or all "
                f"{request.num_frames} frames"
            )
        if request.cameras is None:
            request = replace(request, cameras=defaults["cameras"].get(request.task, FREE))
        request._check_cameras()
        request._check_shape()
        placed = any(isinstance(x, str) and x != FREE for x in request.paths(1))
        if request.fov is None and request.images is not None and placed:
            request = replace(request, fov=exif_fov(request.images, *request.frame_size()))
        return request

    def _with_plain_numbers(self) -> "Request":
        """The same request with Python's numbers in the place of numpy's and torch's, which JSON does not know."""
        plain: dict[str, Any] = {}
        for name in (*_WHOLE, *_REAL):
            if (value := getattr(self, name)) is None:
                continue
            try:
                if name in _WHOLE:
                    plain[name] = operator.index(value)
                elif not isinstance(value, int | float):
                    plain[name] = float(+value)
            except TypeError as error:
                kind = "a whole number" if name in _WHOLE else "a number"
                raise InputError(f"{name} is {kind}, not {value!r:.40}") from error
        return replace(self, **plain)

    def _resolve_fast(self, own_steps: int) -> "Request":
        """The same request with the steps and guidance of `fast`, or without `fast` where nothing is to gain."""
        fast = self.fast and own_steps > FAST_STEPS
        if self.fast and not fast:
            warnings.warn(f"this model samples in {own_steps} steps; there is nothing to gain by fast", stacklevel=4)
        steps = FAST_STEPS if fast and self.num_inference_steps is None else self.num_inference_steps
        share = (FAST_GUIDED if fast else 1.0) if self.guided_share is None else self.guided_share
        return replace(self, fast=fast, num_inference_steps=steps, guided_share=share)

    @property
    def num_views(self) -> int:
        """The number of conditioning frames."""
        from gen3r.media.images import count_images
        from gen3r.media.sequence import ImageSequence

        if isinstance(self.images, ImageSequence):
            return self.images.count if self.images.count <= 2 else self.num_frames
        return count_images(self.images)

    @property
    def task(self) -> str:
        """The task that the number of conditioning frames stands for."""
        return "all views" if self.num_views == self.num_frames > 2 else TASKS[self.num_views]

    @property
    def frame_indices(self) -> list[int]:
        """Where the conditioning frames stand in the clip."""
        last = self.num_frames - 1
        return list(range(last + 1)) if self.num_views == self.num_frames else [0, last][: self.num_views]

    @property
    def num_tokens(self) -> int:
        """The transformer's tokens of a resolved request: patches of 2 x 2 latents, of both halves."""
        return (1 + (self.num_frames - 1) // 4) * (self.height // 16) * (2 * self.width // 16)

    def paths(self, samples: int) -> "list[Cameras | str]":
        """The camera path of each sample of a resolved request."""
        paths: list[Any] = [*self.cameras] if isinstance(self.cameras, (list, tuple)) else [self.cameras]
        return paths * samples if len(paths) == 1 else paths

    @property
    def renders_photos(self) -> bool:
        """Whether the frames of a resolved request are rendered from its images."""
        return self.num_views in (1, 2) and self.cameras != FREE and self.output_size != 0

    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames of a resolved request: the first photo's shape, in even numbers, where the
        frames are rendered from it, else the model's."""
        from gen3r.media.crop import MAX_ASPECT

        if not self.renders_photos:
            return self.height, self.width
        height, width = self._photo_size()
        longer = self.output_size or max(min(PHOTO_SIDE, max(height, width)), self.height, self.width)
        factor = longer / max(height, width)
        height, width = (2 * round(max(factor * side, longer / MAX_ASPECT) / 2) for side in (height, width))
        return height, width

    def read_images(self) -> "Tensor":
        """The conditioning frames of a resolved request as [B, n, 3, H, W] in [0, 1], of `frame_size`; n may be 0.

        Of an `ImageSequence` of more than two, evenly spaced ones stand for the clip's frames.

        Raises:
            InputError: a file cannot be read, or something is not an image.
        """
        from gen3r.media.images import image_batch
        from gen3r.media.sequence import ImageSequence

        images, size = self.images, self.frame_size()
        if isinstance(images, ImageSequence):
            images = images.sample(self.num_views, *size)
        return image_batch(images, *size)

    def _check_sampling(self) -> None:
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise InputError(f"sampling needs 1 to {MAX_STEPS} steps, not {self.num_inference_steps}")
        if not 0 <= self.guidance_scale <= 100:
            raise InputError(f"guidance must lie between 0 and 100, not {self.guidance_scale}; 1 turns it off")
        if not 0 <= self.guided_share <= 1:
            raise InputError(f"the share of guided steps lies between 0 and 1, not {self.guided_share}")
        if self.geometry_from not in ("frames", "latents"):
            raise InputError(f"geometry comes from frames or latents, not from {self.geometry_from}")

    def _check_text(self) -> None:
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not isinstance(prompts, Sequence) or not all(isinstance(x, str) for x in prompts):
            raise InputError(f"the prompt is a text, or a list with one per sample; not {self.prompt!r:.80}")
        if not isinstance(self.negative_prompt, str):
            raise InputError(f"the negative prompt is one text, not {self.negative_prompt!r:.80}")
        for name in ("prompt_embeds", "negative_prompt_embeds", "image_embeds"):
            embeds = getattr(self, name)
            if embeds is not None and (not hasattr(embeds, "ndim") or embeds.ndim != 3):
                raise InputError(
                    f"{name} is a tensor [B, L, D], not {list(getattr(embeds, 'shape', [])) or embeds!r:.80}"
                )
        try:
            "".join([*prompts, self.negative_prompt]).encode()
        except UnicodeEncodeError as error:
            raise InputError("the prompt is not valid text; type it in UTF-8") from error

    def _check_shape(self) -> None:
        """Warns where the frames have not the whole first photo."""
        from gen3r.media.crop import MAX_ASPECT

        if not self.renders_photos:
            return
        height, width = self._photo_size()
        if max(height, width) > MAX_ASPECT * min(height, width):
            warnings.warn(
                f"a photo of {width} x {height} is cut at both ends: frames are at most {MAX_ASPECT:g} to 1",
                stacklevel=4,
            )

    def _photo_size(self) -> tuple[int, int]:
        """Height and width of the first image of a resolved request."""
        from gen3r.media.images import first_size
        from gen3r.media.sequence import ImageSequence

        return self.images.first_size() if isinstance(self.images, ImageSequence) else first_size(self.images)

    def _check_cameras(self) -> None:
        """Checks paths by their names alone; warns where extent and easing have no effect."""
        paths = self.paths(1)
        named = [path for path in paths if isinstance(path, str)]
        if len(named) < len(paths):
            from gen3r.cameras.camera import Cameras

            if other := [path for path in paths if not isinstance(path, (str, Cameras))]:
                raise InputError(f"cameras are the name of a path, Cameras, or a list of them; not {other[0]!r:.40}")
        if BETWEEN in named and self.num_views != 2:
            raise InputError(f"the path {BETWEEN} leads from one image to another; give two, or another path")
        if FREE in named and len(paths) > 1:
            raise InputError(f"{FREE} cameras are those of all samples; leave {FREE} out of the list")
        if self.fov is not None:
            check_fov(self.fov)
            if not named or FREE in named:
                kind = "free cameras have their own" if named else "given cameras have their own"
                warnings.warn(f"fov is for named paths; {kind}", stacklevel=4)
        if shaped := [name for name in named if name not in (FREE, BETWEEN)]:
            from gen3r.cameras.paths import EASINGS, find_trajectory

            for name in shaped:
                find_trajectory(name)
            if self.easing not in EASINGS:
                raise InputError(f"no easing named {self.easing}; there are: {', '.join(EASINGS)}")
            if self.extent is not None and not math.isfinite(self.extent):
                raise InputError(f"a path's extent must be a number, not {self.extent}")
            if self.task == "all views":
                asked = f"the images say how the camera moves, not {shaped[0]}"
                warnings.warn(f"{asked}; a path is for one or two images", stacklevel=4)
        elif self.extent is not None or self.easing != "linear":
            kind = f"{named[0]} has neither" if named else "given cameras stay as they are"
            warnings.warn(f"extent and easing are for named paths; {kind}", stacklevel=4)


def check_size(frames: int, height: int, width: int) -> None:
    """Refuses clips of a size that no model can denoise.

    Raises:
        InputError: says which, and what to give instead.
    """
    if frames < 1 or (frames - 1) % 4:
        near = max(1, 4 * round((frames - 1) / 4) + 1)
        raise InputError(f"a clip has 4k + 1 frames, not {frames}; try {near}")
    for name, value in (("height", height), ("width", width)):
        if value < SIZE_STEP or value % SIZE_STEP:
            near = max(SIZE_STEP, SIZE_STEP * round(value / SIZE_STEP))
            raise InputError(f"the {name} must be a multiple of {SIZE_STEP}, not {value}; try {near}")


def check_patches(height: int, width: int, patch: int = 14) -> None:
    """Refuses sizes that VGGT cannot cut into whole patches.

    Raises:
        InputError: says what to give instead.
    """
    if min(height, width) < patch or height % patch or width % patch:
        raise InputError(f"the size must be in multiples of {patch}, not {height} x {width}")


def check_fov(fov: float) -> None:
    """Refuses angles of view [degrees] that no lens has.

    Raises:
        InputError: says what to give instead.
    """
    if not NARROWEST <= fov <= WIDEST:
        raise InputError(f"an angle of view lies between {NARROWEST} and {WIDEST} degrees, not {fov:g}")


def batch_size(**counts: int) -> int:
    """The number of samples, where each input is given once for all samples or once per sample.

    Raises:
        InputError: two inputs disagree.
    """
    batch = max(counts.values())
    for name, count in counts.items():
        if count not in (1, batch):
            raise InputError(f"{count} {name.replace('_', ' ')} for {batch} samples; give one, or one per sample")
    return batch


def sample_count(value: Any) -> int:
    """How many samples an input stands for: lists and tensors have one entry per sample, anything else serves all."""
    from torch import Tensor

    return len(value) if isinstance(value, (list, tuple, Tensor)) else 1
