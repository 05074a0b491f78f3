"""A probe that tells from a scene what captions of the procedural worlds ask for; fitted on the spot."""

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

CLIPS = {"small": 800, "large": 350}  # of the training split that it is fitted on; a large one takes longer to render
FRAMES, SIDE = 3, 56  # of each; pixels of the longer side
PIXELS = 28  # a side that scenes are seen with, so that blur hardly counts
BANDS = 4  # from sky to ground
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
UPRIGHT = 0.8  # what faces up: the cosine between its normal and the picture's upward axis
LEVEL = 0.2  # how far above the lowest of that the floor may reach, in the camera's height above it
LEAST, LOWEST = 20, 4  # with fewer pixels of floor in all frames together, it is the lowest rows of each
SLACK = 3.0  # the C of the support vector machines


def asked_for(clip: Clip) -> dict[str, str]:
    """What a clip's caption asks for: the kind of "place", and the "colour" of floor, ground or road if it is named."""
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
    """Where z-depth [F, H, W] shows floor, bool [F, PIXELS, PIXELS]: what faces up, and the lowest of it in each frame.

    K_px: intrinsics [F, 3, 3]. Up is nearly the picture's: cameras hardly roll, and look ahead rather than down.
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
    """Features [15] of a scene: quantiles of the `opponents` of its floor, or of the lowest rows if it shows none."""
    floor = floor_pixels(scene.depth, scene.cameras.K_px)
    if floor.sum() < LEAST:
        floor[:, -LOWEST:] = True
    return _quantiles(opponents(scene.images).transpose(0, 1)[:, floor]).flatten()


def _quantiles(x: Tensor) -> Tensor:
    """Of x [..., n]: [..., 5]."""
    return torch.quantile(x, x.new_tensor(QUANTILES), -1).movedim(0, -1)


@dataclass(frozen=True)
class Classifier:
    """A support vector machine on standardized features. commonest: the answer that ignores them."""

    machine: "Pipeline"
    commonest: str

    @classmethod
    def fit(cls, features: Sequence[Tensor], truths: Sequence[str]) -> Self:
        """From the features [D] of each clip and its true answer; there must be two answers or more."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        machine = make_pipeline(StandardScaler(), SVC(C=SLACK)).fit(torch.stack([*features]).numpy(), truths)
        return cls(machine, Counter(truths).most_common(1)[0][0])

    @property
    def answers(self) -> tuple[str, ...]:
        """All that it may answer."""
        return tuple(self.machine.classes_.tolist())

    def answer(self, features: Tensor) -> str:
        """The answer for a clip's features [D]."""
        return str(self.machine.predict(features[None].numpy())[0])


@dataclass(frozen=True)
class Probe:
    """A classifier for each thing that captions ask for: "place" by all of a scene, "colour" by its floor and place."""

    classifiers: dict[str, Classifier]

    @classmethod
    def fit(cls, clips: Iterable[Clip]) -> Self:
        """From clips and their captions."""
        seen = [(asked_for(clip), colour_bands(clip.images), floor_colours(clip)) for clip in clips]
        place = Classifier.fit([bands for _, bands, _ in seen], [asked["place"] for asked, _, _ in seen])
        named = [(asked, floor) for asked, _, floor in seen if "colour" in asked]
        floors = [_in_place(floor, asked["place"], place.answers) for asked, floor in named]
        return cls({"place": place, "colour": Classifier.fit(floors, [asked["colour"] for asked, _ in named])})

    def answers(self, scene: Clip | Scene) -> dict[str, str]:
        """What a scene shows, by its frames, and by its depth and intrinsics, in any unit, that find the floor."""
        places, colours = self.classifiers["place"], self.classifiers["colour"]
        place = places.answer(colour_bands(scene.images))
        return {"place": place, "colour": colours.answer(_in_place(floor_colours(scene), place, places.answers))}


def _in_place(features: Tensor, place: str, places: Sequence[str]) -> Tensor:
    """Features [D] with the place, one of P `places`, as further ones: [D + P]."""
    return torch.cat([features, features.new_tensor([float(place == other) for other in places])])


def fitted_probe(world: "WorldName", height: int, width: int) -> Probe:
    """The probe of a world, fitted on clips of its training split of that shape, rendered small."""
    from gen3r.data.synthetic import render_clip

    size = [round(side * SIDE / max(height, width)) for side in (height, width)]
    seeds = tqdm(range(CLIPS[world]), desc="fitting the probe", unit="clip")
    return Probe.fit(render_clip(seed, FRAMES, *size, split="train", world=world) for seed in seeds)
