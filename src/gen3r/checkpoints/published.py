"""The published checkpoint layout: folders, prefixes, and constructor arguments from shapes and config.json."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen3r.checkpoints import keymaps_vae, keymaps_wan
from gen3r.models.presets import GEOMETRY_MEAN, GEOMETRY_STD, WAN_MEAN, WAN_STD, build_components, published

Tensors = dict[str, Tensor]
Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class PublishedComponent:
    """Where a component lies in a published folder and how its tensors are named there."""

    folder: str
    file: str
    prefix: str
    from_published: Callable[[Tensors], Tensors]
    to_published: Callable[[Tensors], Tensors]
    arguments: Callable[[Shapes, dict[str, Any]], dict[str, Any]]
    ignored_prefix: str | None = None


# Constructor arguments that shapes do not tell; `gen3r convert` writes them to config.json.
_KEPT = {
    "transformer": ("unseen_frames",),
    "vae": (
        "dim_mult", "num_res_blocks", "temperal_downsample", "patch_size", "in_channels", "out_channels",
        "latents_mean", "latents_std",
    ),
    "geo_adapter": ("multipliers", "latents_mean", "latents_std"),
    "vggt": ("patch_embed_heads", "camera_heads", "pixel_centre"),
}  # fmt: skip


def published_config(name: str, config: Any) -> dict[str, Any]:
    """The config.json of a component: what shapes do not tell."""
    kept = {key: getattr(config, key) for key in _KEPT.get(name, ())}
    if name in ("transformer", "image_encoder"):
        return {"num_heads": config.num_attention_heads, **kept}
    if name == "vggt":
        levels = list(config.intermediate_levels)
        kept |= {"num_heads": config.num_heads, "patch_size": config.patch_size, "intermediate_layer_idx": levels}
    return kept


def _kept(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _KEPT[name] if key in config}


def _layers(shapes: Shapes, prefix: str) -> int:
    return 1 + max(int(k.removeprefix(prefix).split(".")[0]) for k in shapes if k.startswith(prefix))


def _transformer(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    dim = shapes["patch_embedding.weight"][0]
    heads = config.get("num_heads", max(dim // 128, 1))
    return {
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "in_channels": shapes["patch_embedding.weight"][1],
        "text_dim": shapes["text_embedding.0.weight"][1],
        "freq_dim": shapes["time_embedding.0.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.0.weight"][0],
        "num_layers": _layers(shapes, "blocks."),
        "image_dim": shapes["img_emb.proj.0.weight"][0],
    } | _kept("transformer", config)


def _vae(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    published = {"base_dim": shapes["encoder.conv1.weight"][0], "latents_mean": WAN_MEAN, "latents_std": WAN_STD}
    return published | _kept("vae", config)


def _adapter(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    between, channels = shapes["encoder.init_block.resample.1.weight"][:2]
    return {
        "token_channels": channels,
        "hidden_dim": shapes["decoder.conv1.weight"][0],
        "resample_scale": channels // between,
        "latents_mean": GEOMETRY_MEAN,
        "latents_std": GEOMETRY_STD,
    } | _kept("geo_adapter", config)


def _vggt(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    patch = config.get("patch_size", 14)
    dim = shapes["aggregator.camera_token"][-1]
    depth = _layers(shapes, "aggregator.frame_blocks.")
    side = int((shapes["aggregator.patch_embed.pos_embed"][1] - 1) ** 0.5)
    heads = config.get("num_heads", max(dim // 64, 1))
    return {
        "embed_dim": dim,
        "depth": depth,
        "num_heads": heads,
        "patch_size": patch,
        "image_size": side * patch,
        "patch_embed_depth": _layers(shapes, "aggregator.patch_embed.blocks."),
        "patch_embed_heads": heads,
        "intermediate_levels": tuple(config.get("intermediate_layer_idx", (4, 11, 17, 23) if depth > 4 else range(4))),
        "camera_trunk_depth": _layers(shapes, "camera_head.trunk."),
        "dpt_features": shapes["depth_head.scratch.layer1_rn.weight"][0],
        "dpt_out_channels": tuple(shapes[f"depth_head.projects.{i}.weight"][0] for i in range(4)),
    } | _kept("vggt", config)


def _text(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    vocabulary, dim = shapes["token_embedding.weight"]
    buckets, heads = shapes["blocks.0.pos_embedding.embedding.weight"]
    return {
        "vocab_size": vocabulary,
        "d_model": dim,
        "d_kv": shapes["blocks.0.attn.q.weight"][0] // heads,
        "d_ff": shapes["blocks.0.ffn.fc1.weight"][0],
        "num_heads": heads,
        "num_layers": _layers(shapes, "blocks."),
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
    }


def _image(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    dim, projection = shapes["head"]
    patch = shapes["patch_embedding.weight"][-1]
    return {
        "hidden_size": dim,
        "intermediate_size": shapes["transformer.0.mlp.0.weight"][0],
        "projection_dim": projection,
        "num_hidden_layers": _layers(shapes, "transformer."),
        "num_attention_heads": config.get("num_heads", max(dim // 80, 1)),
        "image_size": int((shapes["pos_embedding"][1] - 1) ** 0.5) * patch,
        "patch_size": patch,
        "hidden_act": "gelu",
    }


def _same(tensors: Tensors) -> Tensors:
    return dict(tensors)


_WEIGHTS = "diffusion_pytorch_model.safetensors"
COMPONENTS = {
    "transformer": PublishedComponent(
        "transformer", _WEIGHTS, "",
        keymaps_wan.transformer_from_published, keymaps_wan.transformer_to_published, _transformer,
    ),
    "vae": PublishedComponent(
        "wan_vae", _WEIGHTS, "model.", keymaps_vae.vae_from_published, keymaps_vae.vae_to_published, _vae
    ),
    "geo_adapter": PublishedComponent(
        "geo_adapter", _WEIGHTS, "model.",
        keymaps_vae.adapter_from_published, keymaps_vae.adapter_to_published, _adapter,
    ),
    "vggt": PublishedComponent(
        "vggt", "model.safetensors", "", _same, _same, _vggt, ignored_prefix="track_head."
    ),
    "text_encoder": PublishedComponent(
        "text_encoder", _WEIGHTS, "", keymaps_wan.text_from_published, keymaps_wan.text_to_published, _text
    ),
    "image_encoder": PublishedComponent(
        "clip_image_encoder", _WEIGHTS, "model.visual.", keymaps_wan.image_from_published,
        keymaps_wan.image_to_published, _image, ignored_prefix="model.textual.",
    ),
}  # fmt: skip


def published_tensor_shapes() -> dict[str, dict[str, list[int]]]:
    """{component: {published name: shape}} of the published size, from our own modules through the key maps.

    The image encoder stands under `clip_image_encoder.model.visual`, its names without that prefix.
    """
    with torch.device("meta"):
        modules = build_components(published())
    shapes = {}
    for name, component in COMPONENTS.items():
        tensors = component.to_published(getattr(modules, name).state_dict())
        image = name == "image_encoder"
        title = f"{component.folder}.{component.prefix.rstrip('.')}" if image else component.folder
        prefix = "" if image else component.prefix
        shapes[title] = {prefix + k: list(v.shape) for k, v in tensors.items()}
    return shapes
