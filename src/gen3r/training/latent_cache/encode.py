"""Fills the latent cache: clips go through the frozen models into shards, by many processes, resumable."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose
from gen3r.data.records import Clip, ClipSource
from gen3r.data.shards import SHARD_CLIPS, open_shard
from gen3r.errors import InputError
from gen3r.files import write_tensors
from gen3r.geometry.normalise import unit_of_cameras
from gen3r.models.components import Components
from gen3r.models.conditioning import control_latents, steering_depth, warped_control
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import exact_products, fast_products
from gen3r.models.tokens import pack_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE
from gen3r.request import check_size
from gen3r.training.latent_cache.options import EncodeOptions
from gen3r.training.latent_cache.shards import KINDS, Mark, model_hashes, shard_path

Row = dict[str, Tensor]  # of one clip, on the CPU
PIXELS_AT_ONCE = 1 << 22  # that an accelerator encodes together: 19 clips of nano's size, 1 of the published size


@dataclass(frozen=True)
class ClipBatch:
    """Clips that are encoded together.

    frame_indices: of each clip's conditioning frames. text_length: the number of tokens that captions are cut to.
    """

    clips: Sequence[Clip]
    frame_indices: Sequence[list[int]]
    text_length: int

    def images(self, model: VideoVAE | VGGT) -> Tensor:
        """[B, F, 3, H, W] in [0, 1], in the type and on the device of a model."""
        frames = torch.stack([clip.frames for clip in self.clips]).to(model.device)
        return (frames.permute(0, 1, 4, 2, 3) / 255).to(model.dtype)


def conditioning_frames(number: int, frames: int, two_views_every: int) -> list[int]:
    """Indices of a clip's conditioning frames: the first and last in every so many clips, else the first."""
    return [0] if number % two_views_every else [0, frames - 1]


def encode_appearance(components: Components, batch: ClipBatch) -> list[Row]:
    """appearance [16, f, h, w], control [20, f, h, 2w] of the conditioning frames, first_frame [3, H, W] in uint8.

    Latents are posterior means, as in Wan: sampling would only add noise.
    """
    vae = components.vae
    images = batch.images(vae)
    mask = torch.zeros(images.shape[:2], dtype=torch.bool, device=vae.device)
    for row, indices in enumerate(batch.frame_indices):
        mask[row, indices] = True
    with fast_products(vae.device):
        latents = vae.encode_video((2 * images - 1).transpose(1, 2)).mean
        control = control_latents(vae, images, mask)
    first = torch.stack([clip.frames[0].permute(2, 0, 1) for clip in batch.clips])
    return _rows(appearance=latents.half(), control=control.half(), first_frame=first)


