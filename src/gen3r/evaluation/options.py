"""The options of an evaluation. This module is light: the command line reads it for its help."""

from dataclasses import dataclass

from gen3r.options import option

PARTS = ("autoencoder", "geometry", "generation", "two-views", "no-path", "text")


@dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and on which scenes."""

    scenes: int = option(64, "held-out scenes (default: 64)", metavar="N", positive=True)
    only: tuple[str, ...] = option(PARTS, f"{', '.join(PARTS)} (default: all)", metavar="PART", choices=PARTS)
    seed: int = option(0, "seed of the first scene; the seed of each next scene is one more (default: 0)", metavar="N")
    json: bool = option(False, "print JSON instead of a table")
