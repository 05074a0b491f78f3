"""Clouds of coloured points, in memory and in PLY files."""

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError
from torch import Tensor

from gen3r.errors import InputError
from gen3r.files import whole_file

_POINT, _COLOUR = ("x", "y", "z"), ("red", "green", "blue")


@dataclass(frozen=True)
class PointCloud:
    """points: [N, 3]. colours: uint8 [N, 3], or None. widths: [N], each point's pixel at its depth, or None."""

    points: Tensor
    colours: Tensor | None = None
    widths: Tensor | None = None

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Tensor | slice) -> "PointCloud":
        return PointCloud(*(None if x is None else x[index] for x in (self.points, self.colours, self.widths)))  # pyright: ignore[reportArgumentType]

    def moved(self, T: Tensor) -> "PointCloud":
        """The cloud under a pose [4, 4], computed in float64, as float32."""
        T = T.double()
        return replace(self, points=(self.points.double() @ T[:3, :3].mT + T[:3, 3]).float())


def write_ply(cloud: PointCloud, path: Path, comment: str = "") -> None:
    """Writes a binary PLY of float32 points and, if they are known, 8-bit colours."""
    fields = [(name, "<f4", cloud.points[:, i]) for i, name in enumerate(_POINT)]
    if cloud.colours is not None:
        fields += [(name, "u1", cloud.colours[:, i]) for i, name in enumerate(_COLOUR)]
    vertices = np.empty(len(cloud), dtype=[(name, kind) for name, kind, _ in fields])
    for name, _, values in fields:
        vertices[name] = values.numpy()
    element = PlyElement.describe(vertices, "vertex")
    with whole_file(path) as partial:
        PlyData([element], byte_order="<", comments=[comment] if comment else []).write(str(partial))


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
