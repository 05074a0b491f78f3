"""Cameras: the frozen value, conventions, file formats, paths, and Pluecker rays."""
