"""glTF binaries: textured meshes or points, and the camera's path as an animated camera; y up, as glTF has it.

trimesh, which writes glTF too, has no animations, no unlit materials and no colours of points in glTF's linear space.
"""

import io
import json
import struct
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gen3r import __version__
from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import opengl_to_opencv, quaternion_from_matrix, world_axes
from gen3r.export.colours import linear_colours
from gen3r.export.mesh import TexturedMesh, textured_meshes
from gen3r.export.selection import Selection
from gen3r.export.unit import SETTING, unit_name
from gen3r.export.video import FRAMES_PER_SECOND

# Numbers of the glTF specification.
FLOAT, UNSIGNED_INT, UNSIGNED_SHORT = 5126, 5125, 5123
VERTICES, INDICES = 34962, 34963
CLAMP_TO_EDGE, POINTS_MODE = 33071, 0
MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", b"JSON", b"BIN\0"
NEAR = 1e-3  # of the camera, in the unit


def write_mesh(selection: Selection, path: Path) -> None:
    """Writes the textured meshes and the camera."""
    file = _Gltf(selection)
    file.tree["samplers"] = [{"wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}]
    for mesh in textured_meshes(selection):
        file.add_mesh(mesh)
    file.write(path)


def write_points(selection: Selection, path: Path) -> None:
    """Writes the points and the camera."""
    file = _Gltf(selection)
    if len(selection.pixels):
        file.add_points(selection)
    file.write(path)


class _Gltf:
    """A glTF tree with its binary buffer, to which things are added."""

    def __init__(self, selection: Selection) -> None:
        scene = selection.scene
        about = {"unit": unit_name(scene), SETTING: scene.settings.get(SETTING), "prompt": scene.prompt}
        self.parts: list[bytes] = []
        self.size = 0
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": f"Gen3R {__version__}", "extras": about},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0, "scenes": [{"nodes": []}],
        }  # fmt: skip
        self.add_camera(scene.cameras)

    def add(self, name: str, item: dict[str, Any]) -> int:
        """Adds an item to one of the tree's lists; returns its number."""
        items = self.tree.setdefault(name, [])
        items.append(item)
        return len(items) - 1

    def add_node(self, item: dict[str, Any]) -> int:
        number = self.add("nodes", item)
        self.tree["scenes"][0]["nodes"].append(number)
        return number

    def add_bytes(self, data: bytes, **view: int) -> int:
        """Adds bytes to the buffer, aligned to 4; returns the number of their view."""
        number = self.add("bufferViews", {"buffer": 0, "byteOffset": self.size, "byteLength": len(data), **view})
        padding = bytes(-len(data) % 4)
        self.parts += [data, padding]
        self.size += len(data) + len(padding)
        return number

    def add_array(self, values: Tensor, component: int, target: int | None = None, bounds: bool = False) -> int:
        """Adds a scalar [N] or a vector [N, d] for each of N things; returns the number of its accessor."""
        kinds = {FLOAT: "<f4", UNSIGNED_INT: "<u4", UNSIGNED_SHORT: "<u2"}
        array = values.numpy().astype(kinds[component])
        view = self.add_bytes(array.tobytes(), **({} if target is None else {"target": target}))
        kind = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        accessor = {"bufferView": view, "componentType": component, "count": len(array), "type": kind}
        if component == UNSIGNED_SHORT:
            accessor["normalized"] = True
        if bounds:
            columns = array.reshape(len(array), -1)
            accessor |= {"min": columns.min(0).tolist(), "max": columns.max(0).tolist()}
        return self.add("accessors", accessor)

    def add_camera(self, cameras: Cameras) -> None:
        """The first camera's lens without its principal point, and the path. glTF's lenses are centred and fixed."""
        K = cameras.K_px[0].double()
        yfov = 2 * float(torch.atan(cameras.height / 2 / K[1, 1]))
        lens = {"yfov": yfov, "aspectRatio": cameras.width * float(K[1, 1] / K[0, 0]) / cameras.height, "znear": NEAR}
        camera = self.add("cameras", {"type": "perspective", "perspective": lens})
        T = opengl_to_opencv(world_axes("opengl") @ cameras.T_world_camera.double())
        places, turns = T[:, :3, 3], quaternion_from_matrix(T[:, :3, :3])
        start = {"translation": places[0].tolist(), "rotation": turns[0].tolist()}
        node = self.add_node({"name": "camera", "camera": camera, **start})
        times = self.add_array(torch.arange(len(T)) / FRAMES_PER_SECOND, FLOAT, bounds=True)
        animation: dict[str, Any] = {"name": "camera path", "samplers": [], "channels": []}
        for number, (path, values) in enumerate((("translation", places), ("rotation", turns))):
            animation["samplers"].append({"input": times, "output": self.add_array(values, FLOAT)})
            animation["channels"].append({"sampler": number, "target": {"node": node, "path": path}})
        self.add("animations", animation)

    def add_mesh(self, mesh: TexturedMesh) -> None:
        """One mesh with its texture, shown as it is, without light."""
        image = io.BytesIO()
        Image.fromarray(mesh.image.numpy()).save(image, "png", compress_level=1)
        source = self.add("images", {"bufferView": self.add_bytes(image.getvalue()), "mimeType": "image/png"})
        texture = self.add("textures", {"source": source, "sampler": 0})
        attributes = {
            "POSITION": self.add_array(mesh.points, FLOAT, VERTICES, bounds=True),
            "TEXCOORD_0": self.add_array(mesh.texture, FLOAT, VERTICES),
        }
        indices = self.add_array(mesh.faces.flatten(), UNSIGNED_INT, INDICES)
        material = self.add_material(baseColorTexture={"index": texture})
        primitive = {"attributes": attributes, "indices": indices, "material": material}
        name = f"frame {mesh.frame}"
        self.add_node({"name": name, "mesh": self.add("meshes", {"name": name, "primitives": [primitive]})})

    def add_points(self, selection: Selection) -> None:
        """The points with their colours."""
        cloud = selection.cloud().moved(world_axes("opengl"))
        assert cloud.colours is not None
        colours = torch.nn.functional.pad(
            linear_colours(cloud.colours), (0, 1), value=1.0
        )  # vectors of 3 are not aligned
        attributes = {
            "POSITION": self.add_array(cloud.points, FLOAT, VERTICES, bounds=True),
            "COLOR_0": self.add_array((65535 * colours).round(), UNSIGNED_SHORT, VERTICES),
        }
        primitive = {"attributes": attributes, "material": self.add_material(), "mode": POINTS_MODE}
        self.add_node({"name": "points", "mesh": self.add("meshes", {"name": "points", "primitives": [primitive]})})

    def add_material(self, **colour: Any) -> int:
        material = {"metallicFactor": 0, "roughnessFactor": 1, **colour}
        return self.add(
            "materials",
            {"pbrMetallicRoughness": material, "doubleSided": True, "extensions": {"KHR_materials_unlit": {}}},
        )

    def write(self, path: Path) -> None:
        """Writes header, tree and buffer."""
        self.tree["buffers"] = [{"byteLength": self.size}]
        text = json.dumps(self.tree, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 4)
        with path.open("wb") as file:
            file.write(struct.pack("<4sII", MAGIC, 2, 12 + 8 + len(text) + 8 + self.size))
            file.write(struct.pack("<I4s", len(text), JSON_CHUNK) + text)
            file.write(struct.pack("<I4s", self.size, BINARY_CHUNK))
            file.writelines(self.parts)
