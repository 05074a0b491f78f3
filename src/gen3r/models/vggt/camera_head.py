"""VGGT's camera head: a pose encoding refined in rounds."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen3r.models.vggt.blocks import Block, Mlp

POSE_NUMBERS = 9
ROUNDS = 4


class CameraHead(nn.Module):
    """Refines each frame's 9 numbers from its camera token (VGGT, sec. 3.3)."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(dim)
        self.trunk = nn.Sequential(*[Block(dim, heads, 0.01) for _ in range(depth)])
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_NUMBERS))
        self.embed_pose = nn.Linear(POSE_NUMBERS, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.pose_branch = Mlp(dim, dim // 2, POSE_NUMBERS)

    def forward(self, camera_tokens: Tensor) -> Tensor:
        """Camera tokens [B, F, 2C] of the last level -> the pose encodings of every round [R, B, F, 9], float32."""
        tokens = self.token_norm(camera_tokens)
        plain = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
        pose = None
        rounds = []
        for _ in range(ROUNDS):
            before = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if pose is None else pose.detach()
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(before.to(tokens.dtype))).chunk(3, dim=-1)
            x = gate * (plain * (1 + scale) + shift) + tokens
            delta = self.pose_branch(self.trunk_norm(self.trunk(x))).float()
            pose = delta if pose is None else pose + delta
            rounds.append(torch.cat([pose[..., :7], pose[..., 7:].relu()], -1))
        return torch.stack(rounds)
