"""Textured triangle meshes of a scene, from the depth of a few frames; y up."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from gen3r.cameras.conventions import world_axes
from gen3r.errors import InputError
from gen3r.export.selection import Selection
from gen3r.media.images import evenly_spaced

if TYPE_CHECKING:
    import trimesh

MESHED = 5  # frames at most that become meshes
SAME = 0.05  # relative difference of depths up to which a surface is one that another mesh has


@dataclass(frozen=True)
class TexturedMesh:
    """points: [N, 3]. faces: int64 [M, 3], anticlockwise seen from the camera. texture: each point's place in the
    image, x and y [N, 2] from 0 to 1 from the top left corner. image: uint8 [H, W, 3], frame number `frame`."""

    points: Tensor
    faces: Tensor
    texture: Tensor
    image: Tensor
    frame: int


def textured_meshes(selection: Selection) -> list[TexturedMesh]:
    """Meshes of the first and of a few other frames: a pixel's point is a vertex, its frame the texture.

    Squares of four neighbours that are all reliable become two triangles, so edges of depth are cut. Of the later
    frames, only what no earlier mesh shows becomes one. The points have OpenGL's axes.
    """
    count = len(selection.scene.frames)
    order = list(dict.fromkeys(evenly_spaced(count, MESHED)))
    meshes = []
    for place, frame in enumerate(order):
        mask = selection.reliable[frame].clone()
        for earlier in order[:place]:
            mask &= ~_shown(selection, frame, earlier)
        mesh = _mesh(selection, frame, mask)
        meshes += [] if mesh is None else [mesh]
    return meshes


def to_trimesh(selection: Selection) -> "trimesh.Scene":
    """The meshes as a scene of trimesh.

    Raises:
        InputError: trimesh is not installed.
    """
    try:
        import trimesh
        from trimesh.visual import TextureVisuals
        from trimesh.visual.material import PBRMaterial
    except ImportError as error:
        raise InputError("to_trimesh needs trimesh: pip install 'gen3r[mesh]'") from error
    scene = trimesh.Scene()
    for mesh in textured_meshes(selection):
        uv = torch.stack([mesh.texture[:, 0], 1 - mesh.texture[:, 1]], -1)  # trimesh counts from the bottom
        material = PBRMaterial(
            baseColorTexture=Image.fromarray(mesh.image.numpy()), metallicFactor=0.0, roughnessFactor=1.0
        )
        visual = TextureVisuals(uv.numpy(), material=material)
        arrays = mesh.points.numpy(), mesh.faces.numpy()
        scene.add_geometry(trimesh.Trimesh(*arrays, visual=visual, process=False), geom_name=f"frame{mesh.frame}")
    return scene


def _shown(selection: Selection, frame: int, other: int) -> Tensor:
    """bool [H, W]: which points of a frame another frame shows reliably, at about the same depth."""
    points = selection.scene.points[frame]
    seen, _ = selection.seen(points.flatten(0, 1), other, SAME)
    return seen.view(points.shape[:2])


def _mesh(selection: Selection, frame: int, mask: Tensor) -> TexturedMesh | None:
    """The mesh of a frame's pixels [H, W]; None where no four neighbours are among them."""
    scene = selection.scene
    height, width = mask.shape
    row, column = (mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]).nonzero().unbind(-1)
    if not len(row):
        return None
    first = row * width + column  # top left of each square
    right, below, across = first + 1, first + width, first + width + 1
    faces = torch.cat([torch.stack([first, below, right], -1), torch.stack([right, below, across], -1)])
    used = torch.zeros(height * width, dtype=torch.bool)
    used[faces] = True
    numbers = used.cumsum(0) - 1
    pixels = used.nonzero()[:, 0]
    return TexturedMesh(
        points=(scene.points[frame].flatten(0, 1)[pixels].double() @ world_axes("opengl")[:3, :3].T).float(),
        faces=numbers[faces],
        texture=torch.stack([(pixels % width + 0.5) / width, (pixels // width + 0.5) / height], -1),
        image=scene.frames[frame],
        frame=frame,
    )
