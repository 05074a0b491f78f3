"""Cameras: the frozen value, frames and formats, paths, and Pluecker rays."""

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import read_cameras, write_cameras
from gen3r.cameras.paths import TRAJECTORIES, resample, trajectory

__all__ = ["TRAJECTORIES", "Cameras", "read_cameras", "resample", "trajectory", "write_cameras"]
