"""VGGT (CVPR 2025): cameras, depth and points of a set of frames in one pass."""

from gen3r.models.vggt.model import VGGT, GeometryPrediction

__all__ = ["VGGT", "GeometryPrediction"]
