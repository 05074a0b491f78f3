"""Stage `geometry`: nano's own VGGT, from scratch, in VGGT's gauge."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gen3r.cameras.conventions import decode_pose, encode_pose
from gen3r.data.records import ClipSource
from gen3r.geometry.normalise import to_vggt_gauge
from gen3r.geometry.points import project
from gen3r.models.precision import exact_products
from gen3r.models.vggt import VGGT
from gen3r.models.vggt.aggregator import SPECIAL_TOKENS
from gen3r.models.vggt.blocks import Block
from gen3r.training.stages.augment import augment_colours, clip_batch, degrade, draw_faults, patch_matches
from gen3r.training.stages.losses import (
    baseline_error,
    camera_loss,
    confident,
    edge_error,
    matching_loss,
    mean_where,
    relative_depth_error,
    relative_point_error,
    sky_error,
)
from gen3r.training.stages.stage import Batch, Stage

MATCHING_BLOCKS = (0, 1)
PROBED = 9  # position in the first frame, log depth, point in the world and before the camera


class GeometryStage(Stage):
    """Camera, baseline, depth and point-map losses on clips of a varying number of frames (VGGT, sec. 3.3).

    From few clips, directions of translation are hardly learned from these alone. So two heads of two global blocks are
    also taught to look at the patch that shows the same surface, one in the first frame, one in every frame; and a
    linear probe on every level, dropped after training, to tell where the surface in the middle of each patch lies in
    the first frame, in the world and before the camera. The cameras of all frames count, the dense maps of half of them
    only: they are the costlier part. Clips of one frame teach what a picture tells by itself. Half of the skies have
    another colour: the small world's are all blue, and under white, grey or orange ones depth was wrong.
    """

    name = "geometry"

    def __init__(self, vggt: VGGT, clips: ClipSource, frames: tuple[int, ...] = (1, 2, 4, 8, 17, 17)) -> None:
        super().__init__()
        self.vggt, self.clips, self.frames = vggt, clips, frames
        vggt.requires_grad_(True)
        vggt.aggregator.patch_embed.mask_token.requires_grad_(False)  # nothing reads it
        channels = 2 * vggt.config["embed_dim"]
        levels = len(vggt.config["intermediate_levels"])
        self.probes = nn.ModuleList([nn.Linear(channels, PROBED) for _ in range(levels)])

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """`size` frames in all, whatever the number of frames a clip, so that every step costs about the same."""
        frames = int(rng.choice(self.frames))
        batch = clip_batch(
            self.clips,
            rng,
            max(1, size // frames),
            frames,
            any_order=bool(rng.random() < 0.7),
            backwards=0.0,
            mirrored=0.5,
            recoloured=0.5,
        )
        batch["shown"] = torch.from_numpy(np.sort(rng.choice(frames, max(1, frames // 2), replace=False)))
        return batch | draw_faults(rng, len(batch["frames"]), frames)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = degrade(augment_colours(batch["frames"], batch["jitter"]), batch["blur"], batch["grain"])
        height, width = images.shape[-2:]
        levels, entered = self._tokens(images)
        with exact_products(images.device):
            depth, poses, points = to_vggt_gauge(batch["depth"], batch["T_world_camera"], batch["K_px"])
            pose_enc = self.vggt.camera([x.float() for x in levels])
            camera = camera_loss(pose_enc, encode_pose(poses, batch["K_px"], height, width))
            baseline = baseline_error(decode_pose(pose_enc, height, width)[0], poses[None])
            probed = self._probe_error(levels, depth, poses, points, batch["K_px"])
            looks = patch_matches(depth, poses, points, batch["K_px"], self.vggt.config["patch_size"])
        matching = self._matching_error(entered, *looks)

        shown = batch["shown"]
        depth, points, poses = (x[:, shown] for x in (depth, points, poses))
        valid = depth > 0
        dense = self.vggt.dense([x[:, shown] for x in levels], height, width)
        error = relative_depth_error(dense.depth, depth)
        # confidence is learned, but does not weigh: it would all but drop the pixels that make up most of AbsRel
        confidence_loss = confident(error.detach(), dense.depth_confidence, valid)
        depth_loss = 4 * mean_where(valid, error) + 2 * edge_error(dense.depth, depth, valid) + confidence_loss
        distance = (points - poses[..., None, None, :3, 3]).norm(dim=-1)
        point_error = relative_point_error(dense.points, points, distance)
        point_loss = confident(point_error, dense.points_confidence, valid)
        sky = sky_error(dense.depth, ~valid) + 0.05 * (dense.depth_confidence * ~valid).mean()
        loss = 10 * camera + 0.5 * baseline + matching + 2 * probed + depth_loss + 0.5 * point_loss + 0.2 * sky
        with torch.no_grad():
            absrel = mean_where(valid, (dense.depth - depth).abs() / depth.clamp_min(1e-3))
            report_points = mean_where(valid, point_error)
        report = {
            "camera": camera, "baseline": baseline, "matching": matching, "probed": probed, "absrel": absrel,
            "points": report_points,
        }  # fmt: skip
        return loss, {k: v.detach() for k, v in report.items()}

    def _tokens(self, images: Tensor) -> tuple[list[Tensor], list[Any]]:
        """VGGT's tokens, and what entered the global blocks that learn to match."""
        entered: list[Any] = []
        hooks = [
            cast(Block, self.vggt.aggregator.global_blocks[i]).register_forward_pre_hook(
                lambda _, arguments: entered.append(arguments)
            )
            for i in MATCHING_BLOCKS
        ]
        levels = self.vggt.tokens(images)
        for hook in hooks:
            hook.remove()
        return levels, entered

    def _matching_error(self, entered: list[Any], target: Tensor, visible: Tensor) -> Tensor:
        """How far two heads of these blocks are from looking at the same surface: in frame 0, and in every frame."""
        frames = visible.shape[1]
        others = visible & ~torch.eye(frames, dtype=torch.bool, device=visible.device)[:, None]
        losses = []
        for i, (x, rope) in zip(MATCHING_BLOCKS, entered, strict=True):
            block = cast(Block, self.vggt.aggregator.global_blocks[i])
            scores = block.attn.scores(block.norm1(x), rope, heads=2).float()
            first, every = scores.unflatten(2, (frames, -1))[:, :, :, SPECIAL_TOKENS:].unbind(1)
            tokens = first.shape[-1] // frames
            first = first.log_softmax(-1)[..., SPECIAL_TOKENS:tokens]
            every = every.unflatten(-1, (frames, tokens))[..., SPECIAL_TOKENS:].log_softmax(-1)
            losses.append(matching_loss(first, target[..., 0, :], others[..., 0]))
            losses.append(matching_loss(every, target, others))
        return torch.stack(losses).mean()

    def _probe_error(self, levels: list[Tensor], depth: Tensor, poses: Tensor, points: Tensor, K_px: Tensor) -> Tensor:
        """Mean L1 error of what the probes say of the surface in the middle of every patch, over all levels.

        Errors of points count relative to their distance from the camera.
        """
        patch = self.vggt.config["patch_size"]
        height, width = depth.shape[-2:]
        half = slice(patch // 2, None, patch)
        z, middle = depth[:, :, half, half].flatten(2), points[:, :, half, half].flatten(2, 3)
        pixel, ahead = project(middle, poses[:, :1], K_px[:, :1])
        position = (2 * pixel / pixel.new_tensor([width, height]) - 1).nan_to_num().clamp(-2, 2)
        T_camera_world = torch.linalg.inv(poses)
        local = middle @ T_camera_world[..., :3, :3].mT + T_camera_world[..., None, :3, 3]
        near = 1 / local.norm(dim=-1, keepdim=True).clamp_min(1e-2)
        target = torch.cat([position, z.clamp_min(1e-3).log()[..., None], middle, local], dim=-1)
        weight = torch.cat([torch.ones_like(target[..., :3]), near.expand(*near.shape[:-1], 6)], dim=-1)
        weight = weight * ((z > 0) & (ahead > 1e-3))[..., None]
        errors = [
            ((probe(level[:, :, SPECIAL_TOKENS:]).float() - target).abs() * weight).sum() / weight.gt(0).sum()
            for probe, level in zip(self.probes, levels, strict=True)
        ]
        return torch.stack(errors).mean()
