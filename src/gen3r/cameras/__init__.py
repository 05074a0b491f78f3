"""Cameras: the frozen value, frames and formats, paths, and Pluecker rays."""

from gen3r.cameras.camera import Cameras

__all__ = ["Cameras"]
