"""The order of names."""

import re


def natural_order(name: str) -> list[tuple[int, str]]:
    """The key that sorts names by the values of their numbers: frame2 before frame10, and backslashes as slashes."""
    parts = re.split(r"(\d+)", name.replace("\\", "/"))
    return [(len(x.lstrip("0")), x.lstrip("0")) if i % 2 else (-1, x) for i, x in enumerate(parts)]
