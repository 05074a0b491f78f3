"""The options of an evaluation. This module is light: the command line reads it for its help."""

from dataclasses import dataclass
from pathlib import Path

from gen3r.errors import InputError
from gen3r.options import option

PARTS = ("autoencoder", "geometry", "generation", "two-views", "no-path", "text")
DATA_PARTS = ("reconstruction", "generation", "two-views", "autoencoder")


@dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and on which scenes."""

    data: tuple[Path, ...] = option(
        (), "datasets, each with its scenes, or scenes (default: the procedural world)", metavar="FOLDER"
    )
    scenes: int | None = option(
        None, "scenes (default: all of the datasets, evenly spaced; 64 of the world)", metavar="N", positive=True
    )
    only: tuple[str, ...] = option(
        (), f"{', '.join(PARTS)}; with --data {', '.join(DATA_PARTS)} (default: all)", metavar="PART",
        choices=tuple(dict.fromkeys((*PARTS, *DATA_PARTS))),
    )  # fmt: skip
    eval_size: int = option(
        448, "longer side of the measured pixels of datasets, at most their own (default: 448)", metavar="N",
        positive=True,
    )  # fmt: skip
    seed: int = option(0, "seed of the first scene; the seed of each next scene is one more (default: 0)", metavar="N")
    json: bool = option(False, "print JSON instead of a table")

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, as {self.seed} is")

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts to measure.

        Raises:
            InputError: one of them is not measured on these scenes.
        """
        known = DATA_PARTS if self.data else PARTS
        if unknown := [part for part in self.only if part not in known]:
            place = "datasets" if self.data else "the procedural world (add --data FOLDER)"
            raise InputError(f"{unknown[0]} is not measured on {place}; choose of {', '.join(known)}")
        return tuple(part for part in known if not self.only or part in self.only)
