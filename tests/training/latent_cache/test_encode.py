"""Encoding: what the frozen models make of clips, alone and together, in one go and in several."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose, relative_to_first
from gen3r.data.clips import ClipSampler
from gen3r.data.readers import open_dataset
from gen3r.data.records import Clip
from gen3r.data.sampled_clips import SampledClips
from gen3r.data.shards import ClipShards
from gen3r.errors import InputError
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import fast_products
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.latent_cache.options import EncodeOptions
from gen3r.training.latent_cache.shards import HALVES, KINDS, LatentCache
from tests.data.layouts import Truths, write_realestate, write_wildrgbd
from tests.training.latent_cache import ALL, COUNT, LENGTH, encode, encoded


class Counted:
    """Clips that stop at one of them, and count what was read."""

    def __init__(self, clips: ClipShards, stop: int = -1) -> None:
        self.clips, self.shape, self.fingerprint, self.take = clips, clips.shape, clips.fingerprint, clips.take
        self.zero_is_sky, self.stop, self.read = clips.zero_is_sky, stop, []

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Clip:
        if number == self.stop:
            raise KeyboardInterrupt
        self.read.append(number)
        return self.clips[number]


def assert_same_shards(one: Path, other: Path) -> None:
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(p.name for p in other.iterdir())
    for name in names:
        with safe_open(str(one / name), framework="pt") as a, safe_open(str(other / name), framework="pt") as b:
            assert a.metadata() == b.metadata()
            assert a.keys() == b.keys()
            assert [k for k in a.keys() if not torch.equal(a.get_tensor(k), b.get_tensor(k))] == []


def in_predicted_unit(pipe: Gen3RPipeline, clip: Clip, frame_indices: list[int]) -> Cameras:
    """The clip's cameras, scaled so that its depth fits what VGGT sees in the conditioning frames."""
    seen = pipe.reconstruct(clip.images[frame_indices], *clip.frames.shape[1:3], feed_forward=True)
    truth = clip.depth[frame_indices]
    return clip.cameras.relative_to_first().scaled(float((seen.depth / truth)[truth > 0].median()))


