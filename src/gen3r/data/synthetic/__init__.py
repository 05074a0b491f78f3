"""The procedural worlds, small and large: seeded places with exact depth, cameras and captions."""

from gen3r.data.synthetic.clip import WorldName, render_clip
from gen3r.data.synthetic.large import LargeOptions

__all__ = ["LargeOptions", "WorldName", "render_clip"]
