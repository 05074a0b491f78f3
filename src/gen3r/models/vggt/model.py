"""VGGT as one model: images -> tokens -> cameras, depth and points."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from gen3r.models.precision import exact_products
from gen3r.models.vggt.aggregator import Aggregator
from gen3r.models.vggt.camera_head import CameraHead
from gen3r.models.vggt.dense_head import DenseHead

PUBLISHED_PIXELS = 560 * 560  # of a frame


@dataclass(frozen=True)
class DensePrediction:
    """Depth [B, F, H, W] and points [B, F, H, W, 3] of the normalised scene, with confidences [B, F, H, W] above 1.

    All are float32. The unit is the mean distance of the points from the first camera.
    """

    depth: Tensor
    depth_confidence: Tensor
    points: Tensor
    points_confidence: Tensor


@dataclass(frozen=True)
class GeometryPrediction:
    """Depth and its confidence as in `DensePrediction`, and cameras; points only where they were asked for.

    pose_enc: [R, B, F, 9], one per refinement round; the last round is the prediction. metres_per_unit: of each
    sample, where a model knows metres.
    """

    depth: Tensor
    depth_confidence: Tensor
    pose_enc: Tensor
    points: Tensor | None = None
    points_confidence: Tensor | None = None
    metres_per_unit: tuple[float, ...] | None = None


class VGGT(ModelMixin, ConfigMixin):
    """Visual Geometry Grounded Transformer (Wang et al., CVPR 2025). The default sizes are the published ones.

    The heads stay in float32 when the rest is loaded in bfloat16: cameras and depth need the precision.
    """

    _keep_in_fp32_modules = ["camera_head", "depth_head", "point_head"]
    _group_offload_block_modules = ["aggregator", "patch_embed", "camera_head", "depth_head", "point_head"]
    _repeated_blocks = ["Block"]
    frames_chunk = 8  # of the published size that the dense heads see at once

    @register_to_config
    def __init__(
        self,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        patch_size: int = 14,
        image_size: int = 518,
        patch_embed_depth: int = 24,
        patch_embed_heads: int = 16,
        intermediate_levels: tuple[int, ...] = (4, 11, 17, 23),
        camera_trunk_depth: int = 4,
        camera_heads: int = 16,
        dpt_features: int = 256,
        dpt_out_channels: tuple[int, ...] = (256, 512, 1024, 1024),
        pixel_centre: float = 0.0,
    ) -> None:
        """pixel_centre: where in a pixel the depth's ray passes; the published model was trained with the corner, 0."""
        super().__init__()
        levels, channels = tuple(intermediate_levels), tuple(dpt_out_channels)
        self.aggregator = Aggregator(
            embed_dim, depth, num_heads, patch_size, image_size, patch_embed_depth, patch_embed_heads, levels
        )
        self.camera_head = CameraHead(2 * embed_dim, camera_trunk_depth, camera_heads)
        self.point_head = DenseHead(2 * embed_dim, patch_size, channels, dpt_features, outputs=4)
        self.depth_head = DenseHead(2 * embed_dim, patch_size, channels, dpt_features, outputs=2)

    def init_weights(self) -> None:
        """Weights to train from: linear layers of unit gain, gains of 0.5, a field of view of one radian, depth 1."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
            if name.endswith((".ls1", ".ls2")):
                nn.init.constant_(module.gamma, 0.5)  # pyright: ignore[reportArgumentType]
        self.aggregator.init_weights()
        start = torch.tensor([0.0, 0, 0, 0, 0, 0, 0.25, 0.25, 0.25])
        with torch.no_grad():
            self.camera_head.pose_branch.fc2.weight.mul_(0.1)
            self.camera_head.pose_branch.fc2.bias.copy_(start)  # the rounds add up
            for head in (self.point_head, self.depth_head):
                last = head.scratch.output_conv2[-1]
                assert isinstance(last, nn.Conv2d)
                assert last.bias is not None
                last.weight.mul_(0.1)
                last.bias.zero_()

    @apply_forward_hook
    def tokens(self, images: Tensor) -> list[Tensor]:
        """Images [B, F, 3, H, W] in [0, 1], H and W multiples of the patch size -> levels [B, F, 5 + h * w, 2C]."""
        return self.aggregator(images)

    def camera(self, levels: list[Tensor]) -> Tensor:
        """Pose encodings [R, B, F, 9] of every refinement round."""
        return _in_float32(self.camera_head, levels[-1][:, :, 0])

    def dense(self, levels: list[Tensor], height: int, width: int, frames_chunk: int = 0) -> DensePrediction:
        """Depth and points of every frame, `frames_chunk` frames at a time to bound memory.

        0 means `self.frames_chunk`. On an accelerator it means as many frames as have the pixels of so many published
        ones.
        """
        depth, depth_confidence = self._depth(levels, height, width, frames_chunk)
        points = self._maps(self.point_head, levels, height, width, frames_chunk)
        return DensePrediction(
            depth, depth_confidence, inverse_log(points[:, :, :3]).movedim(2, -1), 1 + points[:, :, 3].exp()
        )

    def _depth(self, levels: list[Tensor], height: int, width: int, frames_chunk: int) -> tuple[Tensor, Tensor]:
        """Depth and its confidence."""
        depth = self._maps(self.depth_head, levels, height, width, frames_chunk)
        return depth[:, :, 0].exp(), 1 + depth[:, :, 1].exp()

    def _maps(self, head: nn.Module, levels: list[Tensor], height: int, width: int, frames_chunk: int) -> Tensor:
        """The outputs of a dense head, [B, F, outputs, H, W]."""
        B, frames = levels[0].shape[:2]
        flat = [x.flatten(0, 1) for x in levels]
        at_once = 1 if flat[0].device.type == "cpu" else max(1, PUBLISHED_PIXELS // (height * width))
        frames_chunk = frames_chunk or self.frames_chunk * at_once
        chunks = [[x[i : i + frames_chunk] for x in flat] for i in range(0, B * frames, frames_chunk)]
        return torch.cat([_in_float32(head, c, height, width) for c in chunks]).float().unflatten(0, (B, frames))

    @apply_forward_hook
    def heads(
        self, levels: list[Tensor], height: int, width: int, frames_chunk: int = 0, points: bool = True
    ) -> GeometryPrediction:
        """Cameras, depth and points of tokens, computed in float32 whatever the type of the tokens.

        points: False leaves them and their head, half of the work, out.
        """
        with exact_products(levels[0].device):
            pose_enc = self.camera(levels)
            if points:
                return GeometryPrediction(pose_enc=pose_enc, **vars(self.dense(levels, height, width, frames_chunk)))
            return GeometryPrediction(*self._depth(levels, height, width, frames_chunk), pose_enc)

    def forward(self, images: Tensor) -> GeometryPrediction:
        """Cameras, depth and points of images [B, F, 3, H, W] in [0, 1]."""
        height, width = images.shape[-2:]
        return self.heads(self.tokens(images), height, width)


def _in_float32(head: nn.Module, tokens: Tensor | list[Tensor], *size: int) -> Tensor:
    """A head on tokens in float32. Where a caller has converted the head, it runs with copies of its weights."""
    tokens = tokens.float() if isinstance(tokens, Tensor) else [x.float() for x in tokens]
    weights: dict[str, Any] = {name: p.float() for name, p in head.named_parameters() if p.dtype != torch.float32}
    return torch.func.functional_call(head, weights, (tokens, *size)) if weights else head(tokens, *size)


def inverse_log(x: Tensor) -> Tensor:
    """sign(x) * (exp|x| - 1): the point head's activation."""
    return x.sign() * torch.expm1(x.abs())
