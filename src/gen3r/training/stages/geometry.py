"""Stage `geometry`: nano's VGGT, from scratch, in VGGT's normalised frame."""

from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from gen3r.cameras.conventions import decode_pose, encode_pose
from gen3r.data.records import Clip, ClipSource
from gen3r.geometry.normalise import normalise_scene
from gen3r.geometry.points import project
from gen3r.models.components import Components
from gen3r.models.precision import exact_products
from gen3r.models.vggt.aggregator import SPECIAL_TOKENS
from gen3r.models.vggt.blocks import Block
from gen3r.models.vggt.model import DensePrediction
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.sheets import depth_colours
from gen3r.training.stages.augment import augment_colours, clip_batch, degrade, draw_degradations, patch_matches
from gen3r.training.stages.config import GeometryConfig
from gen3r.training.stages.losses import (
    camera_loss,
    confidence_loss,
    gradient_loss,
    matching_loss,
    mean_where,
    relative_depth_error,
    relative_point_error,
    relative_translation_loss,
    sky_loss,
)
from gen3r.training.stages.stage import Batch, Row, Stage

if TYPE_CHECKING:
    from gen3r.training.run import Run

MATCHING_BLOCKS = (0, 1)
FEW = 4  # frames of the clips that are seen in `fine_sizes`
PROBE_CHANNELS = 9  # position in the first frame (2), log depth (1), point in the world (3) and in the camera (3)


