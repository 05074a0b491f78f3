"""Textures from photographs that scikit-image and scikit-learn ship in their wheels under free licences."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from PIL import Image

from gen3r.data.synthetic.textures import TILE, Array, Rng


@dataclass(frozen=True)
class Photo:
    """A photograph in a package, the package's word on its licence, and the texture that it is for."""

    package: str
    path: str
    licence: str
    texture: str


PHOTOS = {
    "chelsea": Photo("skimage", "data/chelsea.png", "CC0, Stefan van der Walt", "photo"),
    "coffee": Photo("skimage", "data/coffee.png", "CC0, Rachel Michetti", "photo"),
    "rocket": Photo("skimage", "data/rocket.jpg", "public domain, SpaceX", "photo"),
    "flower": Photo("sklearn", "datasets/images/flower.jpg", "CC BY 2.0, see the package's README", "photo"),
    "grass": Photo("skimage", "data/grass.png", "CC0", "lawn"),
    "gravel": Photo("skimage", "data/gravel.png", "CC0, CC0Textures Gravel04", "gravel"),
    "brick": Photo("skimage", "data/brick.png", "CC0, CC0Textures Bricks25", "paving"),
    "china": Photo("sklearn", "datasets/images/china.jpg", "CC BY 2.0, danielbuechele", "other photo"),
    "retina": Photo("skimage", "data/retina.jpg", "CC0, Mikael Häggström", "other photo"),
    "tissue": Photo("skimage", "data/ihc.png", "no known copyright restrictions", "scatter"),
}
FRAME = 0.05  # of an image's side


@lru_cache
def _photo(name: str) -> Image.Image:
    """The photo, its shorter side three tiles long."""
    photo = PHOTOS[name]
    with Image.open(str(files(photo.package) / photo.path)) as opened:
        picture = opened.convert("RGB")
    scale = 3 * TILE / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BOX)


def _crop(rng: Rng, names: tuple[str, ...], least: float) -> Array:
    """A square crop [TILE, TILE, 3] in [0, 1], at least that part of the photo's shorter side."""
    photo = _photo(str(rng.choice(names)))
    side = min(photo.size) * rng.uniform(least, 1)
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    crop = photo.resize((TILE, TILE), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=2)
    return np.asarray(crop, np.float64) / 255


def _picture(texture: str) -> Callable[[Rng, Array, Array], Array]:
    """A crop in a frame of `a`."""
    names = tuple(name for name, photo in PHOTOS.items() if photo.texture == texture)

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        edge = np.minimum(np.arange(TILE), np.arange(TILE)[::-1]) < FRAME * TILE
        return np.where((edge[:, None] | edge)[..., None], a, _crop(rng, names, 0.5))

    return draw


def _ground(texture: str) -> Callable[[Rng, Array, Array], Array]:
    """The lightness of a crop, in the colour `a`; mirrored so that the tile repeats without seams."""
    names = tuple(name for name, photo in PHOTOS.items() if photo.texture == texture)

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        half = _crop(rng, names, 0.7)[::2, ::2].mean(-1, keepdims=True)
        shade = np.clip(1 + 0.25 * (half - half.mean()) / max(half.std(), 1e-3), 0.3, 1.8)
        shade = np.concatenate([shade, shade[::-1]])
        return a * np.concatenate([shade, shade[:, ::-1]], 1)

    return draw


PHOTO_TEXTURES = {
    "photo": _picture("photo"), "lawn": _ground("lawn"), "gravel": _ground("gravel"), "paving": _ground("paving"),
    "other photo": _picture("other photo"), "scatter": _ground("scatter"),
}  # fmt: skip
