"""Lens distortion, undone."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Lens:
    """A Brown-Conrady lens: intrinsics fx, fy, cx, cy in pixels, and k1, k2, p1, p2, k3 (OpenCV's order)."""

    intrinsics: tuple[float, ...]
    distortion: tuple[float, ...]

    def distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The distorted position of a point at (x, y) = (X / Z, Y / Z), in the same units."""
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    def undistort(self, frame: torch.Tensor) -> torch.Tensor:
        """The frame uint8 [H, W, 3] of a pinhole with the same intrinsics; beyond its edge the border repeats."""
        if not any(self.distortion):
            return frame
        fx, fy, cx, cy = self.intrinsics
        height, width = frame.shape[:2]
        row, column = np.mgrid[0:height, 0:width] + 0.5
        x, y = self.distort((column - cx) / fx, (row - cy) / fy)
        grid = np.stack([2 * (x * fx + cx) / width - 1, 2 * (y * fy + cy) / height - 1], -1)
        straight = torch.nn.functional.grid_sample(
            frame.permute(2, 0, 1)[None].float(), torch.from_numpy(grid)[None].float(),
            padding_mode="border", align_corners=False,
        )  # fmt: skip
        return straight[0].permute(1, 2, 0).round().to(torch.uint8)
