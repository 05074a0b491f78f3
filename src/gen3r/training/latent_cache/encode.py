"""Filling the latent cache: clips through the frozen models into shards, by many processes, resumable."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose
from gen3r.data.records import Clip, ClipSource
from gen3r.data.shards import SHARD_CLIPS, open_shard
from gen3r.errors import InputError
from gen3r.files import write_tensors
from gen3r.geometry.normalise import normalise_scene, unit_of_cameras
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.conditioning import control_latents, warped_control
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import exact_products, fast_products
from gen3r.models.tokens import pack_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE
from gen3r.request import check_size
from gen3r.training.latent_cache.shards import KINDS, Mark, model_hashes
from gen3r.training.recipes import TWO_VIEWS_EVERY

Row = dict[str, Tensor]  # of one clip
Encode = Callable[[Sequence[Clip], Sequence[int]], list[Row]]
PIXELS_AT_ONCE = 1 << 22  # of the clips that an accelerator encodes together; 19 of nano's, one of the published size


@dataclass(frozen=True)
class ClipEncoder:
    """One kind of shard: `encode` gives every clip's tensors from clips and their numbers.

    models: the hashes of what it runs. device: where.
    """

    kind: str
    models: dict[str, str]
    encode: Encode
    device: torch.device


def clip_encoder(
    kind: str, parts: Mapping[str, Any], text_length: int, two_views_every: int = TWO_VIEWS_EVERY
) -> ClipEncoder:
    """The encoder of a kind out of a model's components by name."""
    make = {
        "appearance": lambda: appearance_encoder(parts["vae"], two_views_every),
        "geometry": lambda: geometry_encoder(parts["vggt"], parts["geo_adapter"]),
        "rendered": lambda: rendered_encoder(parts["vae"], parts["vggt"], parts["geo_adapter"], two_views_every),
        "contexts": lambda: context_encoder(
            parts["tokenizer"], parts["text_encoder"], parts["image_encoder"], text_length
        ),
    }
    device = next(parts[name].device for name in KINDS[kind] if hasattr(parts[name], "device"))
    return ClipEncoder(kind, model_hashes(kind, parts, text_length), make[kind](), device)


def given_places(number: int, frames: int, two_views_every: int) -> list[int]:
    """The frames that are given of clip `number`: of every so many clips two, else one."""
    return [0] if number % two_views_every else [0, frames - 1]


def appearance_encoder(vae: VideoVAE, two_views_every: int) -> Encode:
    """The appearance posterior, control latents of `given_places`, first frame, cameras.

    Cameras are in VGGT's gauge, which is what the geometry latents hold, where the clip has depth; else in the
    dataset's unit, and the geometry's `unit` takes them there.
    """

    def encode(clips: Sequence[Clip], numbers: Sequence[int]) -> list[Row]:
        frames = _images(clips, vae)
        given = torch.zeros(frames.shape[:2], dtype=torch.bool, device=vae.device)
        for row, number in enumerate(numbers):
            given[row, given_places(number, frames.shape[1], two_views_every)] = True
        with fast_products(vae.device):
            posterior = vae.encode_video((2 * frames - 1).transpose(1, 2))
            control = control_latents(vae, frames, given)
        latents = _rows(appearance=torch.cat([posterior.mean, posterior.logvar], 1).half(), control=control.half())
        return [
            row
            | {
                "first_frame": clip.frames[0].permute(2, 0, 1).contiguous(),
                "T_world_camera": _poses(clip),
                "K_px": clip.cameras.K_px,
            }
            for clip, row in zip(clips, latents, strict=True)
        ]

    return encode


