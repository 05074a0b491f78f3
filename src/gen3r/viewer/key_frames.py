"""A camera path drawn in the scene: key frames set by flying, moved by their gizmos."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import matrix_from_quaternion
from gen3r.cameras.paths import resample
from gen3r.errors import InputError
from gen3r.export.nodes import FRUSTUM, add_frustum, add_path, camera_colours, pose

if TYPE_CHECKING:
    import viser

GIZMO = 1.6  # of a frustum's size


@dataclass(frozen=True)
class Lens:
    """The lens and image size that all cameras of a path have. K_px: [3, 3]."""

    K_px: Tensor
    height: int
    width: int


class KeyFrames:
    """Key frames as nodes under `name`, and the path through them. Poses are in the world of `name`'s parent.

    unit: a typical distance in that world, for the size of the frusta. on_change: called after each change, from a
    thread of the server.
    """

    def __init__(
        self,
        server: "viser.ViserServer",
        name: str,
        lens: Lens,
        unit: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.server, self.name, self.lens, self.unit, self.on_change = server, name, lens, unit, on_change
        self._poses: list[Tensor] = []
        self._root = server.scene.add_frame(name, show_axes=False)

    def __len__(self) -> int:
        return len(self._poses)

    def add(self, T_world_camera: Tensor) -> None:
        """Adds a key frame [4, 4] at the end."""
        self.set([*self._poses, T_world_camera])

    def remove_last(self) -> None:
        """Removes the key frame at the end, if any."""
        self.set(self._poses[:-1])

    def set(self, poses: list[Tensor]) -> None:
        """Replaces all key frames, each [4, 4]."""
        self._poses = list(poses)
        self._draw()
        self.on_change()

    def keys(self) -> Cameras:
        """The key frames themselves.

        Raises:
            InputError: there is none.
        """
        if not self._poses:
            raise InputError("the path has no key frame; fly to where it starts and add one")
        T = torch.stack(self._poses).float()
        return Cameras(T, self.lens.K_px.repeat(len(T), 1, 1), self.lens.height, self.lens.width)

    def cameras(self, frames: int) -> Cameras:
        """`frames` cameras spread evenly over the path, the first and the last at its ends. Errors as `keys`."""
        return resample(self.keys(), frames)

    def remove(self) -> None:
        """Removes its nodes."""
        self._root.remove()

    def _draw(self) -> None:
        with self.server.atomic():
            self._root.remove()
            self._root = self.server.scene.add_frame(self.name, show_axes=False)
            if not self._poses:
                return
            keys, api, size = self.keys(), self.server.scene, FRUSTUM * self.unit
            colours = camera_colours(len(keys))
            for i in range(len(keys)):
                wxyz, position = pose(keys, i)
                gizmo = api.add_transform_controls(
                    f"{self.name}/{i + 1}", scale=GIZMO * size, wxyz=wxyz, position=position, line_width=2.0
                )
                gizmo.on_update(lambda event, i=i: self._moved(i, event.target) if event.phase == "end" else None)
                frustum = add_frustum(api, f"{self.name}/{i + 1}/camera", keys, i, size, colours[i])
                frustum.wxyz, frustum.position = (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
            add_path(api, f"{self.name}/path", keys)

    def _moved(self, number: int, gizmo: "viser.TransformControlsHandle") -> None:
        poses = list(self._poses)
        poses[number] = pose_matrix(gizmo.wxyz, gizmo.position)
        self.set(poses)


def pose_matrix(wxyz: np.ndarray, position: np.ndarray) -> Tensor:
    """The pose [4, 4], camera to world with OpenCV axes, of viser's orientation and position."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = matrix_from_quaternion(torch.from_numpy(np.asarray(wxyz, float)).roll(-1))
    T[:3, 3] = torch.from_numpy(np.asarray(position, float))
    return T.float()
