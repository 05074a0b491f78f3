"""What the training scenes of the large world are made of, and what is kept for its held-out scenes alone.

Every kind of texture, object and mover that a place asks for is a training kind; in a held-out scene a kind of the
same use stands in for it. Pairs of colours on the same object, or of walls and floor, are divided too.
"""

from collections.abc import Sequence

import numpy as np

from gen3r.data.synthetic.decorator import COLOURS, FITTED, Decorator
from gen3r.data.synthetic.meshes import Array, Material
from gen3r.data.synthetic.photo_textures import PHOTO_TEXTURES
from gen3r.data.synthetic.pictures import Pictures
from gen3r.data.synthetic.textures import TEXTURES, TILE, Rng
from gen3r.data.synthetic.time_and_weather import LAMPLIGHT

TEXTURE_STAND_INS = {
    "plaster": ("stucco",), "planks": ("herringbone",), "tiles": ("hexagons",), "checker": ("diamonds",),
    "bricks": ("ashlar",), "stripes": ("zigzag", "waves"), "mottled": ("speckled",), "painting": ("mosaic",),
    "facade": ("storeys",), "marble": ("waves",), "plaid": ("dots",), "cobbles": ("hexagons",),
    "photo": ("other photo",), "lawn": ("scatter",), "gravel": ("scatter",), "paving": ("ashlar",),
}  # fmt: skip
OBJECT_STAND_INS = {
    "table": "desk", "sofa": "armchair", "shelf": "rack", "bed": "bunk bed", "cabinet": "wardrobe", "chair": "stool",
    "lamp": "lantern", "plant": "cactus", "tree": "palm", "pine": "poplar", "bench": "picnic table",
    "lamp post": "street lantern", "monument": "obelisk", "kiosk": "tent", "planter": "hedge", "car": "van",
    "rock": "cairn", "bush": "reeds", "hut": "tower",
}  # fmt: skip
PICTURE_SHARES = {"painting": 0.9, "facade": 0.3, "mottled": 0.75, "lawn": 0.4, "gravel": 0.4}  # for others 0.65
LEAFY = ("mottled", "lawn")  # they keep their colour
MOVER_STAND_INS = {"ball": "wheel", "car": "van", "person": "dog"}
HELD_OUT_PAIRS = frozenset(
    (main, second) for i, main in enumerate(COLOURS) for j, second in enumerate(COLOURS) if (i + j) % 3 == 0
)


class SplitDecorator(Decorator):
    """A decorator that keeps to what its split is made of, and remembers what it used."""

    kinds = TEXTURES | PHOTO_TEXTURES

    def __init__(self, rng: Rng, split: str, lit_windows: bool = False, pictures: Pictures | None = None) -> None:
        super().__init__(rng)
        self.pictures = None if split == "test" else pictures
        self.builder.smooth = True
        self.held_out, self.lit_windows = split == "test", lit_windows
        self.used_textures: set[str] = set()
        self.from_pictures: set[int] = set()
        self.used_pairs: set[tuple[str, str]] = set()

    def texture(self, kind: str) -> str:
        """The kind itself, or in a held-out scene one that stands in for it."""
        return str(self.rng.choice(TEXTURE_STAND_INS[kind])) if self.held_out and kind in TEXTURE_STAND_INS else kind

    def thing(self, names: Sequence[str]) -> str:
        """An object's kind, of this split."""
        name = super().thing(names)
        return OBJECT_STAND_INS[name] if self.held_out else name

    def facade(self, colour: Array) -> int:
        """The material of a building's walls; at night many have light behind their windows."""
        if self.lit_windows and self.rng.random() < 0.7:
            return self.material("facade", 0.35 * colour, emission=0.35, second=LAMPLIGHT * self.rng.uniform(1.2, 2))
        return super().facade(colour)

    def pair(self, main: str, names: Sequence[str] | None) -> list[str]:
        """The colours among `names` that may go with `main` in this split; where there is none, among all."""
        fitting = [n for n in COLOURS if ((main, n) in HELD_OUT_PAIRS) == self.held_out]
        return [n for n in fitting if names is None or n in names] or fitting

    def material(
        self, kind: str, colour: Array, scale: float = 1.0, emission: float = 0.0, second: Array | None = None
    ) -> int:
        """As in any scene; half of the paintings are photographs."""
        if self.pictures and emission < 1 and self.rng.random() < PICTURE_SHARES.get(kind, 0.65):
            return self._picture(self.pictures, kind, colour, scale, emission)
        if kind == "painting" and emission == 0 and self.rng.random() < 0.5:
            kind = "photo"
        kind = self.texture(kind)
        self.used_textures.add(kind)
        return super().material(kind, colour, scale, emission, second)

    def _picture(self, pictures: Pictures, kind: str, colour: Array, scale: float, emission: float) -> int:
        """A material from a crop of a photo: as it is, its lightness in that colour, or between both."""
        rng = self.rng
        tile = pictures.tile(rng, *((0.6, 1.0) if kind in FITTED else (0.15, 0.6)))
        if kind not in FITTED:
            light = tile.mean(-1, keepdims=True)
            mean = max(float(light.mean()), 0.05)
            mix = rng.choice([0.0, 0.0, 1.0, rng.random()]) if kind not in LEAFY else rng.uniform(0.7, 1)
            tile = tile + mix * (colour * np.clip(light / mean, 0, 1.8) - tile)
            even = tile.mean((0, 1))
            tile = even + rng.uniform(0.25, 1) * (tile - even)
            tile = tile * (1 + rng.uniform(0, 0.3) * (rng.random((TILE, TILE, 1), np.float32) - 0.5))
            if rng.random() < 0.5:  # mirrored, so that it repeats without seams
                half = tile[::2, ::2]
                tile = np.concatenate([half, half[::-1]])
                tile = np.concatenate([tile, tile[:, ::-1]], 1)
        self.textures.append(tile)
        self.used_textures.add("picture")
        self.from_pictures.add(len(self.textures) - 1)
        fit = kind in FITTED or (kind in ("plaster", "stripes", "plaid") and rng.random() < 0.15)
        return self.builder.material(Material(len(self.textures) - 1, scale * rng.uniform(0.6, 2.0), emission, fit))

    def surface(
        self, kinds: list[str], names: list[str] | None = None, scale: float = 1.0, beside: str | None = None
    ) -> tuple[str, str, int]:
        """As in any scene, with a colour that may go with `beside`."""
        if beside is not None:
            names = self.pair(beside, names)
        kind, name, material = super().surface([self.texture(str(self.rng.choice(kinds)))], names, scale)
        if self.builder.palette[material].texture in self.from_pictures:
            kind = ""
            mean = self.textures[self.builder.palette[material].texture].mean((0, 1))
            name = min(COLOURS, key=lambda c: float(np.abs(np.array(COLOURS[c]) - mean).sum()))
        if beside is not None:
            self.used_pairs.add((beside, name))
        return kind, name, material