def geometry_encoder(vggt: VGGT, adapter: GeometryAdapter) -> Encode:
    """The geometry posterior of VGGT's tokens, and the unit of clips without depth (1 for those with it).

    What VGGT predicts is in its gauge by itself, so a dataset's length of VGGT's unit is what the distances between the
    dataset's cameras are of those between the predicted ones.
    """
    patch = vggt.config["patch_size"]

    def encode(clips: Sequence[Clip], numbers: Sequence[int]) -> list[Row]:
        frames = _images(clips, vggt)
        height, width = frames.shape[-2:]
        with fast_products(vggt.device):
            levels = vggt.tokens(frames)
            posterior = adapter.encode(pack_tokens(levels, (height // patch, width // patch)).to(adapter.dtype))
        latents = _rows(geometry=torch.cat([posterior.mean, posterior.logvar], 1).half())
        return [
            row
            | {"unit": (torch.ones(()) if _measured(clip) else _unit(vggt, [x[n, None] for x in levels], clip))[None]}
            for n, (clip, row) in enumerate(zip(clips, latents, strict=True))
        ]

    return encode


def _measured(clip: Clip) -> bool:
    """Whether a clip has depth."""
    return bool((clip.depth > 0).any())


def _unit(vggt: VGGT, levels: list[Tensor], clip: Clip) -> Tensor:
    """The length of VGGT's unit in that of a clip without depth, whose frames have these tokens."""
    height, width = clip.images.shape[-2:]
    with exact_products(vggt.device):
        seen, _ = decode_pose(vggt.camera([x.float() for x in levels])[-1, 0], height, width)
        return unit_of_cameras(clip.cameras.T_world_camera, seen.cpu())


def rendered_encoder(vae: VideoVAE, vggt: VGGT, adapter: GeometryAdapter, two_views_every: int) -> Encode:
    """Control latents of the frames at `given_places` and of what they show from the clip's cameras."""

    def encode(clips: Sequence[Clip], numbers: Sequence[int]) -> list[Row]:
        images = _images(clips, vggt)
        frames, _, height, width = images.shape[1:]
        places = [given_places(number, frames, two_views_every) for number in numbers]
        given = [clip_images[where] for clip_images, where in zip(images, places, strict=True)]
        seen: dict[int, Tensor] = {}
        for where, chosen in _by_places(numbers, frames, two_views_every):
            with fast_products(vggt.device):
                levels = vggt.tokens(images[chosen][:, where])
            seen |= zip(chosen, vggt.heads(levels, height, width).depth, strict=True)
        depth = [seen[n] for n in range(len(clips))]
        paths = [
            Cameras(_seen_poses(vggt, clip, clip_images), clip.cameras.K_px, height, width)
            for clip, clip_images in zip(clips, images, strict=True)
        ]
        with fast_products(vggt.device):
            return _rows(rendered=warped_control(vae, vggt, adapter, given, depth, places, paths).half())

    return encode


def _seen_poses(vggt: VGGT, clip: Clip, images: Tensor) -> Tensor:
    """A clip's cameras [F, 4, 4] in VGGT's gauge, with or without depth."""
    poses = _poses(clip)
    if not _measured(clip):
        with fast_products(vggt.device):
            poses[:, :3, 3] /= _unit(vggt, vggt.tokens(images[None]), clip)
    return poses


def context_encoder(
    tokenizer: PreTrainedTokenizerBase,
    text_encoder: UMT5EncoderModel,
    image_encoder: CLIPVisionModelWithProjection,
    length: int,
) -> Encode:
    """Text features of the caption and of no text, without their padding, and image features of the first frame.

    They are kept in the encoders' own floating-point type.
    """
    device = text_encoder.device

    def text_of(prompt: str) -> Tensor:
        features = encode_text(tokenizer, text_encoder, [prompt], length, device)[0].cpu()
        return features[: int((features != 0).any(-1).nonzero().max()) + 1]

    def encode(clips: Sequence[Clip], numbers: Sequence[int]) -> list[Row]:
        first = torch.stack([clip.images[0] for clip in clips]).to(image_encoder.device)
        images = _rows(image=encode_image(image_encoder, first))
        no_text = text_of("")
        return [
            row | {"text": text_of(clip.caption), "no_text": no_text} for clip, row in zip(clips, images, strict=True)
        ]

    return encode


def _images(clips: Sequence[Clip], model: VideoVAE | VGGT) -> Tensor:
    """[B, F, 3, H, W] in [0, 1], where and in the type that a model computes."""
    frames = torch.stack([clip.frames for clip in clips]).to(model.device)
    return (frames.permute(0, 1, 4, 2, 3) / 255).to(model.dtype)


def _poses(clip: Clip) -> Tensor:
    """A clip's cameras [F, 4, 4] relative to the first, in VGGT's unit where it has depth."""
    return normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)[1]


def _rows(**tensors: Tensor) -> list[Row]:
    """Tensors of several clips, first axis, one clip at a time and on the CPU."""
    there = {name: tensor.cpu() for name, tensor in tensors.items()}
    return [dict(zip(there, row, strict=True)) for row in zip(*there.values(), strict=True)]


def _by_places(numbers: Sequence[int], frames: int, two_views_every: int) -> Iterator[tuple[list[int], list[int]]]:
    """The rows of clips that share their `given_places`, after these places."""
    places = [given_places(number, frames, two_views_every) for number in numbers]
    for where in sorted({tuple(p) for p in places}):
        yield list(where), [n for n, p in enumerate(places) if tuple(p) == where]


def encode_clips(
    encoders: Sequence[ClipEncoder],
    clips: ClipSource,
    folder: Path,
    count: int | None = None,
    part: int = 0,
    parts: int = 1,
    command: str = "",
    overwrite: bool = False,
) -> None:
    """Encodes the first `count` clips, every `parts`-th shard from `part` on; shards that are right are kept.

    command: what makes the shards again, for their marks. overwrite: shards of other models or clips are made again.

    Raises:
        InputError: no such part; the clips are of no size that models take; a shard is another's and not `overwrite`.
    """
    if not 0 <= part < parts:
        raise InputError(f"there is no part {part} of {parts}; count from 0")
    check_size(*clips.shape)
    total = len(clips) if count is None else min(count, len(clips))
    shards = [range(start, min(start + SHARD_CLIPS, total)) for start in range(0, total, SHARD_CLIPS)][part::parts]
    jobs = [(numbers, _unfinished(encoders, clips, folder, numbers, command, overwrite)) for numbers in shards]
    with tqdm(total=sum(map(len, shards)), desc="latents", unit="clip") as bar:
        bar.update(sum(len(numbers) for numbers, files in jobs if not files))
        for numbers, files in jobs:
            if files:
                _encode_shard(files, clips, numbers, bar)


@dataclass(frozen=True)
class _File:
    """A shard that is to be written."""

    path: Path
    encoder: ClipEncoder
    mark: Mark


def _unfinished(
    encoders: Sequence[ClipEncoder], clips: ClipSource, folder: Path, numbers: range, command: str, overwrite: bool
) -> list[_File]:
    """The files of these clips that are not there yet, or that were made of something else and are to be replaced."""
    files, source = [], clips.fingerprint(numbers)
    for encoder in encoders:
        path = Path(folder) / f"{encoder.kind}-{numbers.start:06d}.safetensors"
        if path.exists():
            difference = Mark.of(open_shard(path).metadata()).difference(encoder.models, clips.shape, source)
            if not difference:
                continue
            if not overwrite:
                raise InputError(f"{path} {difference}; choose another folder, or replace it with --overwrite")
        mark = Mark(models=encoder.models, shape=clips.shape, source=source, command=command)
        files.append(_File(path, encoder, mark))
    return files


@torch.inference_mode()
def _encode_shard(files: list[_File], clips: ClipSource, numbers: range, bar: tqdm) -> None:
    rows: list[list[Row]] = [[] for _ in files]
    captions = []
    size = _clips_at_once(clips, files)
    groups = [numbers[n : n + size] for n in range(0, len(numbers), size)]
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(_read, clips, groups[0])
        for group, after in zip(groups, [*groups[1:], None], strict=True):
            read = following.result()
            if after:
                following = reader.submit(_read, clips, after)
            captions += [clip.caption for clip in read]
            for file, encoded in zip(files, rows, strict=True):
                encoded += file.encoder.encode(read, group)
            bar.update(len(group))
    for file, encoded in zip(files, rows, strict=True):
        # prompts differ in length; everything else in nothing
        tensors = {k: pad_sequence([row[k] for row in encoded], batch_first=True) for k in encoded[0]}
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise InputError(f"{name} of a clip from {numbers.start} to {numbers.stop - 1} overflows; "
                                 "the clip or the model is broken")  # fmt: skip
        write_tensors(tensors, file.path, file.mark.metadata(captions))


def _clips_at_once(clips: ClipSource, files: list[_File]) -> int:
    """One on a CPU, which gains nothing from more."""
    if all(file.encoder.device.type == "cpu" for file in files):
        return 1
    return max(1, PIXELS_AT_ONCE // math.prod(clips.shape))


def _read(clips: ClipSource, numbers: range) -> list[Clip]:
    return [clips[number] for number in numbers]
