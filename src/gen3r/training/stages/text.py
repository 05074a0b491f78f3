"""Stage `text`: nano's text encoder by itself, before the denoiser is trained with it.

The denoiser's loss hardly teaches that a colour belongs to the noun that follows it, because text matters only at high
noise. The published model has UMT5-XXL, which knows. Here a small decoder predicts the first frame's latents from the
caption's embeddings, without noise. It is dropped afterwards.
"""

from typing import TYPE_CHECKING, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen3r.errors import InputError
from gen3r.models.components import Components
from gen3r.models.encoders import encode_text
from gen3r.training.latent_cache.shards import LatentCache, joint_latents, shards_of
from gen3r.training.stages.config import StageConfig
from gen3r.training.stages.stage import Batch, Stage

if TYPE_CHECKING:
    from gen3r.training.run import Run

PATCH = 2  # side of the squares of latents that are predicted together
HEADS = 8


class TextStage(Stage):
    """Mean squared error of the first latent frames of Z = [A; G], predicted from captions of at most `text_length`
    tokens."""

    name = "text"
    trains = ("text_encoder",)
    needs = ("vae", "vggt", "geo_adapter", "tokenizer")

    def __init__(self, components: Components, latents: LatentCache, text_length: int) -> None:
        super().__init__()
        self.text_encoder, self.tokenizer = components.text_encoder, components.tokenizer
        self.latents, self.text_length = latents, text_length
        self.text_encoder.requires_grad_(True)
        channels, _, height, width = latents[0]["appearance"].shape
        grid = (height // PATCH, 2 * width // PATCH)
        self.reader = Reader(int(self.text_encoder.config.d_model), grid, channels * PATCH**2)

    @classmethod
    def of(cls, run: "Run", components: Components, config: StageConfig) -> Self:
        """As `Stage.of`; on single-frame clips if there are some."""
        if shards_of(run.folder / "latents", "embeddings"):
            raise InputError("this run's latents hold embeddings of a frozen text encoder; text would train another")
        latents = run.single_frame_latents(components) or run.latents(components)
        return cls(components, latents, run.model.text_length)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        index = torch.from_numpy(rng.integers(len(self.latents), size=size))
        first = joint_latents(self.latents.take(index))[:, :, 0]
        return {"first": first, "captions": [self.latents.captions[int(i)] for i in index]}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        first = batch["first"]
        embeds = encode_text(self.tokenizer, self.text_encoder, batch["captions"], self.text_length, first.device)
        error = (self.reader(embeds).float() - first).square()
        appearance, geometry = error.detach().chunk(2, dim=-1)
        return error.mean(), {"appearance": appearance.mean(), "geometry": geometry.mean()}


class Reader(nn.Module):
    """Text embeddings [B, L, D] -> latents [B, C, PATCH * rows, PATCH * columns]: each patch has a learned query.

    grid: rows and columns of patches. channels: of a patch, C * PATCH**2.
    """

    def __init__(self, dim: int, grid: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.place_table = nn.Parameter(torch.randn(grid[0] * grid[1], dim) / 2)
        self.attention = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, channels))

    def forward(self, embeds: Tensor) -> Tensor:
        queries = self.place_table.expand(len(embeds), -1, -1)
        attended, _ = self.attention(queries, embeds, embeds, need_weights=False)
        return F.pixel_shuffle(self.out(queries + attended).transpose(1, 2).unflatten(2, self.grid), PATCH)
