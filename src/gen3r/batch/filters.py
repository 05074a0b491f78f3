"""Which scenes are kept: limits of their scores."""

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gen3r.errors import InputError

SCORES = {
    "sharp": "mean absolute Laplacian of the frames, in [0, 1]; falls with blur",
    "holes": "share of the pixels without reliable depth",
    "floaters": "share of the points that most other views look through",
    "follow": "AUC@30 of the cameras that VGGT sees in the frames, against the requested ones; none for free cameras",
    "agree": "share of the points at which other views have the same depth, within 5 %",
}
_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Rule:
    """A limit of a score. A scene whose score is unknown is kept."""

    score: str
    sign: str
    limit: float

    def allows(self, scores: Mapping[str, float | None]) -> bool:
        value = scores.get(self.score)
        return value is None or math.isnan(value) or _OPERATORS[self.sign](value, self.limit)


def parse_keep(text: str) -> tuple[Rule, ...]:
    """Rules such as `sharp>0.01, floaters<0.05`.

    Raises:
        InputError: a part is no such rule.
    """
    rules = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*([<>]=?)\s*(\d+(?:\.\d*)?|\.\d+)\s*", part)
        if found is None or found[1] not in SCORES:
            names = ", ".join(SCORES)
            raise InputError(f"--keep takes limits such as sharp>0.01,floaters<0.05 of {names}; not {part.strip()!r}")
        rules.append(Rule(found[1], found[2], float(found[3])))
    return tuple(rules)


def rejection(rules: Sequence[Rule], scores: Mapping[str, float | None]) -> str:
    """Which limits the scores do not keep; empty if they keep all."""
    return "; ".join(
        f"{rule.score} {scores[rule.score]:.4g} is not {rule.sign} {rule.limit:g}"
        for rule in rules
        if not rule.allows(scores)
    )
