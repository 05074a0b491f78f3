"""The procedural world: seeded rooms and plazas with exact depth, cameras and captions."""

from gen3r.data.synthetic.render import render_clip

__all__ = ["render_clip"]
