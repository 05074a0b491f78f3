"""Points from depth, point clouds, splatting, the plane sweep, and the normalised scene."""
