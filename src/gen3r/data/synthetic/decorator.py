"""Looks of surfaces: colours, textures and materials drawn from a seeded generator."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from gen3r.data.synthetic.meshes import Array, Material, MeshBuilder
from gen3r.data.synthetic.textures import TEXTURES, Rng

COLOURS = {
    "white": (0.9, 0.88, 0.85), "grey": (0.5, 0.5, 0.52), "black": (0.12, 0.12, 0.13), "beige": (0.8, 0.7, 0.55),
    "brown": (0.45, 0.29, 0.17), "red": (0.72, 0.15, 0.13), "orange": (0.88, 0.5, 0.15), "yellow": (0.9, 0.78, 0.25),
    "green": (0.25, 0.52, 0.22), "teal": (0.15, 0.5, 0.5), "blue": (0.2, 0.35, 0.7), "purple": (0.45, 0.25, 0.55),
}  # fmt: skip

COLOUR_SHARES = np.array([5, 4, 2, 4, 4, 2, 1, 1, 2, 1, 2, 1]) / 29

# Textures in two colours far apart, and those that fill a face instead of repeating.
CONTRAST = {
    "checker", "stripes", "painting", "facade", "tiles", "bricks", "plaid", "cobbles", "hexagons", "diamonds", "ashlar",
    "zigzag", "dots", "waves", "mosaic", "storeys",
}  # fmt: skip
FITTED = {"painting", "facade", "mosaic", "storeys", "photo", "other photo"}


@dataclass(frozen=True)
class Thing:
    """An object that was placed: what it is, its main colour's name, where it stands [3], and its box [2, 3]."""

    name: str
    colour: str
    at: Array
    box: Array


class Decorator:
    """Draws colours and textures, and remembers each as a material of the builder."""

    kinds = TEXTURES

    def __init__(self, rng: Rng) -> None:
        self.rng, self.builder, self.textures = rng, MeshBuilder(), []
        self.things: list[Thing] = []

    def thing(self, names: Sequence[str]) -> str:
        """Which of these kinds of object to place."""
        return str(self.rng.choice(names))

    @contextmanager
    def placing(self, name: str, colour: str, at: Array) -> Iterator[None]:
        """The shapes added meanwhile are that object's."""
        self.builder.owner = len(self.things)
        first = len(self.builder.triangles)
        self.things.append(Thing(name, colour, at, np.stack([at, at])))
        yield
        self.builder.owner = -1
        shapes = self.builder.triangles[first:]
        low, high = np.min([s.min((0, 1)) for s in shapes], 0), np.max([s.max((0, 1)) for s in shapes], 0)
        self.things[-1] = Thing(name, colour, at, np.stack([low, high]))

    def facade(self, colour: Array) -> int:
        """The material of a building's walls."""
        return self.material("facade", colour)

    def colour(self, names: list[str] | None = None) -> tuple[str, Array]:
        """A drawn colour name and the colour, a little off it."""
        name = str(self.rng.choice(names)) if names else str(self.rng.choice(list(COLOURS), p=COLOUR_SHARES))
        colour = np.array(COLOURS[name]) * self.rng.uniform(0.85, 1.15, 3)
        colour += self.rng.uniform(0, 0.5) * (colour.mean() - colour)  # few real surfaces are as vivid as their name
        return name, np.clip(colour, 0.02, 0.95)

    def material(
        self, kind: str, colour: Array, scale: float = 1.0, emission: float = 0.0, second: Array | None = None
    ) -> int:
        """The number of a new material of that texture, in that colour and a `second` one, or one that goes with it."""
        if second is None:
            second = self._second(kind, colour)
        self.textures.append(self.kinds[kind](self.rng, colour, second))
        texture = len(self.textures) - 1
        return self.builder.material(Material(texture, scale, emission, kind in FITTED))

    def _second(self, kind: str, colour: Array) -> Array:
        second = np.clip(colour * self.rng.uniform(0.45, 0.75) + self.rng.uniform(0, 0.12, 3), 0, 1)
        if kind in CONTRAST:
            second = np.clip(self.rng.choice([0.35, 0.8]) + self.rng.uniform(-0.15, 0.15, 3), 0, 1)
            second = colour + self.rng.uniform(0.35, 0.75) * (second - colour)  # few real patterns are in full contrast
        return second

    def surface(
        self, kinds: list[str], names: list[str] | None = None, scale: float = 1.0, beside: str | None = None
    ) -> tuple[str, str, int]:
        """A material of a drawn kind and colour, to go with the colour `beside`: (kind, colour name, material)."""
        kind = str(self.rng.choice(kinds))
        name, colour = self.colour(names)
        return kind, name, self.material(kind, colour, scale * self.rng.uniform(0.7, 1.4))
