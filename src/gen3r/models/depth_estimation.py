"""Depth-estimation models of transformers as the geometry of photos: relative, inverse and metric depth."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.errors import InputError
from gen3r.models.geometry import patch_size, resize_maps
from gen3r.models.vggt import GeometryPrediction

# What a model's output is: depth in metres; inverse depth up to scale and shift; inverse depth of a focal length of 1.
DepthKind = Literal["metric", "relative", "canonical"]
KINDS: dict[str, DepthKind] = {
    "zoedepth": "metric", "glpn": "metric", "dpt": "relative", "depth_pro": "canonical"
}  # fmt: skip
ACCEPTED = "Depth Anything, Depth Pro, ZoeDepth, DPT (MiDaS) or GLPN"
FAR_OVER_MEDIAN = (1.5, 5.0)  # where the far end of a relative depth may lie
NEAREST, FARTHEST = 1e-4, 1e4  # metres


def depth_kind(config: Any) -> DepthKind:
    """What a depth-estimation model predicts, by its configuration.

    Depth Anything states it. A DPT with DINOv2 as its backbone was trained on metres; any other DPT is a MiDaS.

    Raises:
        InputError: nothing says what such a model predicts.
    """
    name = config.model_type
    if name == "depth_anything":
        return config.depth_estimation_type
    if name == "dpt" and getattr(config.backbone_config, "model_type", None) == "dinov2":
        return "metric"
    if name not in KINDS:
        raise InputError(f"a {name} model cannot give the geometry; give VGGT, {ACCEPTED}")
    return KINDS[name]


def depth_from_relative(relative: Tensor, reference: Tensor) -> Tensor:
    """Depth [H, W] in the unit of a reference depth [H, W], from inverse depth up to an unknown scale and shift.

    Scale and shift give the inverse depth the median of the reference's, and the same mean deviation from it. Unlike a
    least-squares fit, this does not flatten the depth where the reference is noisy. The scale is limited such that the
    far end (the first percentile) lies at 1.5 to 5 median depths, which keeps the depth positive and its order.
    """
    inverse = 1 / reference
    median, middle = inverse.median(), relative.median()
    far = middle - relative.flatten().quantile(0.01)
    low, high = (median * (1 - 1 / k) / far.clamp_min(1e-12) for k in FAR_OVER_MEDIAN)
    spread = (relative - middle).abs().mean()
    scale = ((inverse - median).abs().mean() / spread.clamp_min(1e-12)).clamp(low, high)
    return 1 / (median + scale * (relative - middle)).clamp_min(median / FAR_OVER_MEDIAN[1])


def depth_ratio(depth: Tensor, reference: Tensor) -> float:
    """The s that minimises sum |1 / reference - s / depth|: the unit of one depth in the unit of the other.

    It is the weighted median of their ratios. Far pixels count little.
    """
    ratio, order = (depth / reference).flatten().sort()
    weight = (1 / depth).flatten()[order].cumsum(0)
    return float(ratio[torch.searchsorted(weight, weight[-1:] / 2).clamp_max(len(ratio) - 1)])


class DepthEstimator:
    """A depth-estimation model for depth, and the pipeline's own VGGT for what such a model does not predict.

    reference: predicts frames [B, n, 3, H, W], here by VGGT. Its cameras stay, apart from the field of view where the
    model has one. Its depth gives the unit, and with `depth_from_relative` the scale and shift of relative depth.
    """

    def __init__(self, model: Any, processor: Any, reference: Callable[[Tensor], GeometryPrediction]) -> None:
        self.kind = depth_kind(model.config)
        self.model, self.processor, self.reference = model, processor, reference
        self.padded = model.config.model_type == "zoedepth" and processor.do_pad

    @torch.no_grad()
    def predict(self, frames: Tensor) -> GeometryPrediction:
        """Cameras, depth and points of frames [B, n, 3, H, W] in [0, 1], at `patch_size(H, W)`.

        The confidence is 1: these models state none. With metric depth, `metres_per_unit` is the same for all frames.
        """
        size = patch_size(frames.shape[-2], frames.shape[-1])
        own = resize_maps(self.reference(frames), *size)
        pairs = [self.estimate(frame, *size) for frame in frames.flatten(0, 1)]
        depth = torch.stack([x[0] for x in pairs]).unflatten(0, frames.shape[:2])
        pose_enc = own.pose_enc[-1:].clone()
        if pairs[0][1] is not None:
            tangent = torch.stack([(x[1] / 2).tan() for x in pairs if x[1] is not None]).view_as(pose_enc[0, ..., 8])
            both = torch.stack([tangent * frames.shape[-2] / frames.shape[-1], tangent], -1)  # pixels are square
            pose_enc[0, ..., 7:] = 2 * both.atan()
        if self.kind == "canonical":  # inverse depth times the focal length over the width
            depth = 1 / (depth * 2 * torch.tan(pose_enc[0, ..., 8] / 2)[..., None, None])
        metres = None
        if self.kind == "relative":
            every = zip(depth.flatten(0, 1), own.depth.flatten(0, 1), strict=True)
            depth = torch.stack([depth_from_relative(*x) for x in every]).view_as(depth)
        else:
            depth = depth.clamp(NEAREST, FARTHEST)
            metres = tuple(depth_ratio(*x) for x in zip(depth, own.depth, strict=True))
            depth = depth / torch.tensor(metres, device=depth.device)[:, None, None, None]
        return replace(
            own, depth=depth, depth_confidence=torch.ones_like(depth), pose_enc=pose_enc, metres_per_unit=metres
        )

    def estimate(self, image: Tensor, height: int, width: int) -> tuple[Tensor, Tensor | None]:
        """The model's output [height, width] for an image [3, H, W], and its horizontal field of view [] in radians."""
        model, size = self.model.to(image.device), image.shape[-2:]
        if self.processor is None:  # Depth Pro; transformers' own processor needs torchvision
            pixels = F.interpolate(2 * image[None] - 1, (depth_pro_side(model.config),) * 2, mode="bilinear")
        else:
            array = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            pixels = self.processor(images=array, input_data_format="channels_last", return_tensors="pt")
            pixels = pixels["pixel_values"]
        outputs = model(pixel_values=pixels.to(image.device, model.dtype))
        depth, fov = outputs.predicted_depth.float()[:, None], getattr(outputs, "field_of_view", None)
        if self.padded:
            top, left = (zoedepth_margin(side) for side in size)
            depth = F.interpolate(depth, (size[0] + 2 * top, size[1] + 2 * left), mode="bilinear")
            depth = depth[..., top:-top, left:-left]
        depth = F.interpolate(depth, (height, width), mode="bilinear")[0, 0]
        return depth, None if fov is None else fov[0].float().clamp(1, 179).deg2rad()


def zoedepth_margin(side: int) -> int:
    """The pixels that ZoeDepth's processor adds on either end of a side."""
    return int(3 * math.sqrt(side / 2))


def depth_pro_side(config: Any) -> int:
    """The side of the square image that a Depth Pro cuts into patches."""
    return round(config.patch_size / min(config.scaled_images_ratios))
