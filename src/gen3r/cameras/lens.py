"""Lenses: what each model of them does to a point, and pictures as a pinhole would have taken them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.crop import Size

Bent = tuple[np.ndarray, np.ndarray]  # x and y on the plane at z = 1, as the lens bends them


def bend(
    x: np.ndarray, y: np.ndarray, k1: float = 0, k2: float = 0, k3: float = 0, k4: float = 0, p1: float = 0,
    p2: float = 0, d1: float = 0, d2: float = 0, d3: float = 0, sx1: float = 0, sy1: float = 0,
) -> Bent:  # fmt: skip
    """Brown-Conrady: radial by the polynomial of k over that of d, tangential by p, thin prism by s."""
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))) / (1 + r2 * (d1 + r2 * (d2 + r2 * d3)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + sx1 * r2,
        y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y) + sy1 * r2,
    )


def equidistant(x: np.ndarray, y: np.ndarray) -> Bent:
    """A fisheye whose radius is the angle from the axis [rad]."""
    r = np.hypot(x, y)
    scale = np.arctan(r) / np.maximum(r, 1e-12)
    return np.where(r > 1e-12, x * scale, x), np.where(r > 1e-12, y * scale, y)


def bend_fisheye(x: np.ndarray, y: np.ndarray, **coefficients: float) -> Bent:
    """`bend` of an equidistant fisheye (Kannala and Brandt)."""
    return bend(*equidistant(x, y), **coefficients)


def bend_fisheye624(x: np.ndarray, y: np.ndarray, **c: float) -> Bent:
    """Project Aria's: six radial coefficients of an equidistant fisheye, then two tangential, four of thin prisms."""
    u, v = equidistant(x, y)
    r2 = u * u + v * v
    radial = 1 + r2 * (c["k0"] + r2 * (c["k1"] + r2 * (c["k2"] + r2 * (c["k3"] + r2 * (c["k4"] + r2 * c["k5"])))))
    u, v = u * radial, v * radial
    r2, along = u * u + v * v, 2 * (c["p0"] * u + c["p1"] * v)
    return (
        u + u * along + r2 * (c["p0"] + c["s0"] + r2 * c["s1"]),
        v + v * along + r2 * (c["p1"] + c["s2"] + r2 * c["s3"]),
    )


def bend_by_angle(x: np.ndarray, y: np.ndarray, omega: float) -> Bent:
    """The FOV model (Devernay and Faugeras), omega [rad]."""
    r = np.hypot(x, y)
    small = 2 * np.tan(omega / 2) / omega if omega else 1.0
    scale = np.where(r > 1e-9, np.arctan(r * small * omega) / np.maximum(r * omega, 1e-12), small) if omega else 1.0
    return x * scale, y * scale


def bend_by_division(x: np.ndarray, y: np.ndarray, k: float) -> Bent:
    """Fitzgibbon's division model: straight = bent / (1 + k bent^2). What no bent point has lies out of the image."""
    root = 1 - 4 * k * (x * x + y * y)
    scale = np.where(root >= 0, 2 / (1 + np.sqrt(np.maximum(root, 0))), 1e6)
    return x * scale, y * scale


def bend_by_sphere(x: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> Bent:
    """The enhanced unified camera model (Khomutenko et al.)."""
    scale = alpha * np.sqrt(beta * (x * x + y * y) + 1) + 1 - alpha
    return x / scale, y / scale


KINDS: dict[str, Callable[..., Bent]] = {
    "perspective": bend, "fisheye": bend_fisheye, "fisheye624": bend_fisheye624, "fov": bend_by_angle,
    "division": bend_by_division, "eucm": bend_by_sphere,
}  # fmt: skip


@dataclass(frozen=True)
class Lens:
    """A lens in front of an image.

    size: (height, width). intrinsics: fx, fy, cx, cy in pixels of this size, pixel centres at +0.5. coefficients: names
    and values of the bend. kind: a key of `KINDS`. name: what the file calls the model.
    """

    size: Size
    intrinsics: tuple[float, float, float, float]
    coefficients: tuple[tuple[str, float], ...] = ()
    kind: str = "perspective"
    name: str = "PINHOLE"

    @property
    def straight(self) -> bool:
        """Whether it is a pinhole."""
        return self.kind == "perspective" and not any(value for _, value in self.coefficients)

    def at(self, size: Size) -> "Lens":
        """The same lens for the image resized to another (height, width), each side by its own factor."""
        sy, sx = size[0] / self.size[0], size[1] / self.size[1]
        fx, fy, cx, cy = self.intrinsics
        return replace(self, size=size, intrinsics=(fx * sx, fy * sy, cx * sx, cy * sy))

    def distort(self, x: np.ndarray, y: np.ndarray) -> Bent:
        """Where the lens puts points at (x, y) = (X / Z, Y / Z), in the same units."""
        return KINDS[self.kind](x, y, **dict(self.coefficients))

    def undistort(self, image: Tensor, mode: str = "bilinear") -> Tensor:
        """An image [H, W, C] as a pinhole with the same intrinsics would have taken it.

        mode: "bilinear", beyond whose edge the border repeats; or "nearest", for what must not be mixed, with 0 there.

        Raises:
            InputError: the image has another size than the lens.
        """
        if self.straight:
            return image
        if tuple(image.shape[:2]) != self.size:
            (h, w), (height, width) = image.shape[:2], self.size
            raise InputError(f"an image is {h} x {w}, its camera's {height} x {width}; leave the image out")
        straight = torch.nn.functional.grid_sample(
            image.permute(2, 0, 1)[None].float(),
            _grid(self),
            mode,
            padding_mode="border" if mode == "bilinear" else "zeros",
            align_corners=False,
        )[0].permute(1, 2, 0)
        return straight if image.is_floating_point() else straight.round().to(image.dtype)


@lru_cache(maxsize=2)
def _grid(lens: Lens) -> Tensor:
    """Where the pixels of the straight image lie in the bent one [1, H, W, 2], as `grid_sample` takes it."""
    height, width = lens.size
    fx, fy, cx, cy = lens.intrinsics
    row, column = np.mgrid[0:height, 0:width] + 0.5
    with np.errstate(all="ignore"):
        x, y = lens.distort((column - cx) / fx, (row - cy) / fy)
        grid = np.stack([2 * (x * fx + cx) / width - 1, 2 * (y * fy + cy) / height - 1], -1)
    return torch.from_numpy(np.nan_to_num(grid, nan=2.0).clip(-4, 4))[None].float()
