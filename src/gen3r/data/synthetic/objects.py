"""Furniture, street furniture, plants, vehicles and people, each a table of simple shapes."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from gen3r.data.synthetic.meshes import Array, MeshBuilder, turned

# The usual width, depth and height of each [m], and its shapes: x, y, z of the middle (of cones and roofs: the base)
# over the ground, and their extents, in units of that size. The front is at -y. Shapes after | stand on both sides,
# those after + at four corners; those before * have the second of two looks.
OBJECTS = {
    "table": "1.3 .9 .75: box 0 0 .95 1 1 .1; +box* .44 .42 .45 .08 .08 .9",
    "sofa": "1.8 .9 .85: box 0 0 .27 1 1 .54; box 0 .38 .6 1 .24 .8; |box* .45 0 .4 .1 1 .78; "
        "|box .21 -.08 .58 .4 .7 .12",
    "shelf": "1 .4 1.9: box 0 .45 .5 1 .1 1; |box* .48 0 .5 .05 1 1; box* 0 0 .03 1 1 .026; box* 0 0 .34 1 1 .026; "
        "box* 0 0 .66 1 1 .026; box* 0 0 .97 1 1 .026; box -.1 .05 .14 .5 .6 .2; box 0 .05 .45 .5 .6 .2; "
        "box .1 .05 .77 .5 .6 .2",
    "bed": "1.5 2 .6: box* 0 0 .25 1 1 .5; box 0 -.05 .6 .96 .9 .3; box* 0 .48 .8 1 .04 1.6; "
        "|box* .24 .35 .8 .38 .18 .2",
    "cabinet": "1 .5 1: box 0 0 .5 1 1 1; |box* .24 -.5 .5 .42 .08 .86",
    "chair": ".5 .5 .95: box 0 0 .48 1 1 .07; box 0 .46 .75 1 .12 .5; +box* .43 .43 .23 .12 .12 .46",
    "lamp": ".5 .5 1.6: cylinder* 0 0 .45 .07 0 .9; cylinder* 0 0 .02 .8 0 .04; cone 0 0 .75 1 0 .28",
    "plant": ".5 .5 1.1: cylinder* 0 0 .15 .7 0 .3; stone .22 0 .536 .72 .72 .432; "
        "stone -.066 .209 .62 .78 .78 .468; stone -.132 -.176 .704 .84 .84 .504",
    "counter": "2.2 .6 .92: box 0 .03 .48 1 .94 .96; box* 0 0 .98 1.02 1.04 .05; |box .25 -.46 .45 .46 .06 .8; "
        "box 0 .22 2 1 .56 .75",
    "screen": "1.2 .3 1.2: box* 0 0 .15 1 1 .3; box 0 .1 .68 .95 .15 .6",
    "fridge": ".7 .7 1.8: box 0 0 .5 1 1 1; box 0 -.51 .67 .96 .04 .6; box* -.38 -.54 .6 .05 .06 .3",
    "bathtub": "1.7 .75 .6: box 0 0 .15 1 1 .3; |box .46 0 .6 .08 1 .8; box 0 -.45 .6 1 .1 .8; box 0 .45 .6 1 .1 .8; "
        "cylinder* .4 0 1.1 .04 0 .4",
    "staircase": "1 2.4 1.6: box 0 -.4 .1 1 .2 .2; box 0 -.2 .2 1 .2 .4; box 0 0 .3 1 .2 .6; box 0 .2 .4 1 .2 .8; "
        "box 0 .4 .5 1 .2 1; |box* .48 .3 1 .04 .04 .9",
    "bin": ".5 .5 .9: cylinder 0 0 .5 1 0 1; cylinder* 0 0 1 1.1 0 .08",
    "fence": "3 .1 1.1: |box* .48 0 .5 .04 1 1; |box .16 0 .45 .04 .5 .9; box 0 0 .8 1 .5 .1; box 0 0 .35 1 .5 .1",
    "desk": "1.4 .7 .76: box 0 0 .96 1 1 .08; |box* .36 0 .46 .24 .9 .92; box* 0 .3 1.26 .4 .07 .52",
    "armchair": ".95 .9 .95: box 0 0 .25 .7 1 .3; box 0 .4 .6 .8 .2 .8; |box .42 0 .32 .16 .95 .64",
    "rack": "1.1 .45 1.8: +box* .47 .44 .5 .05 .1 1; box* 0 0 .1 1 1 .02; box* 0 0 .38 1 1 .02; "
        "box* 0 0 .67 1 1 .02; box* 0 0 .95 1 1 .02; box -.28 0 .19 .22 .7 .14; box .04 0 .19 .22 .7 .14; "
        "box .3 0 .19 .22 .7 .14; box -.28 0 .47 .22 .7 .14; box .04 0 .47 .22 .7 .14; box .3 0 .47 .22 .7 .14; "
        "box -.28 0 .76 .22 .7 .14; box .04 0 .76 .22 .7 .14; box .3 0 .76 .22 .7 .14",
    "bunk bed": "1.1 2 1.7: +box* .48 .48 .5 .07 .04 1; box* 0 0 .25 1 1 .05; box* 0 0 .72 1 1 .05; "
        "box 0 0 .32 .92 .94 .1; box 0 0 .79 .92 .94 .1",
    "wardrobe": "1.2 .6 1.95: box 0 0 .5 1 1 1; box* 0 0 1.02 1.08 1.1 .04; box* 0 -.5 .5 .03 .08 .9; "
        "|box* .08 -.52 .5 .025 .08 .1",
    "stool": ".45 .45 .7: cylinder 0 0 .93 1 0 .14; cylinder* 0 0 .5 .22 0 .86; cylinder* 0 0 .03 .8 0 .06",
    "lantern": ".4 .4 1.1: box* 0 0 .02 1 1 .04; box* 0 0 1 1 1 .04; blob 0 0 .55 .84 .84 .43; "
        "cylinder* 0 0 .5 .15 0 1",
    "cactus": ".6 .6 1.2: cylinder* 0 0 .12 .8 0 .25; cylinder 0 0 .6 .4 0 .8; |blob .3 0 .55 .5 .2 .1; "
        "|cylinder .45 0 .66 .2 0 .28",
    "tree": "2.2 2.2 3.6: cylinder* 0 0 .28 .13 0 .56; stone .22 0 .643 .72 .72 .396; "
        "stone -.066 .209 .72 .78 .78 .429; stone -.132 -.176 .797 .84 .84 .462",
    "pine": "2 2 3.7: cylinder* 0 0 .11 .12 0 .22; cone 0 0 .19 1 0 .373; cone 0 0 .36 .8 0 .348; "
        "cone 0 0 .53 .6 0 .324; cone 0 0 .7 .4 0 .3",
    "bench": "1.8 .6 .8: box 0 0 .27 1 1 .54; box 0 .38 .6 1 .24 .8; |box* .45 0 .4 .1 1 .78",
    "lamp post": ".5 .5 3.75: cylinder* 0 0 .45 .28 0 .9; blob 0 0 .933 1 1 .134",
    "monument": "1.4 1.4 3.2: box* 0 0 .12 1 1 .25; cylinder 0 0 .53 .5 0 .56; blob 0 0 .88 .57 .57 .25",
    "statue": "1 1 2.9: box* 0 0 .17 1 1 .34; |blob .12 0 .48 .2 .22 .32; blob 0 0 .74 .5 .34 .28; "
        "|blob .3 -.08 .72 .14 .2 .26; blob 0 0 .94 .24 .26 .12",
    "kiosk": "2.2 1.9 2.4: box 0 0 .46 .82 .8 .92; box* 0 0 .96 1 1 .08",
    "planter": "1.2 1.2 1.35: box* 0 0 .22 1 1 .44; stone .202 0 .488 .662 .662 .576; "
        "stone -.061 .192 .6 .718 .718 .624; stone -.121 -.162 .712 .773 .773 .672",
    "car": "1.75 4.1 1.47: box 0 0 .42 1 1 .41; box* 0 -.06 .78 .86 .51 .34; box 0 -.06 .97 .83 .44 .05; "
        "+wheel* .46 .32 .245 .14 0 .49",
    "rock": "1.6 1.2 .65: stone 0 0 .2 1 1 1.5; stone .44 .25 .05 .44 .6 .9",
    "bush": "1.6 1.6 .9: stone .22 0 .42 .56 .56 1; stone -.1 .19 .45 .64 .6 1.1; stone -.1 -.2 .4 .7 .66 .95",
    "hut": "4 3.2 3.8: box 0 0 .25 1 1 .7; roof* 0 0 .6 1.15 1.19 .4; box* 0 -.5 .25 .22 .03 .5; "
        "|box* .3 -.5 .35 .17 .02 .18",
    "palm": "3 3 3.5: cylinder* 0 0 .46 .08 0 .92; |blob .25 0 .86 .55 .14 .03; |blob .17 -.22 .88 .2 .5 .04; "
        "|blob .17 .22 .88 .2 .5 .04",
    "poplar": "1.1 1.1 4.6: cylinder* 0 0 .12 .2 0 .24; stone 0 0 .57 1 1 .86",
    "picnic table": "1.8 1.7 .78: box 0 0 .96 1 .47 .09; box 0 -.41 .58 1 .18 .08; box 0 .41 .58 1 .18 .08; "
        "|box* .33 0 .47 .06 .9 .1; |box* .33 0 .47 .06 .09 .92",
    "street lantern": ".4 .4 4.05: box* 0 0 .06 1 1 .12; cylinder* 0 0 .43 .3 0 .74; box 0 0 .865 .8 .8 .12; "
        "cone* 0 0 .925 1.7 0 .075",
    "obelisk": "1.6 1.6 4.3: box* 0 0 .05 1 1 .1; box* 0 0 .14 .75 .75 .1; box 0 0 .54 .31 .31 .72; "
        "cone 0 0 .9 .43 0 .1",
    "tent": "2.6 2.6 3: +box* .4 .4 .335 .03 .03 .67; cone 0 0 .66 1.25 0 .34; box* 0 0 .15 .6 .3 .3",
    "hedge": "2.4 .8 1.1: box 0 0 .5 .92 .75 1; box* 0 0 .05 1 1 .1",
    "van": "1.95 4.7 2.35: box 0 -.1 .57 1 .77 .85; box 0 .4 .38 .97 .22 .47; box* 0 .37 .72 .87 .12 .26; "
        "+wheel* .46 .32 .153 .12 0 .3",
    "cairn": "1.2 1 1.6: stone .02 0 .12 1 1 .3; stone* -.02 0 .36 .75 .75 .27; stone .02 0 .56 .53 .53 .24; "
        "stone* -.02 0 .72 .33 .33 .21",
    "reeds": ".8 .8 1.25: cone .37 0 0 .22 0 .8; cone .2 .311 0 .22 0 .9; cone -.154 .336 0 .22 0 1; "
        "cone -.366 .052 0 .22 0 .8; cone -.242 -.28 0 .22 0 .9; cone .105 -.355 0 .22 0 1; "
        "cone .355 -.103 0 .22 0 .8",
    "tower": "3.4 3.4 7.8: cylinder 0 0 .34 .76 0 .78; cylinder* 0 0 .73 .9 0 .06; cone* 0 0 .75 1 0 .25",
    "ball": ".7 .7 .7: blob 0 0 .5 1 1 1",
    "person": ".6 .5 1.78: |blob* .18 0 .25 .3 .4 .52; blob 0 0 .66 .8 .64 .42; |blob .42 .1 .62 .2 .26 .36; "
        "blob* 0 0 .93 .42 .5 .15",
    "dog": ".4 1.2 .95: blob 0 0 .6 .85 .75 .38; blob* 0 .45 .82 .55 .33 .28; +cylinder* .25 .25 .25 .25 0 .5; "
        "blob 0 -.46 .78 .2 .27 .2",
}  # fmt: skip
ROOM_THINGS = ("table", "table", "sofa", "shelf", "bed", "cabinet", "chair", "chair", "lamp", "plant", "counter",
               "screen", "fridge", "bathtub", "staircase")  # fmt: skip
GREEN = ("tree", "pine", "planter", "bush", "palm", "poplar", "hedge", "reeds")
TOPS = {"table": 1.0, "desk": 1.0, "cabinet": 1.0, "shelf": 1.0, "sofa": 0.64, "bed": 0.75, "counter": 1.0,
        "armchair": 0.4, "wardrobe": 1.04, "screen": 0.3}  # fmt: skip  # where things lie, as a part of the height

# What a held-out scene has in the place of what training scenes have.
STAND_INS = {
    "table": "desk", "sofa": "armchair", "shelf": "rack", "bed": "bunk bed", "cabinet": "wardrobe", "chair": "stool",
    "lamp": "lantern", "plant": "cactus", "counter": "wardrobe", "screen": "desk", "fridge": "wardrobe",
    "bathtub": "bunk bed", "staircase": "rack", "tree": "palm", "pine": "poplar", "bench": "picnic table",
    "bin": "cairn", "lamp post": "street lantern", "monument": "obelisk", "statue": "obelisk", "kiosk": "tent",
    "planter": "hedge", "fence": "hedge", "car": "van", "rock": "cairn", "bush": "reeds", "hut": "tower",
    "ball": "dog", "person": "dog",
}  # fmt: skip


@lru_cache
def shapes(name: str) -> tuple[Array, list[tuple[str, str, Array, Array, int]]]:
    """An object's usual size [3], and of each shape its sides, kind, middle [3], extents [3] and look."""
    size, rows = OBJECTS[name].split(": ")
    parsed = []
    for row in rows.split("; "):
        kind, *numbers = row.split()
        middle, extent = np.array(numbers, float).reshape(2, 3)
        parsed.append((kind[0], kind.strip("|+*"), middle, extent, int(kind.endswith("*"))))
    return np.array(size.split(), float), parsed


