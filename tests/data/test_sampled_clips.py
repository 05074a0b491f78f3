"""Clips drawn from datasets: ranks, workers, resuming, selected and broken scenes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from gen3r.data.clips import ClipSampler
from gen3r.data.readers.base import Reader
from gen3r.data.records import Clip, ClipRecord
from gen3r.data.sampled_clips import SampledClips
from gen3r.errors import InputError
from tests.data.test_clips import marked

SAMPLER = ClipSampler(frames=4, height=12, width=16)


class Sequences(Reader):
    """Sequences of a few frames; some of them broken."""

    name, licence, layout = "made", "none", "nothing"

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        super().__init__(Path(__file__).parent)
        self.count, self.broken = count, broken

    def find_scenes(self) -> Iterator[str]:
        yield from map(str, range(self.count))

    def read_scene(self, scene: str) -> ClipRecord:
        if int(scene) in self.broken:
            raise InputError(f"scene {scene} is damaged")
        return marked(int(scene) + 4)


def same(one: Clip, other: Clip) -> bool:
    return torch.equal(one.frames, other.frames) and torch.equal(
        one.cameras.T_world_camera, other.cameras.T_world_camera
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_same_clips_with_any_workers(workers: int) -> None:
    """The second of two ranks."""
    clips = SampledClips({"a": Sequences(6), "b": Sequences(2)}, SAMPLER, 20, seed=3, weights={"a": 1.0, "b": 0.5})
    loader = DataLoader(clips, batch_size=2, sampler=range(1, len(clips), 2), collate_fn=list, num_workers=workers)
    loaded = [clip for batch in loader for clip in batch]
    assert len(loaded) == 10
    assert all(same(clip, clips[1 + 2 * i]) for i, clip in enumerate(loaded))


def test_a_resumed_run_goes_on_with_the_same_clips() -> None:
    first, again = (SampledClips({"a": Sequences(5)}, SAMPLER, 12, seed=1) for _ in range(2))
    found = [first[n] for n in range(12)]
    assert all(same(found[n], again[n]) for n in range(7, 12))


def test_an_epoch_is_one_clip_of_each_scene_and_has_an_end() -> None:
    clips = SampledClips({"a": Sequences(6)}, SAMPLER)
    assert len(clips) == 6
    assert sorted(clips.mixture[n].scene for n in range(6)) == list(range(6))
    assert len(list(clips)) == 6
    for number in (-1, 6):
        with pytest.raises(IndexError):
            clips[number]


def test_the_weights_are_the_published_ones_by_default() -> None:
    datasets = {"co3d": Sequences(8), "mvimgnet": Sequences(8)}
    assert SampledClips(datasets, SAMPLER).mixture.counts == {"co3d": 32, "mvimgnet": 8}


def test_the_fingerprint_tells_clips_apart() -> None:
    clips = SampledClips({"a": Sequences(6)}, SAMPLER)
    others = [
        SampledClips({"a": Sequences(6)}, SAMPLER, seed=1),
        SampledClips({"a": Sequences(7)}, SAMPLER),
        SampledClips({"b": Sequences(6)}, SAMPLER),
        SampledClips({"a": Sequences(6)}, ClipSampler(frames=3, height=12, width=16)),
    ]
    assert clips.fingerprint(range(6)) == SampledClips({"a": Sequences(6)}, SAMPLER).fingerprint(range(6))
    prints = {c.fingerprint(range(6)) for c in (clips, *others)} | {clips.fingerprint(range(5))}
    assert len(prints) == 6


def test_clips_come_from_the_selected_scenes() -> None:
    reader = Sequences(12)
    clips = SampledClips({"a": reader.select(["1"])}, SAMPLER)
    assert clips.datasets["a"].scenes == ["1", "10", "11"]
    assert len(clips) == 3
    assert len(reader) == 12
    with pytest.raises(InputError, match=r"no scene of .* is called like that; the first is 0"):
        len(reader.select(["x"]))


def test_broken_scenes_are_replaced_and_counted() -> None:
    clips = SampledClips({"a": Sequences(6, broken=(1, 4))}, SAMPLER)
    with pytest.warns(UserWarning, match="damaged") as caught:
        found = [clips[n] for n in range(6)]
    assert clips.skipped["a"] >= 2
    assert f"a: {clips.skipped['a']} skipped so far" in str(caught[-1].message)
    with pytest.warns(UserWarning, match="damaged"):
        again = [SampledClips({"a": Sequences(6, broken=(1, 4))}, SAMPLER)[n] for n in reversed(range(6))]
    assert all(same(one, other) for one, other in zip(found, reversed(again), strict=True))


def test_strict_stops_and_so_does_a_dataset_without_a_whole_scene() -> None:
    with pytest.raises(InputError, match="damaged"):
        list(SampledClips({"a": Sequences(3, broken=(1,))}, SAMPLER, strict=True))
    clips = SampledClips({"a": Sequences(3, broken=(0, 1, 2))}, SAMPLER)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(InputError, match="in a row"):
        clips[0]
