"""The formats of `gen3r export`: the one table behind its help, its errors and the manual."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from gen3r.errors import InputError


@dataclass(frozen=True)
class Format:
    """path: of the file or folder. what: for people. axes: of its world, or `--axes`. writer: `module.function` of
    gen3r.export, which takes a `Selection` and a path. extra, package: what it needs beyond Gen3R itself."""

    path: str
    what: str
    axes: str
    writer: str
    extra: str = ""
    package: str = ""


_CV, _GL, _ANY = "opencv", "opengl", "--axes"
FORMATS: dict[str, Format] = {
    "ply": Format("points.ply", "points with colours, normals and confidence", _ANY, "ply.write_points"),
    "glb": Format("mesh.glb", "textured mesh and moving camera: Blender, Unity, web", _GL, "gltf.write_mesh"),
    "glb-points": Format("points.glb", "points and moving camera: Blender, Unity, web", _GL, "gltf.write_points"),
    "html": Format("scene.html", "a page that any browser opens, offline", "-", "page.write"),
    "colmap": Format("colmap", "images and binary COLMAP model: splat training", _CV, "colmap.write_binary"),
    "colmap-text": Format("colmap-text", "the same with COLMAP's text files", _CV, "colmap.write_text"),
    "nerfstudio": Format("nerfstudio", "transforms.json, images and points", "z up", "nerfstudio.write"),
    "gaussians": Format("gaussians.ply", "3-D Gaussians, one a point: splat viewers", _ANY, "gaussians.write"),
    "spz": Format("gaussians.spz", "the same, a tenth the size", _GL, "gaussians.write_spz", "spz", "gsply"),
    "depth-png": Format("depth", "depth as 16-bit PNG, with its scale", _CV, "images.write_depth_png"),
    "depth-npz": Format("depth.npz", "depth, mask and cameras for NumPy", _CV, "images.write_depth_npz"),
    "depth-exr": Format("depth-exr", "depth as OpenEXR: compositing", _CV, "images.write_depth_exr", "exr", "OpenEXR"),
    "frames": Format("frames", "frames as PNG", "-", "images.write_frames"),
    "tum": Format("trajectory.tum", "camera path: TUM, evo", _CV, "trajectories.write_tum"),
    "kitti": Format("trajectory.kitti", "camera path: KITTI, evo", _CV, "trajectories.write_kitti"),
    "rgbd": Format("rgbd", "RGB-D folder: TUM lists, ROS camera_info", _CV, "rgbd.write"),
    "rerun": Format("scene.rrd", "all of it over time: the Rerun viewer", _CV, "recording.write", "rerun", "rerun"),
    "usd": Format("scene.usdc", "points and moving camera: OpenUSD", _GL, "usd.write", "usd", "pxr"),
}  # fmt: skip
INDENT = max(len(name) for name in FORMATS) + 2


def format_lines() -> str:
    """The formats for a help text, a line each."""
    lines = [
        f"  {name:<{INDENT}}{f.what}" + (f"; needs gen3r[{f.extra}]" if f.extra else "") for name, f in FORMATS.items()
    ]
    return "\n".join(lines)


def check_formats(names: Sequence[str]) -> None:
    """Refuses formats that are unknown, or whose library is not installed.

    Raises:
        InputError: says which, and what to do.
    """
    for name in names:
        if name not in FORMATS:
            near = difflib.get_close_matches(name, FORMATS, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InputError(f"no export format {name}{hint}; the formats are {', '.join(FORMATS)}")
        form = FORMATS[name]
        if form.package and find_spec(form.package) is None:
            raise InputError(f"the format {name} needs an extra: pip install 'gen3r[{form.extra}]'")
