"""The scene: the result of a generation or a reconstruction."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import world_axes
from gen3r.errors import InputError
from gen3r.files import write_tensors
from gen3r.geometry.clouds import PointCloud
from gen3r.geometry.joining import fit_similarity
from gen3r.geometry.novel_views import render_views
from gen3r.geometry.points import unproject, valid_depth_mask

if TYPE_CHECKING:
    import trimesh

    from gen3r.export.gaussians import Gaussians
    from gen3r.export.options import ExportOptions
    from gen3r.export.selection import Selection

SCENE_FILE = "scene.safetensors"  # in the folder of a saved scene
_FORMAT = "gen3r-scene"
_ARRAYS = ("frames", "depth", "confidence")
_OPTIONAL = ("points", "mask", "source")  # left out of a file where they follow from the rest
_CAMERAS = ("T_world_camera", "K_px")


@dataclass(frozen=True, repr=False)
class Scene:
    """One consistent scene: RGB video, depth, points and cameras, in the first camera's frame.

    frames: uint8 [F, H, W, 3]. depth: float32 [F, H, W], along the camera's z. confidence: float32 [F, H, W], above
    1, higher is surer. points: float32 [F, H, W, 3], depth unprojected with the cameras. mask: bool [F, H, W], the
    valid points. source: uint8 [F, H, W], the photo that each pixel was drawn from, 1 for the first; 0 for what a model
    generated, and everywhere if no photos were drawn. The unit is the model's own: about the mean distance of the
    points from the first camera.
    settings: the settings that made the scene, JSON values only.
    """

    frames: Tensor
    depth: Tensor
    confidence: Tensor
    points: Tensor
    mask: Tensor
    cameras: Cameras
    prompt: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    source: Tensor = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        size = self.frames.shape[:3]
        if self.source is None:
            object.__setattr__(self, "source", torch.zeros(size, dtype=torch.uint8))
        shapes = dict.fromkeys(("depth", "confidence", "mask", "source"), size)
        shapes |= dict.fromkeys(("points", "frames"), (*size, 3))
        for name, shape in shapes.items():
            if getattr(self, name).shape != torch.Size(shape):
                raise ValueError(f"scene.{name} has shape {[*getattr(self, name).shape]}, not {[*shape]}")
        assert len(self.cameras) == size[0]

    def __repr__(self) -> str:
        frames, height, width = self.frames.shape[:3]
        return f"Scene({frames} frames of {height} x {width}, prompt={self.prompt!r}, settings={self.settings})"

    @property
    def images(self) -> Tensor:
        """The frames as models take them: float32 [F, 3, H, W] in [0, 1]."""
        return self.frames.permute(0, 3, 1, 2).float() / 255

    def to_points(self, options: "ExportOptions | None" = None) -> PointCloud:
        """The reliable points, thinned, with colours, widths, normals and confidence; in the scene's unit.

        options: what is left out; see `ExportOptions`. The axes are the option's.
        """
        selection = _selection(self, options)
        return selection.cloud().moved(world_axes(selection.options.axes))

    def to_gaussians(self, options: "ExportOptions | None" = None) -> "Gaussians":
        """One flat 3-D Gaussian for each of `to_points`."""
        from gen3r.export.gaussians import to_gaussians

        selection = _selection(self, options)
        return to_gaussians(selection, selection.options.axes)

    def to_trimesh(self, options: "ExportOptions | None" = None) -> "trimesh.Scene":
        """Textured triangle meshes of a few frames, in the scene's unit, y up as in glTF.

        Raises:
            InputError: trimesh is not installed.
        """
        from gen3r.export.mesh import to_trimesh

        return to_trimesh(_selection(self, options))

    def render(self, cameras: Cameras) -> Tensor:
        """Pictures uint8 [N, h, w, 3] of the scene from other cameras, in the size of the cameras.

        cameras: in the scene's world, which is the first frame's camera, and in its unit. What no frame shows is
        continued smoothly from its surroundings.
        """
        pictures = render_views(self.images, self.depth, self.cameras, cameras)
        return torch.stack([(255 * x).round().to(torch.uint8).permute(1, 2, 0) for x in pictures])

    def to_html(self, options: "ExportOptions | None" = None) -> str:
        """The page `scene.html`: it opens offline in any browser."""
        from gen3r.export.page import to_html

        return to_html(_selection(self, options))

    def show(self, options: "ExportOptions | None" = None) -> Path:
        """Opens the page in the usual browser; returns its file, which stays in the folder for temporary files.

        In a notebook, a scene at the end of a cell shows itself.
        """
        import tempfile
        import webbrowser

        path = Path(tempfile.mkdtemp(prefix="gen3r-")) / "scene.html"
        path.write_text(self.to_html(options), encoding="utf-8")
        webbrowser.open(path.as_uri())
        return path

    def _repr_html_(self) -> str:
        """The page in a notebook."""
        return f'<iframe srcdoc="{escape(self.to_html())}" width="100%" height="480" style="border:0"></iframe>'

    def export(
        self, folder: str | Path, *formats: str, options: "ExportOptions | None" = None, overwrite: bool = False
    ) -> list[Path]:
        """Writes formats of `gen3r export` into a folder; returns their paths. Errors as `export_scene`."""
        from gen3r.export.save import export_scene

        return export_scene(self, formats, folder, options, overwrite)

    def save(self, path: str | Path) -> None:
        """Writes everything to one safetensors file, without loss.

        Points that are the unprojected depth, and the mask of valid depth, are left out: `load` computes them. Numbers
        that half precision holds exactly are written so.
        """
        tensors = {name: getattr(self, name).cpu() for name in (*_ARRAYS, *_OPTIONAL)}
        for name, usual in _derived(tensors["depth"], self.cameras).items():
            if torch.equal(tensors[name], usual):
                del tensors[name]
        for name in ("depth", "confidence"):
            half = tensors[name].half()
            tensors[name] = half if torch.equal(half.float(), tensors[name]) else tensors[name]
        tensors |= {name: getattr(self.cameras, name).cpu() for name in _CAMERAS}
        about = {"prompt": self.prompt, "settings": self.settings}
        write_tensors(tensors, path, {"format": _FORMAT, "about": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> "Scene":
        """Reads a file that `save` wrote, or the one in a folder of `save_scene`.

        Raises:
            InputError: the file is missing, damaged, or not a scene.
        """
        path = find_scene(path)
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise InputError(f"{path} is not a Gen3R scene; give a scene.safetensors that Gen3R wrote")
                missing = [name for name in (*_ARRAYS, *_CAMERAS) if name not in file.keys()]
                if missing or "about" not in metadata:
                    raise InputError(f"{path} lacks {', '.join(missing) or 'its description'}; generate it again")
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read as a scene ({error}); is it whole?") from error
        height, width = tensors["frames"].shape[1:3]
        cameras = Cameras(tensors["T_world_camera"], tensors["K_px"], height, width)
        about = json.loads(metadata["about"])
        tensors |= {name: tensors[name].float() for name in ("depth", "confidence")}
        tensors = _derived(tensors["depth"], cameras) | tensors
        arrays = {name: tensors[name] for name in (*_ARRAYS, *_OPTIONAL)}
        return cls(**arrays, cameras=cameras, prompt=about["prompt"], settings=about["settings"])


def find_scene(path: str | Path) -> Path:
    """The file of a scene: `path` itself, or the one in the folder that a command wrote.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if path.is_dir() and not (path / SCENE_FILE).is_file():
        raise InputError(f"{path} holds no {SCENE_FILE}; give a folder that gen3r generate or reconstruct wrote")
    file = path / SCENE_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no scene at {path}; give a folder that gen3r generate or reconstruct wrote")
    return file


