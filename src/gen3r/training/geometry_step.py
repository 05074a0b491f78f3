"""Stage `geometry`: nano's own VGGT, from scratch, in VGGT's gauge."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.conventions import decode_pose, encode_pose
from gen3r.data.shards import ClipShards
from gen3r.geometry.gauge import to_vggt_gauge
from gen3r.models.vggt import VGGT
from gen3r.models.vggt.aggregator import SPECIAL_TOKENS
from gen3r.models.vggt.blocks import Block
from gen3r.training.batches import augment_colours, clip_batch, matches_in_first_frame
from gen3r.training.loop import Batch, Stage
from gen3r.training.losses import (
    baseline_error,
    camera_loss,
    confident,
    edge_error,
    matching_loss,
    relative_depth_error,
    relative_point_error,
    sky_error,
)

MATCHING_BLOCKS = (1, 2)


class GeometryStage(Stage):
    """Camera, baseline, depth and point-map losses on clips of a varying number of frames (VGGT, sec. 3.3).

    One head of two global blocks is also taught to look at the patch of the first frame that shows the same surface:
    from few clips, directions of translation are hardly learned without. The cameras of all frames count, the dense
    maps of every fourth frame only: they are the costlier half.
    """

    name = "geometry"

    def __init__(self, vggt: VGGT, clips: ClipShards, frames: tuple[int, ...] = (4, 4, 8, 17)) -> None:
        super().__init__()
        self.vggt, self.clips, self.frames = vggt, clips, frames
        vggt.requires_grad_(True)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """`size` frames in all, whatever the number of frames a clip, so that every step costs about the same."""
        frames = int(rng.choice(self.frames))
        batch = clip_batch(
            self.clips, rng, max(1, size // frames), frames, any_order=bool(rng.random() < 0.7), backwards=0.0
        )
        batch["shown"] = torch.from_numpy(np.sort(rng.choice(frames, max(1, frames // 4), replace=False)))
        return batch

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = augment_colours(batch["frames"], batch["jitter"])
        depth, poses, points = to_vggt_gauge(batch["depth"], batch["T_world_camera"], batch["K_px"])
        height, width = images.shape[-2:]
        levels, matching = self._tokens_and_matching(images, depth, poses, points, batch["K_px"])
        pose_enc = self.vggt.camera(levels)
        camera = camera_loss(pose_enc, encode_pose(poses, batch["K_px"], height, width))
        baseline = baseline_error(decode_pose(pose_enc, height, width)[0], poses[None])

        shown = batch["shown"]
        depth, points = depth[:, shown], points[:, shown]
        valid = depth > 0
        dense = self.vggt.dense([x[:, shown] for x in levels], height, width)
        error = relative_depth_error(dense.depth, depth)
        depth_loss = confident(error, dense.depth_confidence, valid) + edge_error(dense.depth, depth, valid)
        distance = (points - poses[:, shown, None, None, :3, 3]).norm(dim=-1)
        point_error = relative_point_error(dense.points, points, distance)
        point_loss = confident(point_error, dense.points_confidence, valid)
        sky = sky_error(dense.depth, ~valid) + 0.05 * (dense.depth_confidence * ~valid).mean()
        loss = 10 * camera + 0.5 * baseline + 0.3 * matching + depth_loss + 0.5 * point_loss + 0.2 * sky
        with torch.no_grad():
            absrel = ((dense.depth - depth).abs() / depth.clamp_min(1e-3) * valid).sum() / valid.sum()
            point_report = (point_error * valid).sum() / valid.sum()
        report = {
            "camera": camera,
            "baseline": baseline,
            "matching": matching,
            "absrel": absrel,
            "points": point_report,
        }
        return loss, {k: v.detach() for k, v in report.items()}

    def _tokens_and_matching(
        self, images: Tensor, depth: Tensor, poses: Tensor, points: Tensor, K_px: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """VGGT's tokens, and how far one head of two global blocks is from looking at the same surface in frame 0."""
        blocks = [cast(Block, self.vggt.aggregator.global_blocks[i]) for i in MATCHING_BLOCKS]
        entered: list[Any] = []
        hooks = [b.register_forward_pre_hook(lambda _, arguments: entered.append(arguments)) for b in blocks]
        levels = self.vggt.tokens(images)
        for hook in hooks:
            hook.remove()
        target, visible = matches_in_first_frame(depth, poses, points, K_px, self.vggt.config["patch_size"])
        losses = []
        for block, (x, rope) in zip(blocks, entered, strict=True):
            scores = block.attn.scores(block.norm1(x), rope, head=0).unflatten(1, (images.shape[1], -1))
            losses.append(matching_loss(scores[:, :, SPECIAL_TOKENS:], target, visible))
        return levels, torch.stack(losses).mean()
