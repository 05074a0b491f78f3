"""Compares our modules with numbers that the published ones gave: `python tests/golden.py DIR`.

DIR holds meta.json (salt, sizes, and every entry's shape and step), keys.json (published tensor names and shapes) and
golden.safetensors. Weights and inputs are made again from their names alone. Prints a line an entry with its relative
L2 error; exits with 1 if one is over the tolerance, with 2 if DIR is not such a folder.
"""

import itertools
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import decode_pose, encode_pose, relative_to_first
from gen3r.cameras.rays import pluecker_rays
from gen3r.checkpoints.load import _empty
from gen3r.checkpoints.published import COMPONENTS
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.models.encoders import encode_pixels, encode_tokens
from gen3r.models.presets import build_scheduler, published
from gen3r.models.vggt.model import GeometryPrediction
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request

COMPONENT_TOLERANCE, END_TO_END_TOLERANCE = 1e-4, 1e-3
END_TO_END = ("one_view", "two_view")
Entries = Iterator[tuple[str, Tensor]]


def normal(name: str, *shape: int, salt: int = 0) -> Tensor:
    """Standard normals that depend on the name and the salt alone."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + salt) % 2**32)
    return torch.from_numpy(np.asarray(random.standard_normal(shape), np.float32))


def weight(name: str, x: Tensor) -> Tensor:
    """Normals as a weight: near 1 or 0 for gains and biases, scaled by the fan-in otherwise."""
    if all(n == 1 for n in x.shape[1:]):
        return 0.1 * x + (0.0 if name.endswith("bias") else 1.0)
    return x / float(np.sqrt(np.prod(x.shape[1:])))


class Reference:
    """A folder of golden numbers, and the weights and inputs that go with them."""

    def __init__(self, folder: Path) -> None:
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        self.keys: dict[str, dict[str, list[int]]] = json.loads((folder / "keys.json").read_text())
        self.golden = load_file(folder / "golden.safetensors")
        self.end_to_end = any(name.startswith("e2e.") for name in self.golden)
        self.prefix = "e2e." if self.end_to_end else ""

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normals of the folder's salt."""
        return normal(name, *shape, salt=self.meta["salt"])

    def module(self, name: str) -> Any:
        """One of our components with the recipe's weights."""
        component = COMPONENTS[name]
        tensors, shapes = {}, {}
        for path, keys in self.keys.items():
            root, _, inside = path.partition(".")
            if root != component.folder:
                continue
            title = f"{'clip' if root == 'clip_image_encoder' else root}.{inside + '.' if inside else ''}"
            kept = inside + "." if name == "vggt" else ""
            for key, shape in keys.items():
                full = self.prefix + title + key
                tensors[kept + key] = weight(full, self.normal(full, *shape))
                shapes[kept + key] = shape
        if name == "vggt":
            tensors["camera_head.pose_branch.fc2.bias"][7:9] += 2.0
        module = _empty(name, component.arguments(shapes, self._config(name)), len(shapes), Path())
        ours = component.from_published(tensors)
        module.load_state_dict(ours, strict=True, assign=True)
        return module.eval()

    def _config(self, name: str) -> dict[str, Any]:
        config = dict(self.meta.get({"image_encoder": "clip_config"}.get(name, f"{name}_config"), {}))
        if name == "geo_adapter" and "geo_latents_mean" in self.meta:
            config |= {"latents_mean": self.meta["geo_latents_mean"], "latents_std": self.meta["geo_latents_std"]}
        return config

    def shape(self, entry: str) -> list[int]:
        """The full shape of an entry."""
        return self.meta[entry]["shape"]

    def error(self, entry: str, value: Tensor) -> float:
        """Relative L2 error of the stored values."""
        if list(value.shape) != self.shape(entry):
            raise ValueError(f"{entry}: our shape is {list(value.shape)}, the golden one {self.shape(entry)}")
        ours = value.float().flatten()[:: self.meta[entry]["step"]].double()
        golden = self.golden[entry].flatten().double()
        return float((ours - golden).norm() / golden.norm())


def transformer(r: Reference) -> Entries:
    module = r.module("transformer")
    shape = r.shape("transformer.out")
    b, _, f, h, w = shape
    length, dim = r.meta["transformer_config"]["text_len"], module.config.text_dim
    text = torch.zeros(2, length, dim)
    text[0, :7], text[1] = r.normal("in.text0", 7, dim), r.normal("in.text1", length, dim)
    camera = r.normal("in.camera", b, 24, f, 8 * h, 8 * w)
    latents, control = r.normal("in.latents", *shape), r.normal("in.control", b, 20, f, h, w)
    clip = r.normal("in.clip", b, 257, module.config.image_dim)
    time = torch.tensor([500.0, 37.0])
    yield "transformer.out", module(latents, time, text, clip, control, camera)
    yield "transformer.out_nocam", module(latents, time, text, clip, control, torch.zeros_like(camera))
    yield "camera_adapter.out", module.camera_branch(camera)


