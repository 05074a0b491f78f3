"""Clouds of coloured points, in memory and in PLY files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError
from torch import Tensor

from gen3r.errors import InputError
from gen3r.files import whole_file

_POINT, _NORMAL, _COLOUR = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")
PLY_KINDS = {**dict.fromkeys((*_POINT, *_NORMAL), "<f4"), **dict.fromkeys(_COLOUR, "u1"), "confidence": "<f4"}


@dataclass(frozen=True)
class PointCloud:
    """Points, and what is known of each.

    points: [N, 3]. colours: uint8 [N, 3]. widths: [N], each point's pixel at its depth. normals: [N, 3], of unit
    length, towards the camera. confidence: [N]. All but the points may be None.
    """

    points: Tensor
    colours: Tensor | None = None
    widths: Tensor | None = None
    normals: Tensor | None = None
    confidence: Tensor | None = None

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Tensor | slice) -> "PointCloud":
        return replace(self, **{name: x[index] for name, x in vars(self).items() if x is not None})

    def moved(self, T: Tensor) -> "PointCloud":
        """The cloud under a pose [4, 4], computed in float64, as float32."""
        T = T.double()
        normals = None if self.normals is None else (self.normals.double() @ T[:3, :3].mT).float()
        return replace(self, points=(self.points.double() @ T[:3, :3].mT + T[:3, 3]).float(), normals=normals)

    @classmethod
    def join(cls, clouds: Sequence["PointCloud"]) -> "PointCloud":
        """One cloud of clouds that know the same; at least one."""
        known = [name for name, x in vars(clouds[0]).items() if x is not None]
        return cls(**{name: torch.cat([getattr(cloud, name) for cloud in clouds]) for name in known})


def write_ply(cloud: PointCloud, path: Path, comment: str = "") -> None:
    """Writes a binary PLY of float32 points and, if they are known, normals, 8-bit colours and confidence."""
    columns = ply_columns(cloud)
    kinds = {name: kind for name, kind in PLY_KINDS.items() if name in columns}
    write_vertices([columns], kinds, len(cloud), path, [comment] if comment else [])


def ply_columns(cloud: PointCloud) -> dict[str, Tensor]:
    """The values of each vertex of a PLY file, by their usual names."""
    named = ((_POINT, cloud.points), (_NORMAL, cloud.normals), (_COLOUR, cloud.colours))
    columns = {name: values[:, i] for names, values in named if values is not None for i, name in enumerate(names)}
    return columns if cloud.confidence is None else {**columns, "confidence": cloud.confidence}


def write_vertices(
    parts: Iterable[Mapping[str, Tensor]], kinds: Mapping[str, str], count: int, path: Path, comments: Sequence[str]
) -> None:
    """Writes a binary PLY of `count` vertices, part after part: each a column [n] a name.

    kinds: the type of each column, in NumPy's short form.
    """
    kind = np.dtype(list(kinds.items()))
    element = PlyElement.describe(np.broadcast_to(np.zeros((), kind), count), "vertex")  # which takes no memory
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(PlyData([element], byte_order="<", comments=list(comments)).header.encode() + b"\n")
        for part in parts:
            vertices = np.empty(len(next(iter(part.values()))), kind)
            for name, values in part.items():
                vertices[name] = values.numpy()
            file.write(vertices.data)


def read_ply(source: Path | bytes) -> PointCloud:
    """The vertices of a PLY file, text or binary.

    Raises:
        InputError: the file is missing or damaged, or has no vertices with x, y, z.
    """
    try:
        data = PlyData.read(BytesIO(source) if isinstance(source, bytes) else str(source))
        vertices = data["vertex"].data
        points = np.stack([vertices[name].astype(float) for name in _POINT], -1)
        coloured = set(_COLOUR) <= set(vertices.dtype.names or ()) and vertices["red"].dtype == np.uint8
        colours = np.stack([vertices[name] for name in _COLOUR], -1) if coloured else None
    except (OSError, PlyParseError, KeyError, ValueError) as error:
        name = "the point cloud" if isinstance(source, bytes) else source
        raise InputError(f"{name} cannot be read as PLY ({error}); download it again") from error
    return PointCloud(torch.from_numpy(points), None if colours is None else torch.from_numpy(colours))
