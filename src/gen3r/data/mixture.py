"""A weighted mixture of datasets: an endless sequence of draws that depends on its seed and position alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gen3r.errors import InputError

# How often the published implementation draws each dataset in training.
PUBLISHED_WEIGHTS = {
    "dl3dv": 1.0, "acid": 1.0, "mvimgnet": 0.25, "waymo": 0.5, "co3d": 1.0, "re10k": 1.0, "kitti360": 0.5,
    "vkitti2": 0.5, "wildrgbd": 1.0, "tartanair": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """One draw: the scene's number in its dataset, and a seed for everything random about its clip."""

    dataset: str
    scene: int
    seed: tuple[int, ...]


class Mixture:
    """Draws of scenes. Position p is the same draw in every run, on every rank, in every worker.

    In an epoch, each dataset is drawn in proportion to its weight. All scenes of a dataset are drawn, in a new random
    order, before one is drawn again. An epoch is as long as the dataset with the most scenes for its weight needs to
    show each of them once. To resume, continue from the position; rank r of R takes the positions r, r + R, r + 2R, ...

    Raises:
        InputError: no dataset, an empty one, or a weight that is not positive.
    """

    def __init__(self, sizes: Mapping[str, int], weights: Mapping[str, float] | None = None, seed: int = 0) -> None:
        weights = {name: PUBLISHED_WEIGHTS.get(name, 1.0) for name in sizes} if weights is None else weights
        if not sizes:
            raise InputError("a mixture needs at least one dataset")
        for name in sizes:
            if sizes[name] < 1:
                raise InputError(f"the dataset {name} has no scenes; leave it out")
            if not 0 < weights.get(name, 0) < math.inf:
                raise InputError(f"the dataset {name} needs a weight over 0")
        if unknown := sorted(set(weights) - set(sizes)):
            raise InputError(f"there is a weight for {unknown[0]}, but no such dataset")
        self.sizes, self.seed = dict(sizes), seed
        whole = max(sizes[name] / weights[name] for name in sizes)
        self.counts = {name: max(1, round(whole * weights[name])) for name in sizes}
        self._names = list(sizes)
        self._ends = np.cumsum(list(self.counts.values()))
        self._order: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        """Draws in an epoch."""
        return int(self._ends[-1])

    def __getitem__(self, position: int) -> Draw:
        if position < 0:
            raise IndexError("positions start at 0")
        epoch, place = divmod(position, len(self))
        slot = int(self._shuffled(0, epoch, len(self))[place])
        number = int(np.searchsorted(self._ends, slot, side="right"))
        name = self._names[number]
        # Index of this draw among all draws of its dataset, whose slots follow those of the datasets before it.
        turn = epoch * self.counts[name] + slot - int(self._ends[number] - self.counts[name])
        lap, step = divmod(turn, self.sizes[name])
        return Draw(name, int(self._shuffled(number + 1, lap, self.sizes[name])[step]), (self.seed, position))

    def instead(self, position: int, attempt: int) -> Draw:
        """Another draw of the same dataset, for a position whose scene cannot be read; `attempt` counts from 1."""
        name = self[position].dataset
        seed = (self.seed, position, attempt)
        return Draw(name, int(np.random.default_rng(seed).integers(self.sizes[name])), seed)

    def _shuffled(self, stream: int, lap: int, length: int) -> np.ndarray:
        """The order of `length` items in a lap; the latest orders are cached."""
        key = (stream, lap)
        order = self._order.get(key)
        if order is None:
            if len(self._order) > 2 * len(self.sizes) + 2:
                self._order.clear()
            order = self._order[key] = np.random.default_rng([self.seed, stream, lap]).permutation(length)
        return order
