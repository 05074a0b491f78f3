"""Stage `text`: nano's own text encoder, by itself, before the denoiser is trained with it.

What the published model takes from UMT5-XXL, that a colour belongs to the word that follows it, the denoiser's loss
hardly teaches: words count at the noisiest times only, and there is much noise. Here a small reader tells the first
frame from the caption's features, without noise, and is left behind afterwards.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.models.encoders import encode_text
from gen3r.training.latent_cache.shards import LatentCache, joint_latents
from gen3r.training.stages.stage import Batch, Stage

PATCH = 2  # latents a side that the reader tells at a time
HEADS = 8


class TextStage(Stage):
    """Mean squared error of the first latent frames of Z = [A; G], as told from their captions."""

    name = "text"

    def __init__(
        self,
        text_encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        latents: LatentCache,
        text_length: int,
    ) -> None:
        super().__init__()
        self.text_encoder, self.tokenizer, self.latents = text_encoder, tokenizer, latents
        self.text_length = text_length
        text_encoder.requires_grad_(True)
        channels, _, height, width = latents[0]["appearance"].shape
        grid = (height // PATCH, 2 * width // PATCH)
        self.reader = Reader(int(text_encoder.config.d_model), grid, channels * PATCH**2)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        index = torch.from_numpy(rng.integers(len(self.latents), size=size))
        first = joint_latents(self.latents.take(index))[:, :, 0]
        return {"first": first, "captions": [self.latents.captions[int(i)] for i in index]}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        first = batch["first"]
        text = encode_text(self.tokenizer, self.text_encoder, batch["captions"], self.text_length, first.device)
        error = (self.reader(text).float() - first).square()
        appearance, geometry = error.detach().chunk(2, dim=-1)
        return error.mean(), {"appearance": appearance.mean(), "geometry": geometry.mean()}


class Reader(nn.Module):
    """Text features [B, L, D] -> a picture [B, C, PATCH * rows, PATCH * columns]: each patch has a learned query.

    grid: rows and columns of patches. channels: of a patch, C * PATCH**2.
    """

    def __init__(self, dim: int, grid: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.place_table = nn.Parameter(torch.randn(grid[0] * grid[1], dim) / 2)
        self.attention = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, channels))

    def forward(self, text: Tensor) -> Tensor:
        places = self.place_table.expand(len(text), -1, -1)
        seen, _ = self.attention(places, text, text, need_weights=False)
        return F.pixel_shuffle(self.out(places + seen).transpose(1, 2).unflatten(2, self.grid), PATCH)
