"""Resampling of camera paths on SE(3)."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from gen3r.cameras.camera import Cameras
from gen3r.errors import InputError


def resample(cameras: Cameras, frames: int) -> Cameras:
    """`frames` cameras spread evenly over the path: translations linearly, rotations by the shortest arc, focal
    lengths by their logarithm. The first and the last stay exactly; a single camera is repeated."""
    if frames < 1:
        raise InputError(f"a camera path needs at least 1 frame, not {frames}")
    count = len(cameras)
    if frames == count:
        return cameras
    if count == 1:
        T, K = cameras.T_world_camera.repeat(frames, 1, 1), cameras.K_px.repeat(frames, 1, 1)
        return Cameras(T, K, cameras.height, cameras.width)
    known, wanted = np.arange(count), np.linspace(0, count - 1, frames)
    source = cameras.T_world_camera.double().cpu().numpy()
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, :3, :3] = Slerp(known, Rotation.from_matrix(source[:, :3, :3]))(wanted).as_matrix()
    T[:, :3, 3] = np.stack([np.interp(wanted, known, source[:, i, 3]) for i in range(3)], -1)
    K = np.tile(np.eye(3), (frames, 1, 1))
    intrinsics = cameras.K_px.double().cpu().numpy()
    for i in (0, 1):
        K[:, i, i] = np.exp(np.interp(wanted, known, np.log(intrinsics[:, i, i])))
        K[:, i, 2] = np.interp(wanted, known, intrinsics[:, i, 2])
    for ours, theirs in ((T, source), (K, intrinsics)):
        ours[0] = theirs[0]
        ours[-1] = theirs[-1]
    return Cameras(torch.from_numpy(T).float(), torch.from_numpy(K).float(), cameras.height, cameras.width)
