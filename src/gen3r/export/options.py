"""What of a scene leaves it, and how: one set of options for the command line and for Python."""

import argparse
import math
import re
from dataclasses import dataclass
from typing import Literal

from gen3r.errors import InputError
from gen3r.options import check_positive, option


@dataclass(frozen=True, kw_only=True)
class KnownLength:
    """A length that is known in metres: between two pixels (x, y) of a frame, or from the first camera to the floor."""

    metres: float
    frame: int = 0
    pixels: tuple[tuple[float, float], tuple[float, float]] | None = None


def parse_length(text: str) -> KnownLength:
    """`height=METRES`, or `FRAME:X,Y:X,Y=METRES` with the frames counted from 0."""
    number = r"(\d+(?:\.\d*)?)"
    pixels = re.fullmatch(rf"(\d+):{number},{number}:{number},{number}={number}", text)
    height = re.fullmatch(rf"height={number}", text)
    found = pixels or height
    if found is None or not float(found[found.re.groups]) > 0:
        raise argparse.ArgumentTypeError(
            f"a known length is FRAME:X,Y:X,Y=METRES, such as 0:80,40:310,42=1.2, or height=METRES, not {text}"
        )
    if pixels is None:
        return KnownLength(metres=float(found[1]))
    frame, x1, y1, x2, y2, metres = pixels.groups()
    ends = (float(x1), float(y1)), (float(x2), float(y2))
    return KnownLength(metres=float(metres), frame=int(frame), pixels=ends)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Which pixels of a scene leave it, as depth and as points, and in which axes and unit.

    Raises:
        InputError: a number is negative or not finite, `unsure` is not below 1, or `max_points` not positive.
    """

    unsure: float = option(0.0, "leave out this share of the pixels, the least confident (default: 0)", metavar="X")
    edges: float = option(
        0.08, "leave out pixels at a relative jump of depth over X; 0: keep them (default: 0.08)", metavar="X"
    )
    grazing: float = option(
        6.0,
        "leave out surfaces seen at less than X degrees, as between near and far; 0: keep them (default: 6)",
        metavar="X",
    )
    sky: float = option(
        3.0,
        "leave out what is farther than X times the median depth, and slopes to the sky around it; "
        "0: keep it (default: 3)",
        metavar="X",
    )
    voxel: float = option(
        0.001, "one point in a cube of X times the scene's extent; 0: all points (default: 0.001)", metavar="X"
    )
    outliers: float = option(
        3.0,
        "leave out points whose neighbours are farther than the mean by X standard deviations; 0: keep them "
        "(default: 3)",
        metavar="X",
    )
    max_points: int = option(
        1_000_000, "thin evenly to N points (default: 1000000; COLMAP's at most 100000)", metavar="N", positive=True
    )
    axes: Literal["opencv", "opengl"] = option(
        "opencv",
        "axes of the formats without axes of their own: opencv (y down, z forward) or opengl (y up, z backward) "
        "(default: opencv)",
    )
    scale_from: KnownLength | None = option(
        None,
        "a known length, which makes the unit a metre: FRAME:X,Y:X,Y=METRES between two pixels, or height=METRES of "
        "the first camera over the floor",
        metavar="LENGTH",
        parse=parse_length,
    )

    def __post_init__(self) -> None:
        check_positive(ExportOptions, vars(self))
        for name in ("unsure", "edges", "grazing", "sky", "voxel", "outliers"):
            value = getattr(self, name)
            if not 0 <= value < (1 if name == "unsure" else math.inf):
                most = "from 0 to below 1" if name == "unsure" else "0 or more"
                raise InputError(f"--{name} must be a number {most}, not {value:g}")
