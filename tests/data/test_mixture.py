"""The mixture and its stream: proportions, coverage, ranks, workers, resuming, broken scenes."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from gen3r.data.stream import Positions
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from gen3r.data.clips import ClipSampler
from gen3r.data.mixture import PUBLISHED_WEIGHTS, Mixture
from gen3r.data.records import Clip, ClipRecord
from gen3r.errors import InputError
from tests.data.test_clips import marked
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
    for rank in range(ranks):
        walk = iter(Positions(mixture, rank, ranks))
        assert [next(walk) for _ in parts[rank]] == list(parts[rank])


@given(sizes, seeds, st.integers(0, 200), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
def test_interrupted_anywhere_it_goes_on_the_same(
    sizes: dict[str, int], seed: int, stop: int, before: int, after: int
) -> None:
    whole = Mixture(sizes, dict.fromkeys(sizes, 1.0), seed)
    state = Positions(whole, 0, before).state(stop)
    fresh = Mixture(sizes, dict.fromkeys(sizes, 1.0), seed)
    walks = [Positions(fresh, rank, after) for rank in range(after)]
    for walk in walks:
        walk.resume(state)
    ways = [iter(walk) for walk in walks]
    resumed = [next(ways[i % after]) for i in range(4 * after)]
    assert resumed == list(range(stop * before, stop * before + 4 * after))
    assert [fresh[p] for p in resumed] == [whole[p] for p in resumed]


def test_another_mixture_does_not_resume() -> None:
    state = Positions(Mixture({"a": 3}, {"a": 1.0})).state(1)
    for other in (Mixture({"a": 4}, {"a": 1.0}), Mixture({"a": 3}, {"a": 1.0}, seed=1)):
        with pytest.raises(InputError, match="have changed"):
            Positions(other).resume(state)


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


class Scenes:
    """Sequences of a few frames; some of them broken."""

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> ClipRecord:
        if number in self.broken:
            raise InputError(f"scene {number} is damaged")
        return marked(number + 4)


SAMPLER = ClipSampler(frames=4, height=12, width=16, unit="cameras")


def same(one: Clip, other: Clip) -> bool:
    return torch.equal(one.frames, other.frames) and torch.equal(
        one.cameras.T_world_camera, other.cameras.T_world_camera
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_same_clips_with_any_workers(workers: int) -> None:
    stream = SampledClips({"a": Scenes(6), "b": Scenes(2)}, SAMPLER, {"a": 1.0, "b": 0.5}, seed=3)
    loader = DataLoader(
        stream, batch_size=2, sampler=Positions(stream.mixture, 1, 2), collate_fn=list, num_workers=workers
    )
    batches = [batch for batch, _ in zip(loader, range(4), strict=False)]
    clips = [clip for batch in batches for clip in batch]
    assert all(same(clip, stream[1 + 2 * i]) for i, clip in enumerate(clips))


def test_broken_scenes_are_replaced_and_counted() -> None:
    stream = SampledClips({"a": Scenes(6, broken=(1, 4))}, SAMPLER)
    with pytest.warns(UserWarning, match="damaged") as caught:
        clips = [stream[p] for p in range(6)]
    assert stream.skipped["a"] >= 2
    assert f"a: {stream.skipped['a']} skipped so far" in str(caught[-1].message)
    with pytest.warns(UserWarning, match="damaged"):
        again = [SampledClips({"a": Scenes(6, broken=(1, 4))}, SAMPLER)[p] for p in reversed(range(6))]
    assert all(same(one, other) for one, other in zip(clips, reversed(again), strict=True))


def test_strict_stops_and_so_does_a_dataset_without_a_whole_scene() -> None:
    with pytest.raises(InputError, match="damaged"):
        [SampledClips({"a": Scenes(3, broken=(1,))}, SAMPLER, strict=True)[p] for p in range(3)]
    stream = SampledClips({"a": Scenes(3, broken=(0, 1, 2))}, SAMPLER)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(InputError, match="in a row"):
        stream[0]


def test_seeds_of_draws_are_good_for_numpy() -> None:
    mixture = Mixture({"a": 3})
    assert np.random.default_rng(mixture[5].seed).random() != np.random.default_rng(mixture[6].seed).random()
    assert mixture.instead(5, 1) != mixture.instead(5, 2)
