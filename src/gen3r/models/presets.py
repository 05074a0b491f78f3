"""Complete configurations: the published size, nano, and one for tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, UMT5Config, UMT5EncoderModel

from gen3r.models.adapter import GeometryAdapter
from gen3r.models.components import Components
from gen3r.models.conditioning import shift_timestep
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

Arguments = dict[str, Any]

# What a pipeline keeps of a configuration besides its components.
DEFAULTS = (
    "text_length", "num_frames", "height", "width", "num_inference_steps", "guidance_scale", "negative_prompt",
    "clamp_known", "geometry_from", "cameras", "photo_size", "mag_ratios",
)  # fmt: skip

# Channel statistics of the published latents (the checkpoint's own numbers).
WAN_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
GEOMETRY_MEAN = (
    0.14257538, 0.18577661, 0.14208488, 0.06298031,
    0.09738383, -0.06001362, -0.04728968, -0.12326089,
    -0.04308648, -0.10522724, 0.08278389, -0.00270301,
    -0.09203526, 0.03170688, 0.11458898, 0.10679868,
)  # fmt: skip
GEOMETRY_STD = (
    0.56929547, 0.61451489, 0.68560797, 0.78598368,
    0.51151282, 0.75570852, 0.80284864, 0.63438177,
    0.82458758, 0.5926643, 0.75781488, 0.70593017,
    0.70382243, 0.57837099, 0.7315554, 0.7197147,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The constructor arguments of each component, and the defaults of generation with these models.

    last_sigma: noise level before the last sampling step; None keeps the scheduler's own, which is almost 0.
    clamp_known: whether known latents are kept at their values. geometry_from: what cameras, depth and points are
        computed from.
    cameras: task ("one view", "two views", ...) -> path of the cameras where a request names none. Other tasks have
        free cameras.
    mag_ratios: of MagCache, by `gen3r calibrate`: how the change that the blocks make grows from step to step.
    photo_size: VGGT sees up to four frames at about this number of pixels squared, and a single one smaller too, to
        average its depth. None: as the clip, and once.
    """

    vggt: Arguments = field(default_factory=dict)
    geo_adapter: Arguments = field(default_factory=dict)
    vae: Arguments = field(default_factory=dict)
    transformer: Arguments = field(default_factory=dict)
    text_encoder: Arguments = field(default_factory=dict)
    image_encoder: Arguments = field(default_factory=dict)
    text_length: int = 512
    num_frames: int = 49
    height: int = 560
    width: int = 560
    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    shift: float = 2.0
    last_sigma: float | None = None
    negative_prompt: str = "bad detailed"
    clamp_known: bool = False
    geometry_from: Literal["frames", "latents"] = "latents"
    cameras: dict[str, str] = field(default_factory=dict)
    photo_size: int | None = None
    mag_ratios: list[float] = field(default_factory=list)

    @property
    def defaults(self) -> Arguments:
        """What a pipeline keeps of a configuration besides its components."""
        return {name: getattr(self, name) for name in DEFAULTS}


def published() -> ModelConfig:
    """The published models: 1.6 B transformer, VGGT-1B, 318 M adapter, UMT5-XXL, CLIP ViT-H. 49 frames of 560 x 560."""
    return ModelConfig(
        geo_adapter={"latents_mean": GEOMETRY_MEAN, "latents_std": GEOMETRY_STD},
        vae={"latents_mean": WAN_MEAN, "latents_std": WAN_STD},
        text_encoder={
            "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64, "num_layers": 24,
            "feed_forward_proj": "gated-gelu",
        },
        image_encoder={
            "hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1024, "num_hidden_layers": 32,
            "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "hidden_act": "gelu",
        },
    )  # fmt: skip


