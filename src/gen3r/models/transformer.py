"""The joint denoiser of appearance and geometry latents: Wan 2.1's transformer with two changes (Gen3R, sec. 3.3).

Both halves of the width share their column positions, and Pluecker rays of the cameras join the patch embedding.
"""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_wan import WanAttention, WanRotaryPosEmbed, WanTransformerBlock
from torch import Tensor, nn


class SharedColumnRope(WanRotaryPosEmbed):
    """Wan's RoPE over (frame, row, column), where column x of the right half stands at x mod (W / 2)."""

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        half = super().forward(hidden_states[..., : hidden_states.shape[-1] // 2])
        columns = hidden_states.shape[-1] // 2 // self.patch_size[2]
        cos, sin = (t.unflatten(1, (-1, columns)).repeat(1, 1, 2, 1, 1).flatten(1, 2) for t in half)
        return cos, sin


class ImageTextAttention:
    """Cross-attention whose context is the pair (image, text): two attentions of the same queries, summed."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, Tensor],
        attention_mask: None = None,
        rotary_emb: None = None,
    ) -> Tensor:
        image, text = encoder_hidden_states
        assert attn.norm_added_k is not None
        assert attn.add_k_proj is not None
        assert attn.add_v_proj is not None
        query = attn.norm_q(attn.to_q(hidden_states))
        read = _attend(query, attn.norm_k(attn.to_k(text)), attn.to_v(text), attn.heads)
        seen = _attend(query, attn.norm_added_k(attn.add_k_proj(image)), attn.add_v_proj(image), attn.heads)
        return attn.to_out[1](attn.to_out[0](read + seen))


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype)).transpose(1, 2).flatten(2)


class CameraResidual(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


RESIDUAL = 0.5  # usual deviation of a clip's latents from those of its renders
HALF_AS_WIDE = ("channels", "appearance")  # layouts in which the halves do not lie side by side


class CameraBranch(nn.Module):
    """Folded rays [B, 24, f, H, 2W] -> an addition to the patch embedding, [B, dim, f, h / 2, w]."""

    def __init__(self, channels: int, dim: int, compression: int) -> None:
        super().__init__()
        self.compression = compression
        self.conv = nn.Conv2d(channels * compression**2, dim, 2, 2)
        self.residual = CameraResidual(dim)

    def forward(self, rays: Tensor) -> Tensor:
        images = F.pixel_unshuffle(rays.transpose(1, 2).flatten(0, 1), self.compression)
        return self.residual(self.conv(images)).unflatten(0, (len(rays), -1)).transpose(1, 2)


class Gen3RTransformer(WanTransformer3DModel):
    """Predicts the velocity noise - sample of Z = [A; G]. The default sizes are the published ones (1.62 B).

    Z comes and goes as two halves of a width whatever the layout inside: "shared_columns" is the published one;
    "plain_columns" counts the columns of the right half on; "channels" lays the halves over each other;
    "appearance" sees the left half alone and leaves the right one at rest, for VGGT to see the geometry in the frames.

    given_geometry: what stands in the geometry half of given frames, `zeros` or their `own` geometry latents.
    unseen_frames: what stands for the others, "black", or the given ones "warped" to the requested cameras; the
        network then predicts what is to be changed in these.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        in_channels: int = 36,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 8960,
        num_layers: int = 30,
        cross_attn_norm: bool = True,
        qk_norm: str = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int = 1280,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        camera_channels: int = 24,
        spatial_compression: int = 8,
        layout: Literal["shared_columns", "plain_columns", "channels", "appearance"] = "shared_columns",
        given_geometry: Literal["zeros", "own"] = "zeros",
        unseen_frames: Literal["black", "warped"] = "black",
    ) -> None:
        dim, layers = num_attention_heads * attention_head_dim, 2 if layout == "channels" else 1
        super().__init__(
            patch_size, num_attention_heads, attention_head_dim, layers * in_channels, layers * out_channels, text_dim,
            freq_dim, ffn_dim, num_layers, cross_attn_norm, qk_norm, eps, image_dim, dim, rope_max_seq_len,
            pos_embed_seq_len,
        )  # fmt: skip
        self.register_to_config(in_channels=in_channels, out_channels=out_channels)  # of a half, as they were given
        if layout == "shared_columns":
            self.rope = SharedColumnRope(attention_head_dim, patch_size, rope_max_seq_len)
        self.camera_branch = CameraBranch(camera_channels, dim, spatial_compression)
        for block in cast("list[WanTransformerBlock]", self.blocks):
            block.attn2.set_processor(ImageTextAttention())  # pyright: ignore[reportArgumentType]

    def init_weights(self) -> None:
        """Weights to train from: Wan's, with modulation, output and camera branch starting at nothing."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.condition_embedder.time_proj.weight, std=0.02)
        for module in (self.proj_out, self.camera_branch.residual.conv2):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    def token_count(self, frames: int, height: int, width: int) -> int:
        """Tokens of a clip of that many pixels."""
        pt, ph, pw = self.config["patch_size"]
        rows, columns = (side // self.config["spatial_compression"] for side in (height, width))
        halves = 1 if self.config["layout"] in HALF_AS_WIDE else 2
        return (1 + (frames - 1) // 4) // pt * (rows // ph) * (halves * columns // pw)

    def forward(
        self, latents: Tensor, timestep: Tensor, text: Tensor, image_context: Tensor, control: Tensor, cameras: Tensor
    ) -> Tensor:
        """The velocity [B, 16, f, h, 2w].

        latents: noisy Z [B, 16, f, h, 2w]; timestep: [B], 0 to 1000; text: [B, L, D]; image_context: [B, N, D'];
        control: [B, 20, f, h, 2w]; cameras: folded rays [B, 24, f, H, 2W], zeros where they are free.
        """
        velocity = self._network(latents, timestep, text, image_context, control, cameras)
        if self.config["unseen_frames"] == "black":
            return velocity
        return around_renders(velocity, latents, timestep, control)

    def _network(
        self, latents: Tensor, timestep: Tensor, text: Tensor, image_context: Tensor, control: Tensor, cameras: Tensor
    ) -> Tensor:
        """What the network itself gives, in the velocity's shape."""
        # 1. lay the halves out, embed the patches, and add what the cameras say
        layout = self.config["layout"]
        if layout in HALF_AS_WIDE:
            cameras = cameras.chunk(2, dim=-1)[0]
            over = layout == "channels"
            latents, control = (torch.cat(x.chunk(2, -1), 1) if over else x.chunk(2, -1)[0] for x in (latents, control))
        rope = self.rope(latents)
        x = self.patch_embedding(torch.cat([latents, control], dim=1)) + self.camera_branch(cameras)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        # 2. embed time, text and image
        time, modulation, text, image = self.condition_embedder(timestep, text, image_context)
        modulation = modulation.unflatten(1, (6, -1))
        # 3. blocks
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                assert self._gradient_checkpointing_func is not None
                x = self._gradient_checkpointing_func(block, x, (image, text), modulation, rope)
            else:
                x = block(x, (image, text), modulation, rope)
        # 4. head, and back to the latent grid
        shift, scale = (self.scale_shift_table + time[:, None]).chunk(2, dim=1)
        x = self.proj_out((self.norm_out(x.float()) * (1 + scale) + shift).type_as(x))
        f, h, w = grid
        pt, ph, pw = self.config["patch_size"]
        x = x.unflatten(1, (f, h, w)).unflatten(-1, (pt, ph, pw, -1))
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(len(x), -1, f * pt, h * ph, w * pw)
        if layout == "channels":
            return torch.cat(x.chunk(2, dim=1), dim=-1)
        return F.pad(x, (0, x.shape[-1])) if layout == "appearance" else x


def around_renders(network: Tensor, latents: Tensor, timestep: Tensor, control: Tensor) -> Tensor:
    """The velocity [B, 16, f, h, 2w] of samples that lie about the renders in their control, where there are any.

    There a sample is render + residual, and the best linear guess of the velocity from the noisy latents, for a
    residual of the usual spread, comes without the network, which adds the rest, of unit size (the preconditioning of
    Karras et al. 2022, for a flow). Where the mask says that nothing is rendered, the network is the velocity.
    """
    render, mask = control.float().split([network.shape[1], 4], dim=1)
    share = mask.mean(1, keepdim=True).chunk(2, dim=-1)[1].repeat(1, 1, 1, 1, 2)
    s = (timestep.float() / 1000)[:, None, None, None, None]
    variance = (1 - s) ** 2 * RESIDUAL**2 + s**2
    slope = (s - (1 - s) * RESIDUAL**2) / variance
    guess = slope * (latents.float() - (1 - s) * render) - render
    return share * guess + (share * RESIDUAL / variance.sqrt() + 1 - share) * network
