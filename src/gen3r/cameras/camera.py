"""The frozen value in which all of Gen3R passes cameras."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.conventions import intrinsic_matrices, relative_to_first
from gen3r.errors import InputError
from gen3r.media.crop import cover_crop

ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Cameras:
    """The pinhole cameras of a clip.

    T_world_camera: float32 [F, 4, 4], camera-to-world, OpenCV axes (x right, y down, z forward).
    K_px: float32 [F, 3, 3], intrinsics in pixels, pixel centres at +0.5. height, width: image size in pixels.

    Raises:
        InputError: a shape is wrong, a value is not finite, a rotation is not one, or a focal length not positive.
    """

    T_world_camera: Tensor
    K_px: Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        for name in ("T_world_camera", "K_px"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name)).float())
        T, K = self.T_world_camera, self.K_px
        if T.ndim != 3 or T.shape[1:] != (4, 4) or K.shape != (len(T), 3, 3) or not len(T):
            raise InputError(
                f"cameras need poses [F, 4, 4] and intrinsics [F, 3, 3], not {[*T.shape]} and {[*K.shape]}"
            )
        if self.height < 1 or self.width < 1:
            raise InputError(f"cameras need an image size of at least 1 x 1, not {self.height} x {self.width}")
        self._reject(~(T.isfinite().all((1, 2)) & K.isfinite().all((1, 2))), "holds values that are not finite")
        R = T[:, :3, :3].cpu().double()  # which autocast leaves alone
        skew = (R @ R.mT - torch.eye(3)).abs().amax((1, 2))
        self._reject((skew > ROTATION_TOLERANCE) | (torch.linalg.det(R) < 0), "has no proper rotation in its pose")
        last_row = torch.tensor([0.0, 0.0, 0.0, 1.0], device=T.device)
        self._reject((T[:, 3] - last_row).abs().amax(1) > 1e-6, "has a pose whose last row is not 0 0 0 1")
        self._reject((K[:, 0, 0] <= 0) | (K[:, 1, 1] <= 0), "has a focal length that is not positive")

    @staticmethod
    def _reject(bad: Tensor, what: str) -> None:
        if bool(bad.any()):
            raise InputError(f"camera {int(bad.nonzero()[0])} {what}; mend or leave out that camera")

    def __len__(self) -> int:
        return len(self.T_world_camera)

    def __getitem__(self, index: slice) -> "Cameras":
        return replace(self, T_world_camera=self.T_world_camera[index], K_px=self.K_px[index])

    @classmethod
    def from_fov(cls, T_world_camera: Tensor, fov_y: float, height: int, width: int) -> "Cameras":
        """Cameras with square pixels, a centred principal point and one vertical field of view [rad]."""
        focal = height / 2 / math.tan(fov_y / 2)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return cls(T_world_camera, K.expand(len(T_world_camera), 3, 3).clone(), height, width)

    def with_fov(self, fov_x: float) -> "Cameras":
        """The same cameras with square pixels and one horizontal field of view [degrees]."""
        K = self.K_px.clone()
        K[:, 0, 0] = K[:, 1, 1] = self.width / 2 / math.tan(math.radians(fov_x) / 2)
        return replace(self, K_px=K)

    @property
    def centres(self) -> Tensor:
        """Camera centres in the world [F, 3]."""
        return self.T_world_camera[:, :3, 3]

    @property
    def fov_y(self) -> Tensor:
        """Vertical fields of view [F] in radians."""
        return 2 * torch.atan(self.height / 2 / self.K_px[:, 1, 1])

    @property
    def one_lens(self) -> bool:
        """Whether all cameras have the same intrinsics."""
        return bool((self.K_px == self.K_px[:1]).all())

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return replace(self, T_world_camera=self.T_world_camera.to(device), K_px=self.K_px.to(device))

    def relative_to_first(self) -> "Cameras":
        """The same cameras in the first one's frame, which becomes the identity exactly."""
        return replace(self, T_world_camera=relative_to_first(self.T_world_camera.double()).float())

    def scaled(self, factor: float | Tensor) -> "Cameras":
        """The same cameras with the world's unit changed: translations times `factor`."""
        T = self.T_world_camera.clone()
        T[:, :3, 3] *= factor
        return replace(self, T_world_camera=T)

    def resize(self, height: int, width: int) -> "Cameras":
        """The intrinsics after resizing the whole image to `height` x `width`, each side by its own factor."""
        factors = self.K_px.new_tensor([[width / self.width], [height / self.height], [1.0]])
        return replace(self, K_px=self.K_px * factors, height=height, width=width)

    def resize_and_crop(self, height: int, width: int) -> "Cameras":
        """The intrinsics after resizing the image to cover `height` x `width` and cropping its centre.

        The crop starts at a whole pixel, as it does in the published preparation of images.
        """
        scale, left, top = cover_crop((self.height, self.width), (height, width))
        K = self.K_px.clone()
        K[:, :2] *= scale
        K[:, 0, 2] -= left
        K[:, 1, 2] -= top
        return replace(self, K_px=K, height=height, width=width)


def check_poses(T_world_camera: np.ndarray, names: Sequence[str] = ()) -> None:
    """Refuses float64 poses [F, 4, 4] that are not rigid.

    Raises:
        InputError: one is not; it says which frame, by number and (with `names`) by name, and what is wrong.
    """
    last_row = np.array([0.0, 0.0, 0.0, 1.0])
    finite = np.isfinite(T_world_camera.reshape(len(T_world_camera), -1)).all(axis=1)
    T = np.nan_to_num(T_world_camera, nan=0.0, posinf=0.0, neginf=0.0).clip(-1e30, 1e30)
    R, no_last_row = T[:, :3, :3], (np.abs(T[:, 3] - last_row) > 1e-6).any(1)
    tests = {
        "is not finite": ~finite,
        "is transposed: its last column is 0 0 0 1": no_last_row & (T[:, :, 3] == last_row).all(1),
        "has a last row that is not 0 0 0 1": no_last_row,
        "has no rotation: its axes are not of length 1 and at right angles": (
            np.abs(R @ R.swapaxes(1, 2) - np.eye(3)).max((1, 2)) > ROTATION_TOLERANCE
        ),
        "mirrors the world: its axes are left-handed": np.linalg.det(R) <= 0,
    }
    for what, bad in tests.items():
        if bad.any():
            number = int(np.argmax(bad))
            name = f" ({names[number]})" if names else ""
            raise InputError(f"the pose of frame {number}{name} {what}; mend or leave out that frame")


def inverted_poses(T: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
    """The inverses [F, 4, 4] of rigid poses, float64. Errors as `check_poses`."""
    check_poses(T, names)
    return np.linalg.inv(T)


def make_cameras(T_world_camera: np.ndarray, K_px: np.ndarray, size: tuple[int, int]) -> Cameras:
    """Cameras from float64 poses [F, 4, 4] and intrinsics [4] or [F, 4] (fx, fy, cx, cy), for (height, width).

    Poses become relative to the first camera before they are rounded to float32: worlds measured in kilometres from
    their origin lose nothing. Errors as `check_poses` and `Cameras`.
    """
    check_poses(T_world_camera)
    poses = relative_to_first(torch.from_numpy(T_world_camera))
    poses[:, 3] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    K = intrinsic_matrices(np.broadcast_to(K_px, (len(poses), 4)))
    return Cameras(poses.float(), K.float(), *size)
