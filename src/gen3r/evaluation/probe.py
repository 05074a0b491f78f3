"""A probe that classifies what a scene shows of what captions of the procedural worlds ask for; fitted on the spot."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gen3r.data.records import Clip
from gen3r.geometry.points import unproject
from gen3r.scene import Scene

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from gen3r.data.synthetic import WorldName

CLIPS = {"small": 800, "large": 350}  # clips of the training split for fitting; large ones take longer to render
FRAMES, SIDE = 3, 56  # per clip; pixels of the longer side
PIXELS = 28  # per side after downsampling, so that blur hardly counts
BANDS = 4  # from sky to ground
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
UPRIGHT = 0.8  # least cosine between the normal of a floor and the upward axis of the image
LEVEL = 0.2  # how far a floor may rise above its lowest points, in the camera's height above them
LEAST, LOWEST = 20, 4  # with fewer floor pixels in all frames, the lowest rows of each frame count as floor
SVM_C = 3.0


def asked_for(clip: Clip) -> dict[str, str]:
    """What a clip's caption asks for: the "place", and the "colour" of floor, ground or road if it is named."""
    from gen3r.data.synthetic.decorator import COLOURS

    place = clip.attributes["place"] if clip.attributes else "room" if "room" in clip.caption else "plaza"
    surface = rf"\b({'|'.join(COLOURS)}) (?:[\w-]+ )?(?:floor|ground|plaza|road)\b"
    colour = re.search(surface, clip.caption)
    return {"place": place} | ({"colour": colour[1]} if colour else {})


def opponents(images: Tensor) -> Tensor:
    """Log brightness and two log colour ratios [F, 3, PIXELS, PIXELS] of images [F, 3, H, W] in [0, 1]."""
    small = F.adaptive_avg_pool2d(images, PIXELS)
    r, g, b = (small.double() + 0.03).log().unbind(1)  # ratios, so that exposure hardly counts
    return torch.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], 1)


def colour_bands(images: Tensor) -> Tensor:
    """Features [60] of images [F, 3, H, W] of one scene: quantiles of their `opponents`, band by band."""
    bands = opponents(images).unflatten(2, (BANDS, -1)).transpose(0, 2)  # [BANDS, 3, F, rows, PIXELS]
    return _quantiles(bands.flatten(2)).flatten()


def floor_pixels(depth: Tensor, K_px: Tensor) -> Tensor:
    """The floor in z-depth [F, H, W], bool [F, PIXELS, PIXELS]: the lowest surfaces of each frame that face up.

    K_px: intrinsics [F, 3, 3]. Up is nearly the upward axis of the image: cameras hardly roll, and look ahead.
    """
    height, width = depth.shape[-2:]
    small = F.interpolate(depth[:, None].float(), (PIXELS, PIXELS), mode="nearest-exact")[:, 0]
    K_px = K_px * K_px.new_tensor([[PIXELS / width], [PIXELS / height], [1]])
    points = unproject(small, torch.eye(4, device=depth.device).expand(len(depth), 4, 4), K_px)
    down, across = torch.gradient(points, dim=[1, 2])
    normals = F.normalize(torch.linalg.cross(down, across), dim=-1)  # towards the camera
    level = (normals[..., 1] < -UPRIGHT) & (small > 0)
    up = F.normalize(normals.where(level[..., None], torch.nan).flatten(1, 2).nanmedian(1).values, dim=-1)
    above = (points * up[:, None, None]).sum(-1)  # the camera
    lowest = above.where(level, torch.nan).flatten(1).nanquantile(0.05, 1)[:, None, None]
    return level & (above < lowest + LEVEL * lowest.abs())


def floor_colours(scene: Clip | Scene) -> Tensor:
    """Features [15] of a scene: quantiles of the `opponents` of its floor, or of the lowest rows without a floor."""
    floor = floor_pixels(scene.depth, scene.cameras.K_px)
    if floor.sum() < LEAST:
        floor[:, -LOWEST:] = True
    return _quantiles(opponents(scene.images).transpose(0, 1)[:, floor]).flatten()


def _quantiles(x: Tensor) -> Tensor:
    """Of x [..., n]: [..., 5]."""
    return torch.quantile(x, x.new_tensor(QUANTILES), -1).movedim(0, -1)


@dataclass(frozen=True)
class Classifier:
    """A support vector machine on standardised features. commonest: the most frequent answer."""

    machine: "Pipeline"
    commonest: str

    @classmethod
    def fit(cls, features: Sequence[Tensor], truths: Sequence[str]) -> Self:
        """Fits on the features [D] and the true answer of each clip; at least two answers must occur."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        machine = make_pipeline(StandardScaler(), SVC(C=SVM_C)).fit(torch.stack([*features]).numpy(), truths)
        return cls(machine, Counter(truths).most_common(1)[0][0])

    @property
    def answers(self) -> tuple[str, ...]:
        """All possible answers."""
        return tuple(self.machine.classes_.tolist())

    def answer(self, features: Tensor) -> str:
        """The answer for a clip's features [D]."""
        return str(self.machine.predict(features[None].numpy())[0])


@dataclass(frozen=True)
class Probe:
    """A classifier per property: "place" from the whole scene, "colour" from its floor and place."""

    classifiers: dict[str, Classifier]

    @classmethod
    def fit(cls, clips: Iterable[Clip]) -> Self:
        """Fits on clips and their captions."""
        features = [(asked_for(clip), colour_bands(clip.images), floor_colours(clip)) for clip in clips]
        place = Classifier.fit([bands for _, bands, _ in features], [asked["place"] for asked, _, _ in features])
        named = [(asked, floor) for asked, _, floor in features if "colour" in asked]
        floors = [_in_place(floor, asked["place"], place.answers) for asked, floor in named]
        return cls({"place": place, "colour": Classifier.fit(floors, [asked["colour"] for asked, _ in named])})

    def answers(self, scene: Clip | Scene) -> dict[str, str]:
        """What a scene shows. Its depth, in any unit, and its intrinsics locate the floor."""
        places, colours = self.classifiers["place"], self.classifiers["colour"]
        place = places.answer(colour_bands(scene.images))
        return {"place": place, "colour": colours.answer(_in_place(floor_colours(scene), place, places.answers))}


def _in_place(features: Tensor, place: str, places: Sequence[str]) -> Tensor:
    """Features [D] and the one-hot place, one of P `places`: [D + P]."""
    return torch.cat([features, features.new_tensor([float(place == other) for other in places])])


def fitted_probe(world: "WorldName", height: int, width: int) -> Probe:
    """The probe of a world, fitted on small clips of its training split with that aspect ratio."""
    from gen3r.data.synthetic import render_clip

    size = [round(side * SIDE / max(height, width)) for side in (height, width)]
    seeds = tqdm(range(CLIPS[world]), desc="fitting the probe", unit="clip")
    return Probe.fit(render_clip(seed, FRAMES, *size, split="train", world=world) for seed in seeds)
