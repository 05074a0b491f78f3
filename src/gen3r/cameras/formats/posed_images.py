"""What every camera file becomes: names, poses in double precision and lenses, checked and in order."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gen3r.cameras.camera import Cameras, check_poses, make_cameras
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError
from gen3r.media.crop import Size, cover_crop
from gen3r.media.order import natural_order

LONGEST_SIDE = 100_000  # pixels
NARROWEST, WIDEST = math.radians(0.5), math.radians(179)  # angles of view that lenses have
FARTHEST = 2.0  # image sizes from the middle, for the principal point of an image that was cut out of another
SHAPE = 1.0  # pixels by which a side of a resized image may be off, for it is a whole number


@dataclass(frozen=True)
class PosedImages:
    """The cameras of a file, in the natural order of their images' names, or of the file where it names none.

    T_world_camera: float64 [F, 4, 4], OpenCV axes, in the file's own world. lenses: one each, for images of the lens's
    own size. names: of the images, as the file has them; "" without. cropped: whether images of another shape than the
    lens's were cropped in the centre to it, as Gen3R crops them. fractions: whether the intrinsics are fractions of the
    image's width and height, whatever it is; the lens's size is then 1 x 1.
    """

    T_world_camera: np.ndarray
    lenses: tuple[Lens, ...]
    names: tuple[str, ...]
    cropped: bool = False
    fractions: bool = False

    @classmethod
    def checked(
        cls,
        T_world_camera: np.ndarray,
        lenses: Sequence[Lens],
        names: Sequence[str] = (),
        cropped: bool = False,
        fractions: bool = False,
    ) -> "PosedImages":
        """Sorted, and with every camera checked.

        Raises:
            InputError: there is none, or one is impossible; it names the frame.
        """
        if not len(T_world_camera):
            raise InputError("it holds no camera; export the cameras again")
        names = tuple(names) if all(names) else ()
        check_poses(T_world_camera, names)
        for number, lens in enumerate(lenses):
            if wrong := _wrong(lens, fractions):
                raise InputError(f"frame {number}{_called(names, number)} {wrong}")
        names = names or ("",) * len(lenses)
        order = sorted(range(len(names)), key=lambda i: natural_order(names[i]))
        return cls(T_world_camera, tuple(lenses), names, cropped, fractions).take(order)

    def __len__(self) -> int:
        return len(self.lenses)

    def take(self, numbers: Sequence[int]) -> "PosedImages":
        """Some of the images, in this order."""
        lenses, names = ([values[i] for i in numbers] for values in (self.lenses, self.names))
        return replace(self, T_world_camera=self.T_world_camera[numbers], lenses=tuple(lenses), names=tuple(names))

    @property
    def size(self) -> Size:
        """(height, width) of all images.

        Raises:
            InputError: they have several sizes.
        """
        first = self.lenses[0].size
        for i, lens in enumerate(self.lenses):
            if lens.size != first:
                one, other = (f"frame {n}{_called(self.names, n)}" for n in (0, i))
                (h, w), (height, width) = first, lens.size
                raise InputError(
                    f"{one} is {w} x {h}, {other} {width} x {height}; make one scene of the images of each size"
                )
        return first

    @property
    def intrinsics(self) -> np.ndarray:
        """fx, fy, cx, cy [F, 4] in pixels."""
        return np.array([lens.intrinsics for lens in self.lenses])

    @property
    def lens_of_each(self) -> tuple[Lens, ...] | None:
        """The lenses that images are to be straightened by; None where all are pinholes."""
        return None if all(lens.straight for lens in self.lenses) else self.lenses

    def shaped_like(self, size: Size) -> bool:
        """Whether images of a size (height, width) are those of the cameras, resized. Errors as `size`."""
        sides = list(zip(self.size, size, strict=True))
        scale = max(theirs / ours for ours, theirs in sides)
        return self.fractions or all(abs(ours * scale - theirs) < SHAPE + scale for ours, theirs in sides)

    def at(self, size: Size) -> "PosedImages":
        """The same cameras for images of a size (height, width): resized ones, or those that were cropped.

        Raises:
            InputError: they have another shape, or several sizes in the file.
        """
        if size == self.size and not self.fractions:
            return self
        (h, w), (height, width) = self.size, size
        if self.shaped_like(size):
            return replace(self, lenses=tuple(lens.at(size) for lens in self.lenses), fractions=False)
        if not self.cropped:
            turned = "; the images were turned after the cameras were found" if (h, w) == (width, height) else ""
            raise InputError(
                f"its cameras are for images of {w} x {h}, and the images are {width} x {height}{turned}; "
                "give the images that the cameras were found with"
            )
        scale, left, top = cover_crop(size, self.size)
        shift = np.array([0, 0, left, top])
        lenses = [
            replace(lens, size=size, intrinsics=tuple(((lens.intrinsics + shift) / scale).tolist()))
            for lens in self.lenses
        ]
        return replace(self, lenses=tuple(lenses))

    def cameras(self) -> Cameras:
        """The cameras in the first one's frame. A lens's distortion is left out, with a warning.

        Raises:
            InputError: the sizes differ, or a lens is so unlike a pinhole that its angle of view would be another.
        """
        unlike = next((lens for lens in self.lenses if lens.kind != "perspective"), None)
        if unlike is not None:
            raise InputError(
                f"the camera model {unlike.name} has no pinhole's angle of view; give the cameras of undistorted images"
            )
        if self.lens_of_each:
            warnings.warn("the cameras are those of undistorted images: the lens distortion is left out", stacklevel=3)
        return make_cameras(self.T_world_camera, self.intrinsics, self.size)


def _called(names: Sequence[str], number: int) -> str:
    return f" ({names[number]})" if names else ""


def _wrong(lens: Lens, fractions: bool) -> str | None:
    """What is wrong with a lens; None where nothing is."""
    height, width = lens.size
    if not (1 <= height <= LONGEST_SIDE and 1 <= width <= LONGEST_SIDE):
        return f"has an image size of {width} x {height}; sides are 1 to {LONGEST_SIDE} pixels"
    fx, fy, cx, cy = lens.intrinsics
    if not np.isfinite([*lens.intrinsics, *(value for _, value in lens.coefficients)]).all():
        return "has a lens with values that are not finite"
    if min(fx, fy) <= 0:
        return "has a focal length that is not positive"
    unit = "fractions of the image's size" if fractions else f"pixels of an image of {width} x {height}"
    fov = [2 * math.atan(side / 2 / focal) for side, focal in ((width, fx), (height, fy))]
    if not all(NARROWEST < angle < WIDEST for angle in fov):
        return f"has focal lengths of {fx:g} and {fy:g}, which are no {unit}; give them in this unit"
    if max(abs(cx / width - 0.5), abs(cy / height - 0.5)) > FARTHEST or (cx <= 1 and cy <= 1 and fx > 10):
        return f"has its principal point at {cx:g}, {cy:g}, in no {unit}; give it in this unit"
    return None