def build(b: MeshBuilder, name: str, at: Array, size: Array, yaw: float, looks: Sequence[int]) -> None:
    """Adds an object of that size [3] standing at a place [3], turned by `yaw`, in its two looks."""
    turn = turned(yaw)
    for sides, kind, middle, extent, look in shapes(name)[1]:
        (w, d, h), mark = extent * size, looks[look]
        for x, y in {"|": ((1, 1), (-1, 1)), "+": ((1, 1), (-1, 1), (1, -1), (-1, -1))}.get(sides, ((1, 1),)):
            spot = at + turn @ (size * middle * [x, y, 1])
            match kind:
                case "box":
                    b.box(spot, [w, d, h], mark, yaw)
                case "cylinder":
                    b.cylinder(spot, w / 2, h, mark)
                case "cone":
                    b.cone(spot, w / 2, h, mark)
                case "blob":
                    b.blob(spot, np.array([w, d, h]) / 2, mark, yaw)
                case "stone":  # no two alike
                    b.blob(spot, np.array([w, d, h]) / 2, mark, yaw + float(spot.sum()), 0.22)
                case "roof":
                    b.roof(spot, [w, d, h], mark, yaw)
                case "wheel":
                    axle = turn @ [w / 2, 0, 0]
                    b.pipe(spot - axle, spot + axle, h / 2, mark)
