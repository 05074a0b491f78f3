"""The procedural worlds, small and large: seeded places with exact depth, cameras and captions."""

from gen3r.errors import InputError

try:
    from gen3r.data.synthetic.clip import EndlessClips, WorldName, render_clip
    from gen3r.data.synthetic.large import LargeOptions
except ModuleNotFoundError as error:
    raise InputError(f"the procedural worlds need an extra ({error}): pip install 'gen3r[world]'") from error

__all__ = ["EndlessClips", "LargeOptions", "WorldName", "render_clip"]
