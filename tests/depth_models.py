"""Tiny, untrained models for geometry in the layouts of the real ones: VGGT's own, and transformers' for depth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DepthProConfig,
    DepthProForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessorPil,
    GLPNConfig,
    GLPNForDepthEstimation,
    GLPNImageProcessorPil,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
    ZoeDepthImageProcessorPil,
)

from gen3r.models.vggt import VGGT

SIDE = 56  # of the square images that the processors make
_VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 14}
_LEVELS = {"out_indices": [1, 2, 3, 4], "reshape_hidden_states": False}
_DINO = {"model_type": "dinov2", **_VIT, **_LEVELS, "image_size": SIDE}
_NECK = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}


def _depth_anything(**options: Any) -> Any:
    config = DepthAnythingConfig(
        backbone_config=_DINO, reassemble_hidden_size=16, head_hidden_size=8, **_NECK, **options
    )
    return DepthAnythingForDepthEstimation(config)


def _dpt() -> Any:
    vit = {**_VIT, "patch_size": 16, "image_size": 64}
    return DPTForDepthEstimation(DPTConfig(**vit, **_NECK, backbone_out_indices=[0, 1, 2, 3]))


def _dpt_dinov2() -> Any:
    return DPTForDepthEstimation(DPTConfig(backbone_config=_DINO, hidden_size=16, **_NECK))


def _zoedepth() -> Any:
    beit = {"model_type": "beit", **_VIT, **_LEVELS, "image_size": SIDE, "use_relative_position_bias": True}
    config = ZoeDepthConfig(
        backbone_config=beit, backbone_hidden_size=16, **_NECK, bottleneck_features=8, num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=8, num_relative_features=8, patch_transformer_hidden_size=8,
        patch_transformer_intermediate_size=8, patch_transformer_num_attention_heads=2,
    )  # fmt: skip
    return ZoeDepthForDepthEstimation(config)


def _depth_pro() -> Any:
    dino = {"model_type": "dinov2", **_VIT, "image_size": 28}
    config = DepthProConfig(
        **{f"{name}_model_config": dict(dino) for name in ("image", "patch", "fov")}, patch_size=28,
        fusion_hidden_size=8, intermediate_hook_ids=[2, 1], intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[8, 8, 8], merge_padding_value=0, use_fov_model=True,
    )  # fmt: skip
    model = DepthProForDepthEstimation(config)
    with torch.no_grad():
        model.fov_model.head.layers[-1].bias.fill_(60.0)  # degrees
    return model


def _glpn() -> Any:
    config = GLPNConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=8
    )
    return GLPNForDepthEstimation(config)


_DPT_PROCESSOR = DPTImageProcessorPil(
    size={"height": SIDE, "width": SIDE}, ensure_multiple_of=14, keep_aspect_ratio=True
)
_ZOE_PROCESSOR = ZoeDepthImageProcessorPil(size={"height": SIDE, "width": SIDE}, ensure_multiple_of=14)
MODELS: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "depth anything": (_depth_anything, _DPT_PROCESSOR, "relative"),
    "metric depth anything": (
        lambda: _depth_anything(depth_estimation_type="metric", max_depth=20), _DPT_PROCESSOR, "metric"
    ),
    "midas": (_dpt, DPTImageProcessorPil(size={"height": 64, "width": 64}), "relative"),
    "dpt on dinov2": (_dpt_dinov2, _DPT_PROCESSOR, "metric"),
    "zoedepth": (_zoedepth, _ZOE_PROCESSOR, "metric"),
    "glpn": (_glpn, GLPNImageProcessorPil(), "metric"),
    "depth pro": (_depth_pro, None, "canonical"),
}  # fmt: skip


def save_depth_model(name: str, folder: Path) -> Path:
    """Writes one of `MODELS`, whose output varies over an image."""
    build, processor, _ = MODELS[name]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1.5 * parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder


def save_vggt(folder: Path, seed: int = 0) -> VGGT:
    """Writes a tiny VGGT as facebook/VGGT-1B is laid out, track head included, and returns it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vggt = VGGT(
            embed_dim=64, depth=4, num_heads=1, image_size=112, patch_embed_depth=1, patch_embed_heads=1,
            intermediate_levels=(0, 1, 2, 3), camera_trunk_depth=1, dpt_features=8, dpt_out_channels=(8, 8, 8, 8),
        )  # fmt: skip
        vggt.init_weights()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {**vggt.state_dict(), "track_head.tracker.corr_mlp.fc1.weight": torch.zeros(4, 4)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"img_size": 112, "patch_size": 14, "embed_dim": 64}))
    return vggt.eval()