def join_scenes(chunks: Sequence[range], scenes: Iterable[Scene]) -> Scene:
    """One scene of the overlapping chunks of a clip, in the frame and unit of the first.

    chunks: the numbers that the frames of each scene have in the clip. Each scene is put to those before it by the
    similarity of the frames that they share; of these, the first half stays theirs. Settings are those of the first.
    """
    joined: dict[str, Tensor] = {}
    first = cameras = None
    for numbers, scene in zip(chunks, scenes, strict=True):
        start, shared = numbers.start, 0
        if first is None or cameras is None:
            first, cameras = scene, scene.cameras
            joined = {n: x.new_empty(chunks[-1].stop, *x.shape[1:]) for n, x in _stored(scene).items()}
        else:
            shared = len(cameras) - start
            known = joined["depth"][start : len(cameras)], cameras[slice(start, None)]
            change = fit_similarity(*known, scene.depth[:shared], scene.cameras[slice(shared)])
            scene = replace(scene, depth=change.scale * scene.depth, cameras=change.moved(scene.cameras))
        for name, values in _stored(scene).items():
            joined[name][start + shared // 2 : numbers.stop] = values[shared // 2 :]
        cameras = replace(scene.cameras, **{name: joined[name][: numbers.stop] for name in _CAMERAS})
    assert first is not None
    assert cameras is not None
    arrays = {name: joined[name] for name in (*_ARRAYS, "source")}
    derived = _derived(joined["depth"], cameras)
    return Scene(**derived | arrays, cameras=cameras, prompt=first.prompt, settings=dict(first.settings))


def _stored(scene: Scene) -> dict[str, Tensor]:
    """All that points and mask follow from."""
    arrays = {name: getattr(scene, name) for name in (*_ARRAYS, "source")}
    return arrays | {name: getattr(scene.cameras, name) for name in _CAMERAS}


def _derived(depth: Tensor, cameras: Cameras) -> dict[str, Tensor]:
    """What usually follows from depth and cameras."""
    poses, K_px = cameras.T_world_camera.cpu(), cameras.K_px.cpu()
    return {
        "points": unproject(depth, poses, K_px),
        "mask": valid_depth_mask(depth),
        "source": torch.zeros(depth.shape, dtype=torch.uint8),
    }


def _selection(scene: Scene, options: "ExportOptions | None") -> "Selection":
    from gen3r.export.options import ExportOptions
    from gen3r.export.selection import Selection

    return Selection(scene, options or ExportOptions())
