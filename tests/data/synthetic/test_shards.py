"""Clips in shards: resumable, and never mixed with others."""

from pathlib import Path

import pytest
import torch

from gen3r.data.shards import ClipShards
from gen3r.data.synthetic import render_clip, shards, synthesize
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
    monkeypatch.setattr(shards, "SHARD_CLIPS", 2)
    synthesize(tmp_path, 3, frames=1, size=28, workers=1)
    kept = tmp_path / "clips-000000.safetensors"
    written = kept.stat().st_mtime_ns
    synthesize(tmp_path, 5, frames=1, size=28, workers=1)
    assert kept.stat().st_mtime_ns == written
    assert ClipShards(tmp_path).captions == [render_clip(seed, 1, 28, 28).caption for seed in range(5)]


def test_seeds_go_on_from_the_first(tmp_path: Path) -> None:
    synthesize(tmp_path, 2, frames=1, size=28, workers=1, seed=7)
    assert ClipShards(tmp_path).captions == [render_clip(seed, 1, 28, 28).caption for seed in (7, 8)]


def test_skies_change_what_has_a_sky(tmp_path: Path) -> None:
    plain = [render_clip(seed, 2, 28, 28) for seed in range(12)]
    synthesize(tmp_path / "all", 12, frames=2, size=28, workers=1, skies=1.0)
    synthesize(tmp_path / "half", 12, frames=2, size=28, workers=1, skies=0.5)
    changed = []
    for number, clip in enumerate(plain):
        other, half = (ClipShards(tmp_path / name)[number] for name in ("all", "half"))
        same = torch.equal(other.frames, clip.frames)
        assert same == bool((clip.depth > 0).all())
        kept = torch.nn.functional.max_pool2d((other.depth == 0).float(), 3, 1, 1) == 0  # the edge of the sky is soft
        assert torch.equal(other.frames[kept], clip.frames[kept])
        assert other.caption == clip.caption
        assert torch.equal(half.frames, clip.frames) or torch.equal(half.frames, other.frames)
        changed.append((not same, not torch.equal(half.frames, clip.frames)))
    everywhere, somewhere = torch.tensor(changed).sum(0).tolist()
    assert 0 < somewhere < everywhere < 12


@pytest.mark.parametrize(
    "other", [{"size": 14}, {"frames": 2}, {"split": "test"}, {"world": "large"}, {"seed": 64}, {"skies": 0.5}]
)
def test_shards_of_other_clips_are_not_mixed(other: dict, tmp_path: Path) -> None:
    synthesize(tmp_path, 1, **{"frames": 1, "size": 28, "workers": 1})
    with pytest.raises(InputError, match="holds clips of another size, split, world or seed"):
        synthesize(tmp_path, 1, **{"frames": 1, "size": 28, "workers": 1, **other})


def test_a_damaged_shard_is_one_line(tmp_path: Path) -> None:
    synthesize(tmp_path, 1, frames=1, size=28, workers=1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    for read in (ClipShards, lambda folder: synthesize(folder, 1, frames=1, size=28, workers=1)):
        with pytest.raises(InputError, match=r"is damaged .*; remove it and make it again"):
            read(tmp_path)
