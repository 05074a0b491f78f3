"""Looks of surfaces: colours, textures and materials of a split, drawn from a seeded generator."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gen3r.data.photos import photos_in, shipped
from gen3r.data.synthetic.meshes import Array, Material, MeshBuilder
from gen3r.data.synthetic.objects import STAND_INS, build, shapes
from gen3r.data.synthetic.textures import ALIKE, FITTED, TEXTURE_STAND_INS, TEXTURES, TILE, Rng

COLOURS = {
    "white": (0.9, 0.88, 0.85), "grey": (0.5, 0.5, 0.52), "black": (0.12, 0.12, 0.13), "beige": (0.8, 0.7, 0.55),
    "brown": (0.45, 0.29, 0.17), "red": (0.72, 0.15, 0.13), "orange": (0.88, 0.5, 0.15), "yellow": (0.9, 0.78, 0.25),
    "green": (0.25, 0.52, 0.22), "teal": (0.15, 0.5, 0.5), "blue": (0.2, 0.35, 0.7), "purple": (0.45, 0.25, 0.55),
}  # fmt: skip
COLOUR_SHARES = np.array([5, 4, 2, 4, 4, 2, 1, 1, 2, 1, 2, 1]) / 29
PHOTO_SHARES = {"facade": 0.25, "grass": 0.4, "gravel": 0.4}  # of surfaces with photos, where there is a folder; else:
PHOTO_SHARE = 0.65
LEAFY = ("mottled", "grass")  # photos take their colour


@dataclass(frozen=True)
class Thing:
    """An object that was placed: what it is, its main colour's name, where it stands [3], and its box [2, 3]."""

    name: str
    colour: str
    at: Array
    box: Array


