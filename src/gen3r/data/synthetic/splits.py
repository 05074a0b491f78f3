"""What the training scenes of the large world are made of, and what is kept for its held-out scenes alone.

Every kind of texture, object and mover that a place asks for is a training kind; in a held-out scene a kind of the
same use stands in for it. Pairs of colours on the same object, or of walls and floor, are divided too.
"""

from collections.abc import Sequence

from gen3r.data.synthetic.decorator import COLOURS, Decorator
from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.photo_textures import PHOTO_TEXTURES
from gen3r.data.synthetic.textures import TEXTURES, Rng
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
MOVER_STAND_INS = {"ball": "wheel", "car": "van", "person": "dog"}
HELD_OUT_PAIRS = frozenset(
    (main, second) for i, main in enumerate(COLOURS) for j, second in enumerate(COLOURS) if (i + j) % 3 == 0
)


class SplitDecorator(Decorator):
    """A decorator that keeps to what its split is made of, and remembers what it used."""

    kinds = TEXTURES | PHOTO_TEXTURES

    def __init__(self, rng: Rng, split: str, lit_windows: bool = False) -> None:
        super().__init__(rng)
        self.builder.smooth = True
        self.held_out, self.lit_windows = split == "test", lit_windows
        self.used_textures: set[str] = set()
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
        if kind == "painting" and emission == 0 and self.rng.random() < 0.5:
            kind = "photo"
        kind = self.texture(kind)
        self.used_textures.add(kind)
        return super().material(kind, colour, scale, emission, second)

    def surface(
        self, kinds: list[str], names: list[str] | None = None, scale: float = 1.0, beside: str | None = None
    ) -> tuple[str, str, int]:
        """As in any scene, with a colour that may go with `beside`."""
        if beside is not None:
            names = self.pair(beside, names)
        kind, name, material = super().surface([self.texture(str(self.rng.choice(kinds)))], names, scale)
        if beside is not None:
            self.used_pairs.add((beside, name))
        return kind, name, material
