"""What the colours of the points in the viewer say."""

from collections.abc import Callable

import torch
from torch import Tensor

from gen3r.export.nodes import camera_colours
from gen3r.export.selection import Selection
from gen3r.media.drawing import apply_colour_map, colour_depth

_SOURCES = torch.tensor([[236, 120, 60], [70, 150, 230], [90, 200, 120]], dtype=torch.uint8)


def point_colours(selection: Selection, colouring: str) -> Tensor:
    """Colours uint8 [N, 3] of a selection's points, in the order of its pixels, by a name of `COLOURINGS`."""
    return COLOURINGS[colouring](selection)


def _picture(selection: Selection) -> Tensor:
    return selection.scene.frames.flatten(0, 2)[selection.pixels]


def _depth(selection: Selection) -> Tensor:
    """Near is bright."""
    scene = selection.scene
    return colour_depth(scene.depth, scene.mask).flatten(0, 2)[selection.pixels]


def _confidence(selection: Selection) -> Tensor:
    """By rank: the surest are bright."""
    confidence = selection.scene.confidence.flatten()[selection.pixels].contiguous()
    rank = torch.searchsorted(confidence.sort().values, confidence, right=True)
    return apply_colour_map(rank / max(1, len(rank)))


def _normals(selection: Selection) -> Tensor:
    """Red to the right, green up, blue towards the first camera."""
    normals = selection.cloud().normals
    assert normals is not None
    return (127.5 * (normals * torch.tensor([1.0, -1.0, -1.0]) + 1)).round().to(torch.uint8)


def _frames(selection: Selection) -> Tensor:
    """The first frame is dark, the last one bright."""
    scene = selection.scene
    shades = torch.tensor(camera_colours(len(scene.frames)), dtype=torch.uint8)
    return shades[selection.pixels // scene.depth[0].numel()]


def _sources(selection: Selection) -> Tensor:
    """Orange: generated; blue and green: drawn from the first and the second photo."""
    return _SOURCES[selection.scene.source.flatten()[selection.pixels].long()]


COLOURINGS: dict[str, Callable[[Selection], Tensor]] = {
    "pictures": _picture,
    "depth": _depth,
    "confidence": _confidence,
    "normals": _normals,
    "frames": _frames,
    "photo or generated": _sources,
}
