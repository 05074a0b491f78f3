"""Numbered clips: the same ones whenever they are asked for, with a hash that tells whether they still are."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from gen3r.data.clips import ClipSampler
from gen3r.data.readers.base import Reader
from gen3r.data.records import Clip, ClipRecord, take_frames
from gen3r.data.stream import ClipStream


class ClipSource(Protocol):
    """Clips by number; `ClipShards` and `SampledClips` are such."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        ...

    @property
    def zero_is_sky(self) -> bool:
        """Whether depth is 0 in the sky and nowhere else, as in the small world."""
        ...

    def fingerprint(self, numbers: range) -> str:
        """What these clips are, in one word, without reading them whole."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Clip: ...

    def take(self, numbers: Sequence[int], index: Tensor) -> dict[str, Any]:
        """The frames of several clips at the places [B, F], as `take_frames`."""
        ...


@dataclass(frozen=True)
class Scenes:
    """Some of a dataset's scenes by number."""

    reader: Reader
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> ClipRecord:
        return self.reader.read(self.names[number])


class SampledClips:
    """`count` clips drawn from datasets by name, mixed with the published weights; the seed decides which.

    By default an epoch: of one dataset, one clip a scene. Errors as `ClipStream`.
    """

    zero_is_sky = False  # what datasets leave out may be anything

    def __init__(
        self,
        datasets: Mapping[str, Scenes],
        sampler: ClipSampler,
        count: int | None = None,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        self.datasets, self.sampler = dict(datasets), sampler
        self.stream = ClipStream(datasets, sampler, seed=seed, strict=strict)
        self.count = len(self.stream) if count is None else count

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.sampler.frames, self.sampler.height, self.sampler.width

    def fingerprint(self, numbers: range) -> str:
        """A hash of the datasets and scenes drawn, the seeds of their clips and the sampler's settings.

        Files that change under the same names do not show in it.
        """
        draws = [self.stream.mixture[number] for number in numbers]
        drawn = [(draw.dataset, self.datasets[draw.dataset].names[draw.scene], draw.seed) for draw in draws]
        facts = json.dumps([asdict(self.sampler), drawn])
        return hashlib.sha256(facts.encode()).hexdigest()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Clip:
        return self.stream[number]

    def take(self, numbers: Sequence[int], index: Tensor) -> dict[str, Any]:
        """As `take_frames`."""
        return take_frames([self[n] for n in numbers], index)
