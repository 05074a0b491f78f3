"""Clips in shards: resumable, and never mixed with others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gen3r.data import synthesis
from gen3r.data.records import Clip
from gen3r.data.shards import ClipShards, write_shard
from gen3r.data.synthesis import synthesize
from gen3r.data.synthetic import WorldOptions, render_clip
from gen3r.errors import InputError


def test_shards_resume_and_read_back(tmp_path: Path) -> None:
    synthesize(tmp_path, 3, frames=2, size=28, workers=1)
    (path,) = tmp_path.glob("*.safetensors")
    written = path.stat().st_mtime_ns
    synthesize(tmp_path, 3, frames=2, size=28, workers=1)
    assert path.stat().st_mtime_ns == written
    clips = ClipShards(tmp_path)
    direct = render_clip(2, 2, 28, 28)
    assert len(clips) == 3
    assert torch.equal(clips[2].frames, direct.frames)
    torch.testing.assert_close(clips[2].depth, direct.depth, rtol=1e-3, atol=1e-3)
    assert clips[2].caption == direct.caption == clips.captions[2]
    with pytest.raises(InputError, match="holds no clips"):
        ClipShards(tmp_path / "none")


def test_more_clips_complete_the_last_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "SHARD_CLIPS", 2)
    synthesize(tmp_path, 3, frames=1, size=28, workers=1)
    kept = tmp_path / "clips-000000.safetensors"
    written = kept.stat().st_mtime_ns
    synthesize(tmp_path, 5, frames=1, size=28, workers=1)
    assert kept.stat().st_mtime_ns == written
    assert ClipShards(tmp_path).captions == [render_clip(seed, 1, 28, 28).caption for seed in range(5)]


def test_an_interruption_keeps_the_clips_that_are_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int, *arguments: Any) -> Clip:
        if seed == 2:
            raise KeyboardInterrupt
        return render_clip(seed, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "render_clip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthesize(tmp_path / "a", 4, frames=1, size=28, workers=1)
    assert len(ClipShards(tmp_path / "a")) == 2
    for name in "ab":
        synthesize(tmp_path / name, 4, frames=1, size=28, workers=1)
    stopped, whole = (load_file(tmp_path / name / "clips-000000.safetensors") for name in "ab")
    assert stopped.keys() == whole.keys()
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_clips_that_the_disk_has_no_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the clips take \d+\.\d GB and .* free; make fewer or smaller ones"):
        synthesize(tmp_path / "made", 1, frames=10**9, workers=1)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; choose a folder"):
        synthesize(tmp_path / "file", 1, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_seeds_go_on_from_the_first(tmp_path: Path) -> None:
    synthesize(tmp_path, 2, frames=1, size=28, workers=1, seed=7)
    assert ClipShards(tmp_path).captions == [render_clip(seed, 1, 28, 28).caption for seed in (7, 8)]


@pytest.mark.parametrize(
    "other", [{"size": 14}, {"frames": 2}, {"split": "test"}, {"options": WorldOptions(place="room")}, {"seed": 64}]
)
def test_shards_of_other_clips_are_not_mixed(other: dict, tmp_path: Path) -> None:
    synthesize(tmp_path, 1, **{"frames": 1, "size": 28, "workers": 1})
    with pytest.raises(InputError, match="holds clips of another size, split, world or seed"):
        synthesize(tmp_path, 1, **{"frames": 1, "size": 28, "workers": 1, **other})


def test_shards_of_the_former_small_world_are_not_mixed(tmp_path: Path) -> None:
    made = {"split": "train", "world": "small", "options": None, "seed": 0}
    write_shard(tmp_path / "clips-000000.safetensors", [render_clip(0, 1, 28, 28)], json.dumps(made))
    with pytest.raises(InputError, match="holds clips of another size, split, world or seed; choose another folder"):
        synthesize(tmp_path, 1, frames=1, size=28, workers=1)


def test_photos_are_looked_for_before_anything_is_rendered(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.jpg or \.png files"):
        synthesize(tmp_path / "made", 1, options=WorldOptions(textures=tmp_path / "empty"))
    assert not (tmp_path / "made").exists()


def test_a_damaged_shard_is_one_line(tmp_path: Path) -> None:
    synthesize(tmp_path, 1, frames=1, size=28, workers=1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    for read in (ClipShards, lambda folder: synthesize(folder, 1, frames=1, size=28, workers=1)):
        with pytest.raises(InputError, match=r"is damaged .*; remove it and make it again"):
            read(tmp_path)