def video_vae(r: Reference) -> Entries:
    module = r.module("vae")
    b, _, f, h, w = r.shape("wan_vae.moments")
    video = (0.5 * r.normal("in.video", b, 3, 4 * f - 3, 8 * h, 8 * w)).clamp(-1, 1)
    posterior = module.encode_video(video)
    yield "wan_vae.moments", torch.cat([posterior.mean, posterior.logvar], 1)
    b, _, f, h, w = r.shape("wan_vae.decoded")
    yield "wan_vae.decoded", module.decode_latents(r.normal("in.z", b, 16, (f + 3) // 4, h // 8, w // 8))


def geo_adapter(r: Reference) -> Entries:
    module = r.module("geo_adapter")
    b, _, f, h, w = r.shape("geo_adapter.moments")
    tokens = r.normal("in.tokens", b, module.config.token_channels, 4 * f - 3, 4 * h // 7, 4 * w // 7)
    posterior = module.encode(tokens)
    yield "geo_adapter.moments", torch.cat([posterior.mean, posterior.logvar], 1)
    b, _, f, h, w = r.shape("geo_adapter.decoded")
    yield "geo_adapter.decoded", module.decode(r.normal("in.gz", b, 16, (f + 3) // 4, 7 * h // 4, 7 * w // 4))


def vggt(r: Reference) -> Entries:
    module = r.module("vggt")
    b, f, h, w, _ = r.shape("vggt.depth")
    levels = module.tokens((0.5 + 0.25 * r.normal("in.images", b, f, 3, h, w)).clamp(0, 1))
    for i, level in enumerate(levels):
        yield f"vggt.tokens{i}", level
    prediction: GeometryPrediction = module.heads(levels, h, w)
    yield "vggt.pose_enc", prediction.pose_enc[-1]
    yield "vggt.pose_enc_first", prediction.pose_enc[0]
    yield "vggt.points", prediction.points
    yield "vggt.points_conf", prediction.points_confidence
    yield "vggt.depth", prediction.depth[..., None]
    yield "vggt.depth_conf", prediction.depth_confidence


def encoders(r: Reference) -> Entries:
    ids = torch.tensor([[5, 9, 33, 12, 1, 0, 0, 0], [7, 8, 9, 10, 11, 12, 13, 1]])
    output = r.module("text_encoder")(input_ids=ids, attention_mask=(ids > 0).long())
    yield "text_encoder.out", output.last_hidden_state
    side = r.meta["clip_config"]["image_size"]
    yield "clip.features", encode_pixels(r.module("image_encoder"), r.normal("in.clip_pixels", 2, 3, side, side))


def cameras(r: Reference) -> Entries:
    f, _, h, w = r.shape("plucker")
    pose = 0.3 * r.normal("in.pose_enc", 1, f, 9)
    pose[..., 7:] = pose[..., 7:].abs() + 0.6
    T, K = decode_pose(pose, h, w)
    yield "pose.extrinsics", torch.linalg.inv(T)[..., :3, :]
    yield "pose.intrinsics", K
    pose[..., 3:7] /= pose[..., 3:7].norm(dim=-1, keepdim=True)
    T, K = decode_pose(pose, h, w)
    yield "pose.roundtrip", encode_pose(T, K, h, w)
    depth = r.normal("in.depth", f, h, w, 1).abs()[..., 0] + 0.5
    yield "unproject.points", unproject(depth, T[0], K[0], pixel_centre=0.0)
    yield "unproject.mask", valid_depth_mask(depth)
    relative = relative_to_first(T[0])
    yield "pose.relative_c2w", relative
    yield "plucker", pluecker_rays(relative, K[0], h, w).transpose(0, 1)
    wide = Cameras(torch.eye(4)[None], torch.tensor([[[900.0, 0, 640], [0, 905, 360], [0, 0, 1]]]), 720, 1280)
    yield "center_crop_K", wide.resize_and_crop(560, 560).K_px[0]


class RecordingPipeline(Gen3RPipeline):
    """Keeps the last control."""

    def prepare_control(self, *arguments: Any) -> Tensor:
        self.control = super().prepare_control(*arguments)
        return self.control


def end_to_end(r: Reference) -> Entries:
    frames, height, width = r.meta["num_frames"], r.meta["height"], r.meta["width"]
    names = [n for n in COMPONENTS if n != "image_encoder"]
    pipe = RecordingPipeline(
        **{name: r.module(name) for name in names}, image_encoder=None, tokenizer=None,  # pyright: ignore[reportArgumentType]
        scheduler=build_scheduler(published()), defaults=published().defaults,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    length = r.meta["transformer_config"]["text_len"]

    def text(ids: list[int]) -> Tensor:
        padded = torch.tensor([ids + [0] * (length - len(ids))])
        return encode_tokens(pipe.text_encoder, padded, (padded > 0).long())

    T = torch.eye(4).repeat(frames, 1, 1)
    T[:, 2, 3] = torch.linspace(0, 0.8, frames)
    K = torch.tensor([[500.0, 0, width / 2], [0, 500.0, height / 2], [0, 0, 1]]).repeat(frames, 1, 1)
    images = (0.5 + 0.25 * r.normal("e2e.image", 1, 2, 3, height, width)).clamp(0, 1)
    shape = r.shape("e2e.one_view.latents")
    for views, name in zip((1, 2), END_TO_END, strict=True):
        request = Request(
            images=images[:, :views], cameras=Cameras(T, K, height, width), num_frames=frames, height=height,
            width=width, num_inference_steps=r.meta["num_inference_steps"], guidance_scale=r.meta["guidance_scale"],
            prompt_embeds=text(r.meta["prompt_ids"]), negative_prompt_embeds=text(r.meta["negative_ids"]),
            image_embeds=r.normal("e2e.clip", 1, 257, pipe.transformer.config.image_dim),
        ).resolve(pipe.defaults)  # fmt: skip
        latents = pipe(request, latents=r.normal("e2e.latents", *shape), output_type="latent")
        assert isinstance(latents, Tensor)
        control = pipe.control
        yield f"e2e.{name}.control", torch.cat([control[:, :16], torch.zeros_like(control[:, 16:])], dim=1)
        yield f"e2e.{name}.latents", latents
    yield from decoded(pipe, *latents.chunk(2, dim=-1))


def decoded(pipe: Gen3RPipeline, appearance: Tensor, geometry: Tensor) -> Entries:
    """What the latents of two views are decoded to."""
    prediction = pipe.decode_geometry(geometry, points=True)
    height, width = prediction.depth.shape[-2:]
    T, K = decode_pose(prediction.pose_enc[-1], height, width, (0.0, float("inf")))  # random heads exceed 180 degrees
    yield "e2e.two_view.point_maps", prediction.points
    yield "e2e.two_view.depth_maps", prediction.depth[..., None]
    yield "e2e.two_view.rgbs", pipe.decode_frames(appearance).movedim(2, -1)
    yield "e2e.two_view.pcds", unproject(prediction.depth, T, K, pixel_centre=0.0)
    yield "e2e.two_view.mask", valid_depth_mask(prediction.depth[0])[None]
    yield "e2e.two_view.extrinsics", torch.linalg.inv(T)[..., :3, :]
    yield "e2e.two_view.intrinsics", K


@torch.inference_mode()
def compare(folder: Path) -> dict[str, float]:
    """The relative L2 error of every entry; prints a line per entry.

    Raises:
        ValueError: entries of the folder are left over.
    """
    reference = Reference(folder)
    makers = (end_to_end,) if reference.end_to_end else (transformer, video_vae, geo_adapter, vggt, encoders, cameras)
    errors: dict[str, float] = {}
    for name, value in itertools.chain.from_iterable(maker(reference) for maker in makers):
        errors[name] = reference.error(name, value)
        print(f"{errors[name]:.2e}  {name}", flush=True)
    left = set(reference.golden) - set(errors)
    if left:
        raise ValueError(f"no code compares {', '.join(sorted(left))}")
    return errors


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python tests/golden.py DIR", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    if not (folder / "golden.safetensors").is_file():
        print(f"golden.py: {folder} holds no golden.safetensors; give a folder made as RECIPE.md says", file=sys.stderr)
        return 2
    errors = compare(folder)
    tolerance = END_TO_END_TOLERANCE if any(n.startswith("e2e.") for n in errors) else COMPONENT_TOLERANCE
    over = [name for name, error in errors.items() if not error <= tolerance]
    print(f"{len(errors) - len(over)} of {len(errors)} entries under {tolerance:g}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
