"""Clips drawn from a weighted mixture of datasets: the same ones in every run, past scenes that cannot be read."""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gen3r.data.clips import ClipSampler
from gen3r.data.mixture import Mixture
from gen3r.data.records import Clip, take_frames
from gen3r.errors import InputError

if TYPE_CHECKING:
    from gen3r.data.readers.base import Reader

ATTEMPTS = 8  # scenes in a row that may be broken before the dataset counts as broken


class SampledClips(Dataset[Clip]):
    """`count` clips of datasets, by default an epoch: a `ClipSource`, and a map-style dataset for a `DataLoader`.

    Clip n depends on the datasets, the weights, the seed and n alone: never on ranks or workers. A scene that cannot
    be read is replaced by another one of its dataset, drawn by the same seed, with a warning that counts; `strict`
    raises instead.

    datasets: readers by name. weights: how often each dataset is drawn; by default as the published training does.

    Raises:
        InputError: as `Mixture`; when a clip is asked for: a scene cannot be read and `strict`, or eight in a row.
    """

    zero_is_sky = False  # where a dataset has no depth there may be anything

    def __init__(
        self,
        datasets: "Mapping[str, Reader]",
        sampler: ClipSampler,
        count: int | None = None,
        seed: int = 0,
        strict: bool = False,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.datasets, self.sampler, self.strict = dict(datasets), sampler, strict
        self.mixture = Mixture({name: len(reader) for name, reader in datasets.items()}, weights, seed)
        self.count = len(self.mixture) if count is None else count
        self.skipped: Counter[str] = Counter()  # scenes skipped in this process, by dataset

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.sampler.frames, self.sampler.height, self.sampler.width

    def fingerprint(self, numbers: range) -> str:
        """A hash of the datasets and scenes drawn, the seeds of their clips and the sampler's settings.

        It does not change with files that change under the same names.
        """
        draws = [self.mixture[number] for number in numbers]
        drawn = [(draw.dataset, self.datasets[draw.dataset].scenes[draw.scene], draw.seed) for draw in draws]
        return hashlib.sha256(json.dumps([asdict(self.sampler), drawn]).encode()).hexdigest()

    def __len__(self) -> int:
        return self.count

    def at_size(self, height: int, width: int) -> Self:
        """The same scenes in another size."""
        other = copy(self)
        other.sampler = replace(self.sampler, height=height, width=width)
        return other

    def __getitem__(self, number: int) -> Clip:
        return self._draw(number)

    def _draw(self, number: int, shown: Sequence[int] | None = None) -> Clip:
        if not 0 <= number < self.count:
            raise IndexError(f"there are {self.count} clips, and no clip {number}")
        draw = self.mixture[number]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.sampler(self.datasets[draw.dataset][draw.scene], np.random.default_rng(draw.seed), shown)
            except InputError as error:
                if self.strict:
                    raise
                self.skipped[draw.dataset] += 1
                warnings.warn(f"{draw.dataset}: {self.skipped[draw.dataset]} skipped so far; {error}", stacklevel=2)
            draw = self.mixture.instead(number, attempt)
        raise InputError(f"{ATTEMPTS} scenes of {draw.dataset} in a row cannot be read; run gen3r data check on it")

    def take(self, numbers: Sequence[int], index: Tensor) -> dict[str, Any]:
        """As `take_frames`; no other frames than these are read."""
        clips = [self._draw(number, shown.tolist()) for number, shown in zip(numbers, index, strict=True)]
        return take_frames(clips, torch.arange(index.shape[1]).expand_as(index))
