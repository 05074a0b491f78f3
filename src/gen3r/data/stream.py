"""The clips of a mixture for training: by position, on many ranks and workers, past files that are broken."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset, Sampler

from gen3r.data.clips import ClipSampler
from gen3r.data.mixture import Mixture
from gen3r.data.records import Clip, ClipRecord
from gen3r.errors import InputError

ATTEMPTS = 8  # scenes that may be broken one after another before the dataset is taken to be


class Records(Protocol):
    """A dataset's scenes by number; every reader is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> ClipRecord: ...


class ClipStream(Dataset[Clip]):
    """Position -> clip, for a `DataLoader` with `Positions`. The clip depends on the seed and the position alone.

    A scene that cannot be read is replaced by another of its dataset, drawn by the same seed, with a warning that
    counts; `strict` stops instead.

    Raises:
        InputError: as `Mixture`; when a clip is asked for: a scene cannot be read and `strict`, or eight in a row.
    """

    def __init__(
        self,
        datasets: Mapping[str, Records],
        sampler: ClipSampler,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        self.datasets, self.sampler, self.strict = dict(datasets), sampler, strict
        self.mixture = Mixture({name: len(records) for name, records in datasets.items()}, weights, seed)
        self.skipped: Counter[str] = Counter()  # scenes skipped in this process, by dataset

    def __len__(self) -> int:
        """Clips in an epoch."""
        return len(self.mixture)

    def __getitem__(self, position: int) -> Clip:
        draw = self.mixture[position]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.sampler(self.datasets[draw.dataset][draw.scene], np.random.default_rng(draw.seed))
            except InputError as error:
                if self.strict:
                    raise
                self.skipped[draw.dataset] += 1
                warnings.warn(f"{draw.dataset}: {self.skipped[draw.dataset]} skipped so far; {error}", stacklevel=2)
            draw = self.mixture.instead(position, attempt)
        raise InputError(f"{ATTEMPTS} scenes of {draw.dataset} in a row cannot be read; run gen3r data check on it")


class Positions(Sampler[int]):
    """The positions of one rank, without end: start + rank, start + rank + ranks, ...

    The loader deals them to its workers and keeps their order, so the clips are the same with any number of workers.
    `state` after a step and `resume` before the next give the same sequence as no interruption, on any number of ranks.

    Raises:
        InputError: no such rank; on resuming: the mixture is another one.
    """

    def __init__(self, mixture: Mixture, rank: int = 0, ranks: int = 1, start: int = 0) -> None:
        if not 0 <= rank < ranks or start < 0:
            raise InputError(f"rank {rank} of {ranks} from position {start} is none")
        self.fingerprint, self.rank, self.ranks, self.start = mixture.fingerprint, rank, ranks, start

    def __iter__(self) -> Iterator[int]:
        position = self.start + self.rank
        while True:
            yield position
            position += self.ranks

    def state(self, consumed: int) -> dict[str, Any]:
        """What to store once every rank has trained on `consumed` clips since the start."""
        return {"position": self.start + consumed * self.ranks, "mixture": self.fingerprint}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on from a stored state."""
        if state["mixture"] != self.fingerprint:
            raise InputError("the datasets, their weights or the seed have changed since the run was stopped; "
                             "restore them, or start anew")  # fmt: skip
        self.start = int(state["position"])