class GeometryStage(Stage):
    """Losses of cameras, relative translations, depth and points on clips of varying length (VGGT, sec. 3.3).

    A few clips teach too little about the directions of translation. Two auxiliary losses help. Two heads of two global
    blocks learn to attend to the patch that shows the same surface, one in the first frame and one in every frame. A
    linear probe on every level, dropped after training, predicts where the surface in the middle of each patch lies.

    Dense maps are computed for half of the frames, because they are the costlier part. Single-frame clips teach the
    cues of one image. Half of the clips are degraded like generated frames.
    """

    name = "geometry"
    trains = ("vggt",)

    def __init__(self, components: Components, clips: ClipSource, config: GeometryConfig) -> None:
        super().__init__()
        self.vggt, self.clips, self.config = components.vggt, clips, config
        self.vggt.requires_grad_(True)
        self.vggt.aggregator.patch_embed.mask_token.requires_grad_(False)  # it has no use
        channels = 2 * self.vggt.config["embed_dim"]
        levels = len(self.vggt.config["intermediate_levels"])
        self.probes = nn.ModuleList([nn.Linear(channels, PROBE_CHANNELS) for _ in range(levels)])

    @classmethod
    def of(cls, run: "Run", components: Components, config: GeometryConfig) -> Self:
        """As `Stage.of`."""
        return cls(components, run.held_clips(max(config.frames)), config)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """`size` frames of the clips' own size in all, or as many pixels, so that every step costs about the same."""
        frames = int(rng.choice(self.config.frames))
        sizes = self.config.fine_sizes if frames <= FEW else self.config.sizes
        clips = self.clips.at_size(*sizes[int(rng.integers(len(sizes)))])
        pixels, usual = (x[1] * x[2] for x in (clips.shape, self.clips.shape))
        count = max(1, round(size / frames * usual / pixels))
        any_order = bool(rng.random() < 0.7)
        batch = clip_batch(clips, rng, count, frames, any_order, mirrored=0.5)
        dense = np.sort(rng.choice(frames, max(1, frames // 2), replace=False))
        batch["dense_frames"] = torch.from_numpy(dense)
        return batch | draw_degradations(rng, len(batch["frames"]), frames)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = degrade(augment_colours(batch["frames"], batch["jitter"]), batch["blur"], batch["grain"])
        height, width = images.shape[-2:]
        levels, block_inputs = self._tokens(images)
        with exact_products(images.device):
            depth, poses, points = normalise_scene(batch["depth"], batch["T_world_camera"], batch["K_px"])
        kept = batch["dense_frames"]
        dense = self.vggt.dense([x[:, kept] for x in levels], height, width)
        with exact_products(images.device):
            if not batch["zero_is_sky"]:
                depth, poses, points = _in_predicted_unit(dense.depth, depth[:, kept], depth, poses, points)
            pose_enc = self.vggt.camera(levels)
            camera = camera_loss(pose_enc, encode_pose(poses, batch["K_px"], height, width))
            translation = relative_translation_loss(decode_pose(pose_enc, height, width)[0], poses[None])
            probes = self._probe_loss(levels, depth, poses, points, batch["K_px"])
            matches = patch_matches(depth, poses, points, batch["K_px"], self.vggt.config["patch_size"])
        matching = self._matching_loss(block_inputs, *matches)
        truth = (x[:, kept] for x in (depth, points, poses))
        (depth_loss, point_loss, sky), report = self._dense_losses(dense, *truth)
        sky = sky * batch["zero_is_sky"]
        loss = 10 * camera + 0.5 * translation + matching + 2 * probes + depth_loss + 0.5 * point_loss + 0.2 * sky
        report |= {"camera": camera, "translation": translation, "matching": matching, "probes": probes}
        return loss, {k: v.detach() for k, v in report.items()}

    def _dense_losses(
        self, dense: DensePrediction, depth: Tensor, points: Tensor, poses: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Tensor]]:
        """The losses of depth, points and sky, with AbsRel and the error of points for the report.

        Confidence is learned, but does not weight the error of depth: it would ignore the pixels that AbsRel is about.
        """
        valid = depth > 0
        error = relative_depth_error(dense.depth, depth)
        confidence = confidence_loss(error.detach(), dense.depth_confidence, valid)
        depth_loss = 4 * mean_where(valid, error) + 2 * gradient_loss(dense.depth, depth, valid) + confidence
        distance = (points - poses[..., None, None, :3, 3]).norm(dim=-1)
        point_error = relative_point_error(dense.points, points, distance)
        point_loss = confidence_loss(point_error, dense.points_confidence, valid)
        sky = sky_loss(dense.depth, ~valid) + 0.05 * (dense.depth_confidence * ~valid).mean()
        with torch.no_grad():
            absrel = mean_where(valid, (dense.depth - depth).abs() / depth.clamp_min(1e-3))
            report = {"absrel": absrel, "points": mean_where(valid, point_error)}
        return (depth_loss, point_loss, sky), report

    def _tokens(self, images: Tensor) -> tuple[list[Tensor], list[Any]]:
        """VGGT's tokens, and the inputs of the global blocks that learn to match."""
        inputs: list[Any] = []
        hooks = [
            cast(Block, self.vggt.aggregator.global_blocks[i]).register_forward_pre_hook(
                lambda _, arguments: inputs.append(arguments)
            )
            for i in MATCHING_BLOCKS
        ]
        levels = self.vggt.tokens(images)
        for hook in hooks:
            hook.remove()
        return levels, inputs

    def _matching_loss(self, block_inputs: list[Any], target: Tensor, visible: Tensor) -> Tensor:
        """The mean `matching_loss` of two heads of these blocks: in the first frame, and in every frame."""
        frames = visible.shape[1]
        others = visible & ~torch.eye(frames, dtype=torch.bool, device=visible.device)[:, None]
        losses = []
        for i, (x, rope) in zip(MATCHING_BLOCKS, block_inputs, strict=True):
            block = cast(Block, self.vggt.aggregator.global_blocks[i])
            scores = block.attn.scores(block.norm1(x), rope, heads=2).float()
            first, every = scores.unflatten(2, (frames, -1))[:, :, :, SPECIAL_TOKENS:].unbind(1)
            tokens = first.shape[-1] // frames
            first = first.log_softmax(-1)[..., SPECIAL_TOKENS:tokens]
            every = every.unflatten(-1, (frames, tokens))[..., SPECIAL_TOKENS:].log_softmax(-1)
            losses.append(matching_loss(first, target[..., 0, :], others[..., 0]))
            losses.append(matching_loss(every, target, others))
        return torch.stack(losses).mean()

    def _probe_loss(self, levels: list[Tensor], depth: Tensor, poses: Tensor, points: Tensor, K_px: Tensor) -> Tensor:
        """Mean L1 error of the probes on the surface in the middle of every patch, over all levels.

        Errors of points are relative to their distance from the camera.
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

    def sheet_rows(self, pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
        """True and predicted depth."""
        predicted = pipe.reconstruct(clip.images, *clip.frames.shape[1:3], feed_forward=True)
        return [("true depth", depth_colours(clip.depth)), ("VGGT's depth", depth_colours(predicted.depth))]


def _in_predicted_unit(
    predicted: Tensor, true: Tensor, depth: Tensor, T_world_camera: Tensor, points: Tensor, most: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, poses and points of scenes in the unit in which the `true` depths [B, F', H, W] fit the `predicted` ones.

    Where depth is known in places only, the mean distance of the known points is not that of the scene. The unit
    changes by a factor of `most` at most.
    """
    ratio = torch.where(true > 0, predicted.detach() / true.clamp_min(1e-4), torch.nan).flatten(1)
    unit = ratio.nanmedian(dim=1).values.nan_to_num(1.0).clamp(1 / most, most)[:, None, None, None]
    T = T_world_camera.clone()
    T[..., :3, 3] *= unit[..., 0]
    return depth * unit, T, points * unit[..., None]
