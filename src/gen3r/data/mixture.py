"""A weighted mixture of datasets as one endless sequence that depends on its seed and position alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gen3r.errors import InputError

# How often the published training draws each dataset (SPEC, section 7).
PUBLISHED_WEIGHTS = {
    "dl3dv": 1.0, "acid": 1.0, "mvimgnet": 0.25, "waymo": 0.5, "co3d": 1.0, "re10k": 1.0, "kitti360": 0.5,
    "vkitti2": 0.5, "wildrgbd": 1.0, "tartanair": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """One draw: the scene's number in its dataset, and a seed for all that is random about its clip."""

    dataset: str
    scene: int
    seed: tuple[int, int]


class Mixture:
    """Draws of scenes. Position p is the same draw in every run, on every rank, in every worker.

    In an epoch every dataset comes up in proportion to its weight, and the scenes of each are gone through in a fresh
    order before one comes again. An epoch is as long as the dataset with the most scenes for its weight needs to show
    each of them once. To resume, go on from the position; rank r of R takes the positions r, r + R, r + 2R, ...

    Raises:
        InputError: no dataset, an empty one, or a weight that is not positive.
    """

    def __init__(self, sizes: Mapping[str, int], weights: Mapping[str, float] | None = None, seed: int = 0) -> None:
        weights = {name: PUBLISHED_WEIGHTS.get(name, 1.0) for name in sizes} if weights is None else weights
        for name in sizes:
            if sizes[name] < 1:
                raise InputError(f"the dataset {name} has no scenes; leave it out")
            if not weights.get(name, 0) > 0:
                raise InputError(f"the dataset {name} needs a weight over 0")
        if not sizes:
            raise InputError("a mixture needs at least one dataset")
        self.sizes, self.seed = dict(sizes), seed
        whole = max(sizes[name] / weights[name] for name in sizes)
        self.counts = {name: max(1, round(whole * weights[name])) for name in sizes}
        self._names = [name for name, count in self.counts.items() for _ in range(count)]
        self._order: dict[tuple[int, ...], np.ndarray] = {}

    def __len__(self) -> int:
        """Draws in an epoch."""
        return len(self._names)

    def __getitem__(self, position: int) -> Draw:
        epoch, place = divmod(position, len(self))
        order = self._shuffled(0, epoch, len(self))
        which = int(order[place])
        name = self._names[which]
        number = list(self.sizes).index(name)
        first = self._names.index(name)
        turn = epoch * self.counts[name] + which - first
        lap, step = divmod(turn, self.sizes[name])
        scene = int(self._shuffled(number + 1, lap, self.sizes[name])[step])
        return Draw(name, scene, (self.seed, position))

    def _shuffled(self, stream: int, lap: int, length: int) -> np.ndarray:
        """The order of `length` things in a lap; the last one of each stream is kept at hand."""
        key = (stream, lap)
        if key not in self._order:
            if len(self._order) > 4 * len(self.sizes) + 4:
                self._order.clear()
            self._order[key] = np.random.default_rng([self.seed, stream, lap]).permutation(length)
        return self._order[key]
