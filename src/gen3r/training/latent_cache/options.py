"""Options for filling the latent cache, which the command line declares from here."""

from dataclasses import dataclass

from gen3r.errors import InputError
from gen3r.options import check_positive, option


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Which clips one process encodes, and how.

    Raises:
        InputError: a number is out of range.
    """

    clips: int | None = option(
        None, "number of clips (default: all; of a dataset, one per scene)", metavar="N", positive=True
    )
    two_views_every: int = option(
        2,
        "every N-th clip is conditioned on its first and last frame, the others on the first (default: 2)",
        metavar="N",
        positive=True,
    )
    shard: int = option(0, "number of this process, from 0 (default: 0)", metavar="I")
    num_shards: int = option(1, "number of processes that share the work (default: 1)", metavar="N", positive=True)
    overwrite: bool = option(False, "replace files that other models or clips made")

    def __post_init__(self) -> None:
        check_positive(EncodeOptions, vars(self))
        if not 0 <= self.shard < self.num_shards:
            raise InputError(f"there is no shard {self.shard} of {self.num_shards}; count from 0")