class Decorator:
    """Draws colours, textures and photos, and remembers each as a material of the builder.

    In a held-out scene, other kinds of texture and object stand in for those of training scenes, and photos are others.

    textures: the folder of photos of a training scene; by default a few that packages ship, on fewer surfaces.
    night: windows are lit.
    """

    def __init__(self, rng: Rng, split: str, night: bool = False, textures: Path | None = None) -> None:
        self.rng, self.builder, self.held_out, self.night = rng, MeshBuilder(), split == "test", night
        own = textures and not self.held_out
        self.photos, self.share = (photos_in(textures), 1.0) if own else (shipped(split), 0.3)
        self.textures: list[Array] = []
        self.things: list[Thing] = []
        self.kinds: list[str] = []  # of the textures

    def thing(self, names: Sequence[str]) -> str:
        """Which of these kinds of object to place, or what stands in for it."""
        name = str(self.rng.choice(names))
        return STAND_INS[name] if self.held_out else name

    @contextmanager
    def placing(self, name: str, colour: str, at: Array) -> Iterator[None]:
        """The shapes added meanwhile are that object's."""
        self.builder.owner, first = len(self.things), len(self.builder.triangles)
        self.things.append(Thing(name, colour, at, np.stack([at, at])))
        yield
        shapes, self.builder.owner = self.builder.triangles[first:], -1
        low, high = np.min([s.min((0, 1)) for s in shapes], 0), np.max([s.max((0, 1)) for s in shapes], 0)
        self.things[-1] = Thing(name, colour, at, np.stack([low, high]))

    def place(
        self, name: str, at: Array, yaw: float, look: tuple[str, str, int], second: int, scale: float = 1
    ) -> Array:
        """An object of about its usual size times `scale`; its main look as `surface` says. Returns its size [3]."""
        size = shapes(name)[0] * scale * self.rng.uniform(0.85, 1.15, 3)
        with self.placing(name, look[1], at):
            build(self.builder, name, at, size, yaw, (look[2], second))
        return size

    def colour(self, names: Sequence[str] | None = None) -> tuple[str, Array]:
        """A drawn colour name and the colour, a little off it; few real surfaces are as vivid as their name."""
        name = str(self.rng.choice(names) if names else self.rng.choice(list(COLOURS), p=COLOUR_SHARES))
        colour = np.array(COLOURS[name]) * self.rng.uniform(0.85, 1.15, 3)
        colour += self.rng.uniform(0, 0.5) * (colour.mean() - colour)
        return name, np.clip(colour, 0.02, 0.95)

    def facade(self, colour: Array) -> int:
        """The material of a building's walls; at night many have light behind their windows."""
        if self.night and self.rng.random() < 0.7:
            return self.material("facade", 0.35 * colour, emission=0.35, second=np.array([1.4, 1.1, 0.7]))
        return self.material("facade", colour)

    def material(
        self, kind: str, colour: Array, scale: float = 1.0, emission: float = 0.0, second: Array | None = None
    ) -> int:
        """The number of a new material of that kind of texture, or of a photo in its place.

        second: the other colour of the texture; one that goes with `colour` by default.
        """
        share = 1 if kind == "painting" else self.share * PHOTO_SHARES.get(kind, PHOTO_SHARE)
        if second is None and emission < 1 and self.rng.random() < share:
            return self._photo(kind, colour, scale, emission)
        if self.held_out:
            kind = str(self.rng.choice(TEXTURE_STAND_INS[kind]))
        other = colour * self.rng.uniform(0.45, 0.75) + self.rng.uniform(0, 0.12, 3) if second is None else second
        if second is None and kind not in ALIKE:  # few real patterns are in full contrast
            far = self.rng.choice([0.35, 0.8]) + self.rng.uniform(-0.15, 0.15, 3)
            other = colour + self.rng.uniform(0.35, 0.75) * (far - colour)
        return self._add(kind, TEXTURES[kind](self.rng, colour, np.clip(other, 0, 1)), scale, emission, kind in FITTED)

    def _add(self, kind: str, texture: Array, scale: float, emission: float, fit: bool) -> int:
        self.kinds.append(kind)
        self.textures.append(np.broadcast_to(texture, (TILE, TILE, 3)))
        return self.builder.material(Material(len(self.textures) - 1, scale, emission, fit))

    def _photo(self, kind: str, colour: Array, scale: float, emission: float) -> int:
        """A material from a crop of a photo: as it is, its lightness in that colour, or between both."""
        rng = self.rng
        fit = kind in FITTED or (kind in ("plaster", "stripes", "plaid") and rng.random() < 0.15)
        tile = self.photos.tile(rng, TILE, *((0.6, 1.0) if fit else (0.15, 0.6)))
        if not fit:
            light = tile.mean(-1, keepdims=True)
            mix = rng.uniform(0.7, 1) if kind in LEAFY else rng.choice([0.0, 0.0, 1.0, rng.random()])
            tile = tile + mix * (colour * np.clip(light / max(float(light.mean()), 0.05), 0, 1.8) - tile)
            even = tile.mean((0, 1))
            tile = even + rng.uniform(0.25, 1) * (tile - even)
            tile = tile * (1 + rng.uniform(0, 0.3) * (rng.random((TILE, TILE, 1), np.float32) - 0.5))
            if rng.random() < 0.5:  # mirrored, so that it repeats without seams
                tile = np.concatenate([tile[::2, ::2], tile[::-2, ::2]])
                tile = np.concatenate([tile, tile[:, ::-1]], 1)
        return self._add("photo", tile, scale * rng.uniform(0.6, 2.0), emission, fit)

    def surface(
        self, kinds: Sequence[str], names: Sequence[str] | None = None, scale: float = 1.0
    ) -> tuple[str, str, int]:
        """A material of a drawn kind and colour: (kind, colour name, material); a photo's colour is what it shows."""
        kind = str(self.rng.choice(kinds))
        name, colour = self.colour(names)
        material = self.material(kind, colour, scale * self.rng.uniform(0.7, 1.4))
        if self.kinds[-1] == "photo":
            mean = self.textures[-1][::4, ::4].mean((0, 1))
            name = min(COLOURS, key=lambda c: float(np.abs(np.array(COLOURS[c]) - mean).sum()))
        return self.kinds[-1], name, material
