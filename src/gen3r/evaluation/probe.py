"""A probe that says whether a scene is indoors or outdoors, as captions ask for; fitted on the spot."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gen3r.data.records import Clip
from gen3r.data.synthetic import render_clip
from gen3r.data.synthetic.options import INDOORS
from gen3r.scene import Scene

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CLIPS, FRAMES, SIDE = 400, 3, 56  # clips of the training split for fitting, their frames, and pixels of the longer side
PIXELS = 28  # per side after downsampling, so that blur hardly counts
BANDS = 4  # from top to bottom
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
FARTHEST = 30.0  # in median depths; the sky is as far


def asked_for(clip: Clip) -> str:
    """Whether a clip's caption asks for a place "indoors" or "outdoors"."""
    assert clip.attributes is not None, "clips of the procedural world have attributes"
    return "indoors" if clip.attributes["place"] in INDOORS else "outdoors"


def scene_features(images: Tensor, depth: Tensor) -> Tensor:
    """Features [80] of a scene: quantiles of log brightness, two log colour ratios and log depth in four bands.

    images: [F, 3, H, W] in [0, 1]. depth: [F, H, W] in any unit, 0 in the sky. Exposure and unit hardly count.
    """
    r, g, b = (F.adaptive_avg_pool2d(images, PIXELS).double() + 0.03).log().unbind(1)
    small = F.interpolate(depth[:, None].double(), (PIXELS, PIXELS), mode="nearest-exact")[:, 0]
    relative = small / small[small > 0].median()
    far = relative.where(small > 0, FARTHEST).clamp(1 / FARTHEST, FARTHEST).log()
    maps = torch.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b, far], 1)
    bands = maps.unflatten(2, (BANDS, -1)).transpose(0, 2).flatten(2)  # [BANDS, 4, F * rows * PIXELS]
    return torch.quantile(bands, bands.new_tensor(QUANTILES), -1).movedim(0, -1).flatten()


@dataclass(frozen=True)
class Probe:
    """A support vector machine on standardised features. commonest: the most frequent answer."""

    machine: "Pipeline"
    commonest: str

    @classmethod
    def fit(cls, clips: Iterable[Clip]) -> Self:
        """Fits on clips and what their captions ask for; both answers must occur."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        features, truths = zip(*((scene_features(c.images, c.depth), asked_for(c)) for c in clips), strict=True)
        machine = make_pipeline(StandardScaler(), SVC()).fit(torch.stack(features).numpy(), truths)
        return cls(machine, Counter(truths).most_common(1)[0][0])

    def answer(self, scene: Clip | Scene) -> str:
        """What a scene shows."""
        return str(self.machine.predict(scene_features(scene.images, scene.depth)[None].numpy())[0])


def fitted_probe(height: int, width: int) -> Probe:
    """The probe, fitted on small clips of the training split with that aspect ratio."""
    size = [round(side * SIDE / max(height, width)) for side in (height, width)]
    seeds = tqdm(range(CLIPS), desc="fitting the probe", unit="clip")
    return Probe.fit(render_clip(seed, FRAMES, size[0], size[1]) for seed in seeds)
