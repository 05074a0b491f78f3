"""A probe that classifies what a scene shows of what captions of the procedural world ask for; fitted on the spot."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.scene import Scene

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CLIPS, FRAMES, SIDE = 400, 3, 56  # clips of the training split for fitting, their frames, and pixels of the longer side
PIXELS = 28  # per side after downsampling, so that blur hardly counts
BANDS = 4  # from top to bottom
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
GROUND = ("floor", "ground", "road")
SVM_C = 3.0


def asked_for(clip: Clip) -> dict[str, str]:
    """What a clip's caption asks for: the "place", and the "colour" of floor, ground or road if it names it."""
    assert clip.attributes is not None, "clips of the procedural world have attributes"
    asked = {"place": clip.attributes["place"]}
    for surface in clip.attributes["surfaces"]:
        if surface["part"] in GROUND and f"{surface['part']}" in clip.caption:
            asked["colour"] = surface["colour"]
    return asked


def colour_bands(images: Tensor) -> Tensor:
    """Features [60] of images [F, 3, H, W] in [0, 1] of one scene: quantiles of brightness and colour in four bands.

    They are of log brightness and of two log ratios of channels, so that exposure hardly counts.
    """
    r, g, b = (F.adaptive_avg_pool2d(images, PIXELS).double() + 0.03).log().unbind(1)
    opponents = torch.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], 1)
    bands = opponents.unflatten(2, (BANDS, -1)).transpose(0, 2).flatten(2)  # [BANDS, 3, F * rows * PIXELS]
    return torch.quantile(bands, bands.new_tensor(QUANTILES), -1).movedim(0, -1).flatten()


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


@dataclass(frozen=True)
class Probe:
    """A classifier per property that captions ask for."""

    classifiers: dict[str, Classifier]

    @classmethod
    def fit(cls, clips: Iterable[Clip]) -> Self:
        """Fits on clips and what their captions ask for."""
        pairs = [(colour_bands(clip.images), asked_for(clip)) for clip in clips]
        known = {name: [(x, asked[name]) for x, asked in pairs if name in asked] for name in ("place", "colour")}
        return cls({name: Classifier.fit(*zip(*found, strict=True)) for name, found in known.items()})

    def answers(self, scene: Clip | Scene) -> dict[str, str]:
        """What a scene shows."""
        features = colour_bands(scene.images)[None].numpy()
        return {name: str(found.machine.predict(features)[0]) for name, found in self.classifiers.items()}


def fitted_probe(height: int, width: int) -> Probe:
    """The probe, fitted on small clips of the training split with that aspect ratio."""
    size = [round(side * SIDE / max(height, width)) for side in (height, width)]
    seeds = tqdm(range(CLIPS), desc="fitting the probe", unit="clip")
    return Probe.fit(render_clip(seed, FRAMES, *size) for seed in seeds)
