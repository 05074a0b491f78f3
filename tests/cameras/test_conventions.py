"""Every convention: round trips, and one absolute fact each."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given

from gen3r.cameras import conventions as c
from tests.poses import colmap_pose, pytorch3d_pose, random_cameras, random_poses, seeds


@given(seeds)
def test_quaternions(seed: int) -> None:
    R = random_poses(seed, 20)[:, :3, :3]
    q = c.quaternion_from_matrix(R)
    torch.testing.assert_close(q.norm(dim=-1), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(c.matrix_from_quaternion(q), R)
    torch.testing.assert_close(c.matrix_from_quaternion(-3.5 * q), R)


def test_half_turns_and_zero_quaternion() -> None:
    for axis in range(3):
        R = -torch.eye(3, dtype=torch.float64)
        R[axis, axis] = 1
        torch.testing.assert_close(c.matrix_from_quaternion(c.quaternion_from_matrix(R)), R)
    torch.testing.assert_close(c.matrix_from_quaternion(torch.zeros(4)), torch.eye(3))


@given(seeds)
def test_round_trips(seed: int) -> None:
    T = random_poses(seed, 6)
    torch.testing.assert_close(c.opengl_to_opencv(c.opengl_to_opencv(T)), T)
    torch.testing.assert_close(c.colmap_to_opencv(*colmap_pose(T)), T)
    torch.testing.assert_close(c.pytorch3d_to_opencv(*pytorch3d_pose(T)), T)


@given(seeds)
def test_relative_to_first(seed: int) -> None:
    """In batches too; what the cameras see of each other stays."""
    T = random_poses(seed, 6).view(2, 3, 4, 4)
    relative = c.relative_to_first(T)
    assert torch.equal(relative[:, 0], torch.eye(4, dtype=T.dtype).expand(2, 4, 4))
    between, before = (torch.linalg.inv(x[:, 1]) @ x[:, 2] for x in (relative, T))
    torch.testing.assert_close(between, before)


def test_intrinsic_matrices() -> None:
    K = c.intrinsic_matrices(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]))
    assert K.tolist() == [[[1, 0, 3], [0, 2, 4], [0, 0, 1]], [[5, 0, 7], [0, 6, 8], [0, 0, 1]]]


@given(seeds)
def test_pose_encoding_round_trip(seed: int) -> None:
    cameras = random_cameras(seed)
    K = cameras.K_px.clone()
    K[:, 0, 2], K[:, 1, 2] = 60, 45
    encoded = c.encode_pose(cameras.T_world_camera, K, 90, 120)
    T, again = c.decode_pose(encoded, 90, 120)
    torch.testing.assert_close(T, cameras.T_world_camera, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again, K, atol=1e-3, rtol=1e-4)


def test_decode_guards_degenerate_encodings() -> None:
    encoded = torch.tensor([[1.0, 2, 3, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 5, 9, 9]])
    T, K = c.decode_pose(encoded, 100, 100)
    assert T.isfinite().all()
    assert (K[:, 0, 0] > 0).all()
    assert (K[:, 0, 0] <= 50 / math.tan(math.radians(0.5)) + 1).all()
    torch.testing.assert_close(T[0, :3, 3], torch.tensor([-1.0, -2, -3]))


POINT = torch.tensor([0.2, 0.3, 2.0, 1.0], dtype=torch.float64)  # right, below and ahead of an OpenCV camera


@given(seeds)
def test_the_point_ahead_in_each_convention(seed: int) -> None:
    T = random_poses(seed, 1)[0]
    world = T @ POINT
    opengl = torch.linalg.inv(c.opengl_to_opencv(T)) @ world
    torch.testing.assert_close(opengl, torch.tensor([0.2, -0.3, -2.0, 1.0], dtype=torch.float64))
    q, t = colmap_pose(T)
    colmap = c.matrix_from_quaternion(q.roll(-1, -1)) @ world[:3] + t
    torch.testing.assert_close(colmap, POINT[:3])
    R, t = pytorch3d_pose(T)
    torch.testing.assert_close(world[:3] @ R + t, torch.tensor([-0.2, -0.3, 2.0], dtype=torch.float64))


def test_ned_axes() -> None:
    ned = torch.eye(4, dtype=torch.float64)
    ned[:3, 3] = torch.tensor([3.0, 1.0, 2.0])  # ahead, right, down
    opencv = torch.eye(4, dtype=torch.float64)
    opencv[:3, 3] = torch.tensor([1.0, 2.0, 3.0])  # right, down, ahead
    torch.testing.assert_close(c.ned_to_opencv(ned), opencv)


@pytest.mark.parametrize("fov", [0.3, 1.0, 2.0])
def test_encoding_holds_fields_of_view(fov: float) -> None:
    K = torch.tensor([[50 / math.tan(fov / 2), 0, 50], [0, 40 / math.tan(fov / 4), 40], [0, 0, 1]])
    encoded = c.encode_pose(torch.eye(4), K, 80, 100)
    torch.testing.assert_close(encoded[7:], torch.tensor([fov / 2, fov]))
