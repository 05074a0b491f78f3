"""The mixture: proportions, coverage, ranks, epochs."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen3r.data.mixture import PUBLISHED_WEIGHTS, Mixture
from gen3r.errors import InputError
from tests.poses import seeds

sizes = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=1)
weights = st.sampled_from([0.25, 0.5, 1.0, 2.0])


def drawn(mixture: Mixture, positions: range) -> list[tuple[str, int]]:
    return [(d.dataset, d.scene) for d in (mixture[p] for p in positions)]


@given(sizes, st.data(), seeds)
def test_an_epoch_keeps_the_weights_and_repeats_no_scene_early(sizes: dict[str, int], data, seed: int) -> None:
    chosen = {name: data.draw(weights) for name in sizes}
    mixture = Mixture(sizes, chosen, seed)
    epochs = 3
    found = drawn(mixture, range(epochs * len(mixture)))
    count = Counter(name for name, _ in found)
    for name, size in sizes.items():
        assert count[name] == epochs * mixture.counts[name]
        assert mixture.counts[name] == max(1, round(max(sizes[n] / chosen[n] for n in sizes) * chosen[name]))
        times = Counter(scene for n, scene in found if n == name)
        assert max(times.values()) - min([*times.values(), *[0] * (len(times) < size)]) <= 1
    largest = max(sizes, key=lambda n: sizes[n] / chosen[n])
    assert sorted(s for n, s in found[: len(mixture)] if n == largest) == list(range(sizes[largest]))


@given(sizes, seeds, st.sampled_from([1, 2, 4]))
def test_ranks_cover_each_epoch_once(sizes: dict[str, int], seed: int, ranks: int) -> None:
    mixture = Mixture(sizes, dict.fromkeys(sizes, 1.0), seed)
    total = 2 * math.lcm(len(mixture), ranks)
    parts = [range(rank, total, ranks) for rank in range(ranks)]
    assert sorted(p for part in parts for p in part) == list(range(total))
    together = [draw for part in parts for draw in drawn(mixture, part)]
    assert sorted(together) == sorted(drawn(mixture, range(total)))


def test_epochs_and_seeds_differ() -> None:
    mixture = Mixture({"a": 20})
    assert drawn(mixture, range(20)) != drawn(mixture, range(20, 40))
    assert drawn(mixture, range(20)) != drawn(Mixture({"a": 20}, seed=1), range(20))
    assert len({mixture[p].seed for p in range(40)}) == 40


def test_published_weights() -> None:
    mixture = Mixture(dict.fromkeys(PUBLISHED_WEIGHTS, 100))
    assert mixture.counts["co3d"] == 4 * mixture.counts["mvimgnet"] == 2 * mixture.counts["waymo"]
    assert mixture.counts["mvimgnet"] == 100  # all of it, so the others come again


@pytest.mark.parametrize(
    ("sizes", "weights", "message"),
    [
        ({}, None, "at least one"),
        ({"a": 0}, None, "no scenes"),
        ({"a": 1}, {"a": 0.0}, "over 0"),
        ({"a": 1}, {"a": math.nan}, "over 0"),
        ({"a": 1}, {"a": 1.0, "b": 1.0}, "weight for b"),
    ],
)
def test_no_mixture(sizes, weights, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mixture(sizes, weights)


def test_seeds_of_draws_are_good_for_numpy() -> None:
    mixture = Mixture({"a": 3})
    assert np.random.default_rng(mixture[5].seed).random() != np.random.default_rng(mixture[6].seed).random()
    assert mixture.instead(5, 1) != mixture.instead(5, 2)