def nano() -> ModelConfig:
    """The models in the package, 33 M parameters: 17 frames of 112 x 112 on a laptop's CPU.

    They were trained on the procedural world with `gen3r train`; weights/nano/README.md gives commands and scores.
    """
    return ModelConfig(
        vggt={
            "embed_dim": 192, "depth": 4, "num_heads": 3, "image_size": 112, "patch_embed_depth": 4,
            "patch_embed_heads": 3, "intermediate_levels": (0, 1, 2, 3), "camera_trunk_depth": 2, "camera_heads": 6,
            "dpt_features": 32, "dpt_out_channels": (32, 48, 96, 96), "pixel_centre": 0.5,
        },
        geo_adapter={"token_channels": 1920, "hidden_dim": 32, "multipliers": (2, 1, 1, 1), "resample_scale": 30},
        vae={
            "base_dim": 16, "dim_mult": [1, 4, 6], "num_res_blocks": 1, "temperal_downsample": [True, True],
            "in_channels": 12, "out_channels": 12, "patch_size": 2,
            "latents_mean": (0.0,) * 16, "latents_std": (1.0,) * 16,
        },
        transformer={
            "num_attention_heads": 4, "attention_head_dim": 64, "text_dim": 128, "freq_dim": 128, "ffn_dim": 896,
            "num_layers": 8, "image_dim": 128, "unseen_frames": "warped",
        },
        text_encoder={
            "vocab_size": 512, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_heads": 4, "num_layers": 2,
            "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0,
        },
        image_encoder={
            "hidden_size": 128, "intermediate_size": 512, "projection_dim": 16, "num_hidden_layers": 4,
            "num_attention_heads": 2, "image_size": 112, "patch_size": 14, "hidden_act": "gelu",
        },
        text_length=48, num_frames=17, height=112, width=112, num_inference_steps=8, guidance_scale=1.0,
        negative_prompt="", clamp_known=True, geometry_from="frames",
        cameras={"one view": "orbit_left", "two views": "between"}, photo_size=168,
    )  # fmt: skip


def tiny() -> ModelConfig:
    """A few thousand random parameters per component, for tests only."""
    return ModelConfig(
        vggt={
            "embed_dim": 32, "depth": 4, "num_heads": 2, "image_size": 112, "patch_embed_depth": 1,
            "patch_embed_heads": 2, "intermediate_levels": (0, 1, 2, 3), "camera_trunk_depth": 1, "camera_heads": 2,
            "dpt_features": 8, "dpt_out_channels": (8, 8, 8, 8), "pixel_centre": 0.5,
        },
        geo_adapter={"token_channels": 320, "hidden_dim": 4, "resample_scale": 40},
        vae={
            "base_dim": 4, "dim_mult": [1, 1, 1], "num_res_blocks": 1, "temperal_downsample": [True, True],
            "in_channels": 12, "out_channels": 12, "patch_size": 2,
            "latents_mean": (0.0,) * 16, "latents_std": (1.0,) * 16,
        },
        transformer={
            "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32,
            "num_layers": 2, "image_dim": 16,
        },
        text_encoder={
            "vocab_size": 512, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 1,
            "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0,
        },
        image_encoder={
            "hidden_size": 16, "intermediate_size": 32, "projection_dim": 4, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "hidden_act": "gelu",
        },
        text_length=16, num_frames=5, height=112, width=112, num_inference_steps=2, guidance_scale=2.0,
    )  # fmt: skip


def distilled(config: ModelConfig, steps: int = 4) -> ModelConfig:
    """The same models with a transformer distilled to a few steps, at least 2, without guidance.

    With four steps, the usual schedule spends the last one between sigma 0.004 and 0. Here the last step starts at
    1 / steps, shifted, so that every step counts.
    """
    last_sigma = shift_timestep(torch.tensor(1 / steps, dtype=torch.float64), config.shift).item()
    return replace(config, num_inference_steps=steps, guidance_scale=1.0, last_sigma=last_sigma)


def sampling_of(config: ModelConfig) -> dict[str, Any]:
    """What a student brings: defaults of a model, and the arguments of its scheduler."""
    schedule = {"shift": config.shift, "shift_terminal": config.last_sigma}
    return {
        "num_inference_steps": config.num_inference_steps,
        "guidance_scale": config.guidance_scale,
        "schedule": schedule,
    }


def build_components(config: ModelConfig) -> Components:
    """The components of a configuration without the tokenizer: modules on the default device, untrained."""
    return Components(
        vggt=VGGT(**config.vggt),
        geo_adapter=GeometryAdapter(**config.geo_adapter),
        vae=VideoVAE(**config.vae),
        transformer=Gen3RTransformer(**config.transformer),
        text_encoder=UMT5EncoderModel(UMT5Config(**config.text_encoder)),
        image_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig(**config.image_encoder)),
        scheduler=build_scheduler(config),
        defaults=config.defaults,
    )


def build_scheduler(config: ModelConfig) -> FlowMatchEulerDiscreteScheduler:
    """The Euler scheduler of a configuration."""
    return FlowMatchEulerDiscreteScheduler(**sampling_of(config)["schedule"])


def least_steps(scheduler: Mapping[str, Any]) -> int:
    """The fewest steps of a scheduler of this configuration: two where it stretches them to end before 0."""
    return 2 if scheduler.get("shift_terminal") else 1