def test_what_is_encoded_is_read(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    models = encode(pipe, clips, tmp_path, ALL)
    latents = LatentCache(tmp_path, models, clips.shape, clips)
    assert len(latents) == COUNT
    assert latents.captions == clips.captions
    assert latents[0]["appearance"].shape == latents[0]["geometry"].shape == (16, 2, 14, 14)
    assert latents[0]["control"].shape == latents[0]["warped"].shape == (20, 2, 14, 28)
    for number in (0, 3, 4):
        row, clip = latents[number], clips[number]
        (fresh,) = encoded(pipe, ALL, clips, number)
        assert row.keys() == fresh.keys()
        prompt = fresh.pop("prompt_embeds")
        assert torch.equal(row.pop("prompt_embeds")[: len(prompt)], prompt)
        assert [k for k in row if not torch.equal(row[k], fresh[k])] == []
        assert torch.equal(row["first_frame"].permute(1, 2, 0), clip.frames[0])
        path = in_predicted_unit(pipe, clip, [0] if number % 2 else [0, len(clip.frames) - 1])
        torch.testing.assert_close(row["T_world_camera"], path.T_world_camera)
        assert torch.equal(row["K_px"], clip.cameras.K_px)


def test_every_second_clip_is_conditioned_on_two_views(pipe: Gen3RPipeline, clips: ClipShards) -> None:
    rows = encoded(pipe, ("appearance",), clips, 0, 1)
    last = [bool(row["control"][-1, -1, 0, 0] > 0) for row in rows]  # the mask of the last of four frames
    assert last == [True, False]
    assert all(row["control"][16:20, 0, 0, 0].bool().all() for row in rows)


def test_embeddings_are_those_of_the_encoders(pipe: Gen3RPipeline, clips: ClipShards) -> None:
    with torch.no_grad():
        for number, row in enumerate(encoded(pipe, ("embeddings",), clips, 0, 1)):
            clip = clips[number]
            for key, prompt in (("prompt_embeds", clip.caption), ("negative_prompt_embeds", "")):
                whole = encode_text(pipe.tokenizer, pipe.text_encoder, [prompt], LENGTH, torch.device("cpu"))[0]
                assert torch.equal(row[key], whole[: len(row[key])])
                assert not whole[len(row[key]) :].any()
            own = encode_image(pipe.image_encoder, clip.images[:1])[0]
            torch.testing.assert_close(row["image_embeds"], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_clips_that_are_encoded_together_are_as_alone(pipe: Gen3RPipeline, clips: ClipShards, kind: str) -> None:
    numbers = range(3)  # of one view and of two
    for number, row in zip(numbers, encoded(pipe, (kind,), clips, *numbers), strict=True):
        (alone,) = encoded(pipe, (kind,), clips, number)
        assert alone.keys() == row.keys()
        for name, value in alone.items():
            torch.testing.assert_close(row[name].float(), value.float(), rtol=2e-2, atol=2e-2)


def test_a_depth_is_read_and_no_weight_is_changed(pipe: Gen3RPipeline, clips: ClipShards) -> None:
    """Without depth, VGGT's cameras give the unit; a VGGT in bfloat16 stays as it is."""
    pipe.vggt.to(torch.bfloat16)
    before = {name: p.dtype for name, p in pipe.vggt.named_parameters()}

    class Blind(Counted):
        def __getitem__(self, number: int) -> Clip:
            clip = super().__getitem__(number)
            return replace(clip, depth=torch.zeros_like(clip.depth))

    (row,) = encoded(pipe, ("geometry",), Blind(clips), 0)
    assert row["T_world_camera"].isfinite().all()
    assert {name: p.dtype for name, p in pipe.vggt.named_parameters()} == before


def test_shards_cover_all_and_a_missing_one_is_noticed(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    encode(pipe, clips, tmp_path / "whole")
    models = encode(pipe, clips, tmp_path / "parts", shard=1, num_shards=2)
    with pytest.raises(InputError, match="lacks appearance latents of clips from 0 on"):
        LatentCache(tmp_path / "parts", models, clips.shape)
    encode(pipe, clips, tmp_path / "parts", shard=0, num_shards=2)
    assert_same_shards(tmp_path / "whole", tmp_path / "parts")
    (tmp_path / "parts" / "geometry-000002.safetensors").unlink()
    with pytest.raises(InputError, match="lacks geometry latents of clips from 2 on"):
        LatentCache(tmp_path / "parts", models, clips.shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": 2, "num_shards": 2}, "there is no shard 2 of 2"),
        ({"num_shards": 0}, "--num-shards must be at least 1"),
        ({"clips": 0}, "--clips must be at least 1"),
        ({"two_views_every": 0}, "--two-views-every must be at least 1"),
    ],
)
def test_options_that_cannot_work(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EncodeOptions(**options)


def test_an_interrupted_run_goes_on(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(pipe, Counted(clips, stop=3), tmp_path / "parts")
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {f"{half}-000000.safetensors" for half in HALVES}
    rest = Counted(clips)
    encode(pipe, rest, tmp_path / "parts")
    assert rest.read == [2, 3, 4]
    encode(pipe, clips, tmp_path / "whole")
    assert_same_shards(tmp_path / "whole", tmp_path / "parts")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write more than `size` bytes to a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_leaves_what_is_whole(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
) -> None:
    encode(pipe, clips, tmp_path, clips=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with files_of_at_most(20_000), pytest.raises(InputError, match=r"cannot write .*appearance-000002.*free space"):
        encode(pipe, clips, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    encode(pipe, clips, tmp_path)
    assert len([*tmp_path.iterdir()]) == 6


@pytest.mark.nightly
def test_a_dataset_is_encoded_as_it_lies(pipe: Gen3RPipeline, truths: Truths, tmp_path: Path) -> None:
    write_wildrgbd(tmp_path / "wild", truths("wildrgbd"))
    reader = open_dataset("wildrgbd", tmp_path / "wild")

    def drawn(seed: int) -> SampledClips:
        return SampledClips({"wild": reader}, ClipSampler(frames=5, height=112, width=112), count=3, seed=seed)

    models = encode(pipe, drawn(0), tmp_path / "latents")
    latents = LatentCache(tmp_path / "latents", models, (5, 112, 112), drawn(0))
    assert len(latents) == 3
    clip = drawn(0)[2]
    path = in_predicted_unit(pipe, clip, [0, 4])
    torch.testing.assert_close(latents[2]["T_world_camera"], path.T_world_camera)
    with pytest.raises(InputError, match="other clips"):
        LatentCache(tmp_path / "latents", models, (5, 112, 112), drawn(1))


def test_without_depth_the_unit_is_that_of_vggts_cameras(pipe: Gen3RPipeline, truths: Truths, tmp_path: Path) -> None:
    write_realestate(tmp_path / "clips", truths("re10k"))
    reader = open_dataset("re10k", tmp_path / "clips")
    source = SampledClips({"re10k": reader}, ClipSampler(frames=5, height=112, width=112, max_stride=1))
    (row,) = encoded(pipe, ("geometry",), source, 0)
    clip = source[0]
    with torch.no_grad():
        with fast_products(torch.device("cpu")):
            levels = pipe.vggt.tokens(clip.images[None])
        predicted, _ = decode_pose(pipe.vggt.camera(levels)[-1, 0], 112, 112)
    far = relative_to_first(predicted)[:, :3, 3].norm()
    poses = row["T_world_camera"]
    assert poses[:, :3, 3].norm() == pytest.approx(float(far), rel=1e-3)
    own = relative_to_first(clip.cameras.T_world_camera)
    torch.testing.assert_close(poses[:, :3, :3], own[:, :3, :3])
    torch.testing.assert_close(poses[:, :3, 3] / far, own[:, :3, 3] / own[:, :3, 3].norm(), atol=1e-4, rtol=1e-3)
