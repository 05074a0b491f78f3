"""Random cameras for property tests."""

import torch
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import matrix_from_quaternion

seeds = st.integers(0, 2**31 - 1)


def random_poses(seed: int, count: int) -> Tensor:
    """Camera-to-world poses [count, 4, 4], float64, any rotation, centres within a few units."""
    g = torch.Generator().manual_seed(seed)
    T = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    T[:, :3, :3] = matrix_from_quaternion(torch.randn(count, 4, generator=g, dtype=torch.float64))
    T[:, :3, 3] = 2 * torch.randn(count, 3, generator=g, dtype=torch.float64)
    return T


def random_cameras(seed: int, count: int = 5, height: int = 90, width: int = 120) -> Cameras:
    """Cameras with different lenses and off-centre principal points."""
    g = torch.Generator().manual_seed(seed + 1)
    K = torch.eye(3).repeat(count, 1, 1)
    K[:, 0, 0], K[:, 1, 1] = 60 + 100 * torch.rand(2, count, generator=g)
    K[:, 0, 2] = width / 2 + 5 * torch.randn(count, generator=g)
    K[:, 1, 2] = height / 2 + 5 * torch.randn(count, generator=g)
    return Cameras(random_poses(seed, count).float(), K, height, width)


def colmap_pose(T_world_camera: Tensor) -> tuple[Tensor, Tensor]:
    """COLMAP's world-to-camera quaternions [..., 4], w first, and translations [..., 3]."""
    T = torch.linalg.inv(T_world_camera)
    xyzw = torch.from_numpy(Rotation.from_matrix(T[..., :3, :3].numpy()).as_quat())
    return xyzw.roll(1, -1), T[..., :3, 3]


def pytorch3d_pose(T_world_camera: Tensor) -> tuple[Tensor, Tensor]:
    """PyTorch3D's R [..., 3, 3] and T [..., 3] with x_view = x_world R + T and axes x left, y up, z forward."""
    T = torch.linalg.inv(T_world_camera)
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=T.dtype)
    return (flip[:, None] * T[..., :3, :3]).mT, flip * T[..., :3, 3]