def encode_geometry(components: Components, batch: ClipBatch) -> list[Row]:
    """geometry [16, f, h, w], T_world_camera [F, 4, 4] in the frame and unit of `_path`, K_px [F, 3, 3]."""
    vggt, adapter = components.vggt, components.geo_adapter
    images = batch.images(vggt)
    grid = tuple(side // vggt.config["patch_size"] for side in images.shape[-2:])
    with fast_products(vggt.device):
        levels = vggt.tokens(images)
        latents = adapter.encode(pack_tokens(levels, grid).to(adapter.dtype)).mean
    _, paths = _depth_and_paths(vggt, images, batch, lambda n: [x[n, None] for x in levels])
    poses, K_px = (torch.stack([getattr(path, name) for path in paths]) for name in ("T_world_camera", "K_px"))
    return _rows(geometry=latents.half(), T_world_camera=poses, K_px=K_px)


def encode_warped(components: Components, batch: ClipBatch) -> list[Row]:
    """warped [20, f, h, 2w]: the control of the conditioning frames, and of their warped views in the others."""
    vggt = components.vggt
    images = batch.images(vggt)
    depth, paths = _depth_and_paths(vggt, images, batch, lambda n: vggt.tokens(images[n, None]))
    views = [frames[indices] for frames, indices in zip(images, batch.frame_indices, strict=True)]
    models, places = (components.vae, vggt, components.geo_adapter), batch.frame_indices
    steering = [steering_depth(views[n], depth[n], places[n], paths[n]) for n in range(len(views))]
    with fast_products(vggt.device):
        control = warped_control(*models, views, steering, places, paths)
    return _rows(warped=control.half())


def encode_embeddings(components: Components, batch: ClipBatch) -> list[Row]:
    """prompt_embeds [L, D] of the caption, negative_prompt_embeds [L', D] of an empty prompt, both without padding, and
    image_embeds [N, D'] of the first frame, all in the encoders' floating-point types.
    """
    tokenizer, encoder, image_encoder = components.tokenizer, components.text_encoder, components.image_encoder

    def embed(prompt: str) -> Tensor:
        features = encode_text(tokenizer, encoder, [prompt], batch.text_length, encoder.device)[0].cpu()
        return features[: int((features != 0).any(-1).nonzero().max()) + 1]

    first = torch.stack([clip.images[0] for clip in batch.clips]).to(image_encoder.device)
    rows, negative = _rows(image_embeds=encode_image(image_encoder, first)), embed("")
    return [
        row | {"prompt_embeds": embed(clip.caption), "negative_prompt_embeds": negative}
        for clip, row in zip(batch.clips, rows, strict=True)
    ]


ENCODERS: dict[str, Callable[[Components, ClipBatch], list[Row]]] = {
    "appearance": encode_appearance,
    "geometry": encode_geometry,
    "warped": encode_warped,
    "embeddings": encode_embeddings,
}


def _depth_and_paths(
    vggt: VGGT, images: Tensor, batch: ClipBatch, levels: Callable[[int], list[Tensor]]
) -> tuple[list[Tensor], list[Cameras]]:
    """The depth [n, H, W] that VGGT predicts for each clip's conditioning frames alone, and each clip's `_path`.

    images: [B, F, 3, H, W]. levels: number of a clip -> the tokens of all its frames, for clips without depth.
    """
    depth: dict[int, Tensor] = {}
    for count in {len(x) for x in batch.frame_indices}:
        alike = [n for n, indices in enumerate(batch.frame_indices) if len(indices) == count]
        with fast_products(vggt.device):
            tokens = vggt.tokens(torch.stack([images[n, batch.frame_indices[n]] for n in alike]))
        depth |= zip(alike, vggt.heads(tokens, *images.shape[-2:], points=False).depth, strict=True)
    predicted = [depth[n] for n in range(len(images))]
    samples = zip(batch.clips, batch.frame_indices, predicted, strict=True)
    return predicted, [_path(vggt, *sample, partial(levels, n)) for n, sample in enumerate(samples)]


def _path(
    vggt: VGGT, clip: Clip, frame_indices: list[int], predicted: Tensor, levels: Callable[[], list[Tensor]]
) -> Cameras:
    """A clip's cameras, relative to the first, in the unit in which VGGT sees its conditioning frames.

    As in a generation, where cameras follow the scale of the depth `predicted` [n, H, W] for these frames: the unit is
    the median ratio to the true depth. Where that is unknown, the cameras that VGGT predicts from the `levels` of all
    frames give it.
    """
    path, truth = clip.cameras.relative_to_first(), clip.depth[frame_indices]
    ratio = (predicted.cpu() / truth)[truth > 0]
    if len(ratio):
        return path.scaled(float(ratio.median()))
    with fast_products(vggt.device):
        tokens = levels()
    height, width = clip.frames.shape[1:3]
    with exact_products(vggt.device):
        poses, _ = decode_pose(vggt.camera(tokens)[-1, 0], height, width)
    return path.scaled(1 / float(unit_of_cameras(path.T_world_camera, poses.cpu())))


def _rows(**tensors: Tensor) -> list[Row]:
    """Tensors of several clips (first axis) as one row per clip, on the CPU."""
    columns = {name: tensor.cpu() for name, tensor in tensors.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def encode_clips(
    kinds: Sequence[str],
    components: Components,
    clips: ClipSource,
    folder: Path,
    text_length: int,
    options: EncodeOptions = EncodeOptions(),  # noqa: B008
    command: str = "",
) -> None:
    """Encodes clips into files of these kinds. Files that are up to date are kept.

    command: makes the files again; their marks store it.

    Raises:
        InputError: models do not take clips of this size; a file was made from something else, and `options.overwrite`
            is off; the disk is full.
    """
    check_size(*clips.shape)
    total = len(clips) if options.clips is None else min(options.clips, len(clips))
    starts = range(0, total, SHARD_CLIPS)[options.shard :: options.num_shards]
    shards = [range(start, min(start + SHARD_CLIPS, total)) for start in starts]
    hashes = model_hashes(kinds, components, text_length)
    work: list[tuple[range, dict[str, Mark]]] = []
    for numbers in shards:
        common = {"shape": clips.shape, "source": clips.fingerprint(numbers), "command": command}
        marks = {kind: Mark(models={name: hashes[name] for name in KINDS[kind]}, **common) for kind in kinds}
        paths = {kind: shard_path(folder, kind, numbers.start) for kind in kinds}
        if due := {kind: mark for kind, mark in marks.items() if not _is_done(paths[kind], mark, options.overwrite)}:
            work.append((numbers, due))
    device: torch.device = getattr(components, KINDS[kinds[0]][0]).device
    at_once = 1 if device.type == "cpu" else max(1, PIXELS_AT_ONCE // math.prod(clips.shape))  # a CPU gains nothing
    every, count = options.two_views_every, sum(map(len, shards))
    done = count - sum(len(numbers) for numbers, _ in work)
    with tqdm(total=count, initial=done, desc="latents", unit="clip") as bar:
        for numbers, marks in work:
            batches = _batches(clips, numbers, at_once, text_length, every)
            _encode_shard(marks, components, batches, folder, numbers.start, bar)


def _is_done(path: Path, mark: Mark, overwrite: bool) -> bool:
    """Whether a file is up to date; one that is not is refused unless it may be replaced."""
    if not path.exists():
        return False
    difference = Mark.of(open_shard(path).metadata()).difference(mark.models, mark.shape, mark.source)
    if difference and not overwrite:
        raise InputError(f"{path} {difference}; choose another folder, or replace it with --overwrite")
    return not difference


def _batches(clips: ClipSource, numbers: range, size: int, text_length: int, every: int) -> Iterator[ClipBatch]:
    """Clips, `size` at a time. The next ones are read while the caller encodes."""

    def read(group: range) -> ClipBatch:
        indices = [conditioning_frames(number, clips.shape[0], every) for number in group]
        return ClipBatch([clips[number] for number in group], indices, text_length)

    groups = [numbers[n : n + size] for n in range(0, len(numbers), size)]
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, groups[0])
        for after in [*groups[1:], None]:
            batch = following.result()
            if after:
                following = reader.submit(read, after)
            yield batch


@torch.inference_mode()
def _encode_shard(
    marks: Mapping[str, Mark], components: Components, batches: Iterator[ClipBatch], folder: Path, start: int, bar: tqdm
) -> None:
    """Writes the files of some clips, of each kind that has a mark."""
    rows: dict[str, list[Row]] = {kind: [] for kind in marks}
    captions: list[str] = []
    for batch in batches:
        for kind in marks:
            rows[kind] += ENCODERS[kind](components, batch)
        captions += [clip.caption for clip in batch.clips]
        bar.update(len(batch.clips))
    for kind, mark in marks.items():
        path = shard_path(folder, kind, start)
        # embeddings of prompts differ in length
        tensors = {k: pad_sequence([row[k] for row in rows[kind]], batch_first=True) for k in rows[kind][0]}
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise InputError(f"{name} of a clip in {path} overflows; the clip or the model is broken")
        write_tensors(tensors, path, {"captions": json.dumps(captions), "mark": json.dumps(asdict(mark))})
