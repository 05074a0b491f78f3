"""A probe that tells from frames what captions of the procedural worlds ask for: linear, and fitted on the spot."""

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

if TYPE_CHECKING:
    from gen3r.data.synthetic import WorldName

CLIPS, FRAMES, SIDE = 200, 3, 112  # of the training split that it is fitted on; pixels of the longer side
PIXELS = 28  # a side that frames are seen with, so that blur hardly counts
BANDS = 4  # from sky to ground
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
SHRINKAGE = 0.3  # of the covariance towards its diagonal


def asked_for(clip: Clip) -> dict[str, str]:
    """What a clip's caption asks for: the kind of "place", and the "colour" of floor, ground or road if it is named."""
    from gen3r.data.synthetic.decorator import COLOURS

    place = clip.attributes["place"] if clip.attributes else "room" if "room" in clip.caption else "plaza"
    surface = rf"\b({'|'.join(COLOURS)}) (?:[\w-]+ )?(?:floor|ground|plaza|road)\b"
    colour = re.search(surface, clip.caption)
    return {"place": place} | ({"colour": colour[1]} if colour else {})


def colour_bands(images: Tensor) -> Tensor:
    """Features [F, 60] of images [F, 3, H, W]: quantiles of log brightness and two log colour ratios, band by band."""
    small = F.adaptive_avg_pool2d(images, PIXELS)
    r, g, b = (small.double() + 0.03).log().unbind(1)  # ratios, so that exposure hardly counts
    opponents = torch.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], 1)
    bands = opponents.unflatten(2, (BANDS, -1)).flatten(3)  # [F, 3, BANDS, pixels]
    return torch.quantile(bands, bands.new_tensor(QUANTILES), -1).movedim(0, -1).flatten(1)


@dataclass(frozen=True)
class Discriminant:
    """A linear discriminant: the answer whose mean features are nearest, measured by the spread within the answers.

    weight: [D, C] and bias: [C] for C answers. commonest: the answer that ignores the frames.
    """

    answers: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    commonest: str

    @classmethod
    def fit(cls, features: Sequence[Tensor], truths: Sequence[str]) -> Self:
        """From features [F, D] of each clip and its true answer."""
        count = Counter(truths)
        answers = tuple(sorted(count))
        index = torch.tensor([answers.index(truth) for truth in truths])
        index = index.repeat_interleave(torch.tensor([len(x) for x in features]))
        x = torch.cat(list(features))
        means = torch.stack([x[index == i].mean(0) for i in range(len(answers))])
        covariance = (x - means[index]).mT @ (x - means[index]) / len(x)
        covariance = covariance.lerp(covariance.diagonal().diag(), SHRINKAGE) + 1e-6 * torch.eye(x.shape[1]).double()
        weight = torch.linalg.solve(covariance, means.mT)
        share = torch.tensor([count[answer] / len(truths) for answer in answers])
        return cls(answers, weight, share.log() - (means.mT * weight).sum(0) / 2, count.most_common(1)[0][0])

    def answer(self, features: Tensor) -> str:
        """The answer for a clip's features [F, D]."""
        return self.answers[int((features @ self.weight + self.bias).mean(0).argmax())]


@dataclass(frozen=True)
class Probe:
    """A discriminant for each thing that captions ask for."""

    discriminants: dict[str, Discriminant]

    @classmethod
    def fit(cls, clips: Iterable[Clip]) -> Self:
        """From clips and their captions."""
        seen = [(asked_for(clip), colour_bands(clip.images)) for clip in clips]
        names = {name: None for asked, _ in seen for name in asked}
        pairs = {name: [(x, asked[name]) for asked, x in seen if name in asked] for name in names}
        return cls({name: Discriminant.fit(*zip(*pairs[name], strict=True)) for name in names})

    def answers(self, images: Tensor) -> dict[str, str]:
        """What images [F, 3, H, W] of one scene show."""
        features = colour_bands(images)
        return {name: d.answer(features) for name, d in self.discriminants.items()}


def fitted_probe(world: "WorldName", height: int, width: int) -> Probe:
    """The probe of a world, fitted on clips of its training split of that shape, rendered small."""
    from gen3r.data.synthetic import render_clip

    size = [round(side * SIDE / max(height, width)) for side in (height, width)]
    seeds = tqdm(range(CLIPS), desc="fitting the probe", unit="clip")
    return Probe.fit(render_clip(seed, FRAMES, *size, split="train", world=world) for seed in seeds)
