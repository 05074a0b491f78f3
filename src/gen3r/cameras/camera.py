"""The frozen value that every part of Gen3R passes cameras around as."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gen3r.errors import InputError

ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Cameras:
    """The pinhole cameras of a clip.

    T_world_camera: float32 [F, 4, 4], camera-to-world, OpenCV axes (x right, y down, z forward).
    K_px: float32 [F, 3, 3], intrinsics in pixels, pixel centres at +0.5. height, width: picture size in pixels.

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
            raise InputError(f"cameras need a picture size of at least 1 x 1, not {self.height} x {self.width}")
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

    @property
    def T_camera_world(self) -> Tensor:
        """World-to-camera poses [F, 4, 4]."""
        return torch.linalg.inv(self.T_world_camera)

    @property
    def centres(self) -> Tensor:
        """Camera centres in the world [F, 3]."""
        return self.T_world_camera[:, :3, 3]

    @property
    def fov_y(self) -> Tensor:
        """Vertical fields of view [F] in radians."""
        return 2 * torch.atan(self.height / 2 / self.K_px[:, 1, 1])

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return replace(self, T_world_camera=self.T_world_camera.to(device), K_px=self.K_px.to(device))

    def relative_to_first(self) -> "Cameras":
        """The same cameras in the first one's frame, which becomes the identity exactly."""
        T = torch.linalg.inv(self.T_world_camera[:1].double()) @ self.T_world_camera.double()
        T[0] = torch.eye(4, dtype=torch.float64, device=T.device)
        return replace(self, T_world_camera=T.float())

    def scaled(self, factor: float | Tensor) -> "Cameras":
        """The same cameras with the world's unit changed: translations times `factor`."""
        T = self.T_world_camera.clone()
        T[:, :3, 3] *= factor
        return replace(self, T_world_camera=T)

    def resize_and_crop(self, height: int, width: int) -> "Cameras":
        """The intrinsics after resizing the picture to cover `height` x `width` and cropping its centre.

        The crop starts at a whole pixel, as it does in the published preparation of pictures.
        """
        scale = max(height / self.height, width / self.width)
        K = self.K_px.clone()
        K[:, :2] *= scale
        K[:, 0, 2] -= (int(self.width * scale + 1e-6) - width) // 2
        K[:, 1, 2] -= (int(self.height * scale + 1e-6) - height) // 2
        return replace(self, K_px=K, height=height, width=width)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back without loss."""
        frames = [
            {"T_world_camera": T.tolist(), "K_px": K.tolist()}
            for T, K in zip(self.T_world_camera.double(), self.K_px.double(), strict=True)
        ]
        return {
            "format": "gen3r-cameras",
            "version": 1,
            "convention": "camera-to-world, OpenCV axes, intrinsics in pixels",
            "height": self.height,
            "width": self.width,
            "frames": frames,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Cameras":
        """The inverse of `to_json`."""
        if data.get("format") != "gen3r-cameras" or not isinstance(data.get("frames"), list) or not data["frames"]:
            raise InputError('not a Gen3R camera file: "format" must be "gen3r-cameras" and "frames" a list')
        try:
            T = torch.tensor([f["T_world_camera"] for f in data["frames"]], dtype=torch.float64)
            K = torch.tensor([f["K_px"] for f in data["frames"]], dtype=torch.float64)
            height, width = int(data["height"]), int(data["width"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the camera file lacks or misshapes an entry: {error}") from error
        return cls(T.float(), K.float(), height, width)
