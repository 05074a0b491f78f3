"""The joint denoiser of appearance and geometry latents: Wan 2.1's transformer with two changes (Gen3R, sec. 3.3).

Both halves of the width share their column positions, and Pluecker rays of the cameras are added to the patch
embedding.
"""

import inspect
from dataclasses import replace
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import ContextParallelConfig, FirstBlockCacheConfig, WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanRotaryPosEmbed, WanTransformerBlock
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from gen3r.errors import InputError


class SharedColumnRope(WanRotaryPosEmbed):
    """Wan's RoPE over (frame, row, column), where column x of the right half has the position x mod (W / 2)."""

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        half, most = hidden_states[..., : hidden_states.shape[-1] // 2], self.max_seq_len
        if any(length > most * patch for length, patch in zip(half.shape[2:], self.patch_size, strict=True)):
            raise InputError(
                f"this model has {most} positions along each axis; make at most {4 * most - 3} frames, of at most "
                f"{16 * most} pixels a side"
            )
        columns = half.shape[-1] // self.patch_size[2]
        angles = super().forward(half)
        cos, sin = (t.unflatten(1, (-1, columns)).repeat(1, 1, 2, 1, 1).flatten(1, 2) for t in angles)
        return cos, sin


class ImageTextAttention:
    """Cross-attention to the pair (image, text): the sum of two attentions with the same queries."""

    _attention_backend: AttentionBackendName | None = None  # of `set_attention_backend`

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
        query = attn.norm_q(attn.to_q(hidden_states))
        if attn.fused_projections:
            (k, v), (k_image, v_image) = attn.to_kv(text).chunk(2, -1), attn.to_added_kv(image).chunk(2, -1)
        else:
            assert attn.add_k_proj is not None
            assert attn.add_v_proj is not None
            k, v, k_image, v_image = attn.to_k(text), attn.to_v(text), attn.add_k_proj(image), attn.add_v_proj(image)
        from_text = self._attend(query, attn.norm_k(k), v, attn.heads)
        from_image = self._attend(query, attn.norm_added_k(k_image), v_image, attn.heads)
        return attn.to_out[1](attn.to_out[0](from_text + from_image))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        q, k, v = (x.to(query.dtype).unflatten(-1, (heads, -1)) for x in (query, key, value))
        return dispatch_attention_fn(q, k, v, backend=self._attention_backend).flatten(2)


class CameraResidual(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


HEADS = 12  # of the published size
RESIDUAL = 0.5  # standard deviation of latents about those of their warped views


class CameraBranch(nn.Module):
    """Folded rays [B, 24, f, H, 2W] -> what is added to the patch embedding, [B, dim, f, h / 2, w]."""

    def __init__(self, channels: int, dim: int, compression: int) -> None:
        super().__init__()
        self.compression = compression
        self.conv = nn.Conv2d(channels * compression**2, dim, 2, 2)
        self.residual = CameraResidual(dim)

    def forward(self, rays: Tensor) -> Tensor:
        images = F.pixel_unshuffle(rays.transpose(1, 2).flatten(0, 1), self.compression)
        return self.residual(self.conv(images)).unflatten(0, (len(rays), -1)).transpose(1, 2)


class Gen3RTransformer(WanTransformer3DModel):
    """Predicts the velocity noise - sample of Z = [A; G]. The default sizes are the published ones (1.62 B parameters).

    unseen_frames: the content of frames that are no conditioning frames. "black": nothing, as published. "warped":
        warped views of the conditioning frames, which the network learns to correct.
    """

    _group_offload_block_modules = ["camera_branch"]  # `embed_cameras` calls it outside of `forward`

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = HEADS,
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
        unseen_frames: Literal["black", "warped"] = "black",
    ) -> None:
        dim = num_attention_heads * attention_head_dim
        super().__init__(
            patch_size, num_attention_heads, attention_head_dim, in_channels, out_channels, text_dim, freq_dim, ffn_dim,
            num_layers, cross_attn_norm, qk_norm, eps, image_dim, dim, rope_max_seq_len, pos_embed_seq_len,
        )  # fmt: skip
        self.rope = SharedColumnRope(attention_head_dim, patch_size, rope_max_seq_len)
        self.camera_branch = CameraBranch(camera_channels, dim, spatial_compression)
        for block in cast("list[WanTransformerBlock]", self.blocks):
            block.attn2.set_processor(ImageTextAttention())  # pyright: ignore[reportArgumentType]

    def init_weights(self) -> None:
        """Sets the weights that training starts from: Wan's, with output and camera branch at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.condition_embedder.time_proj.weight, std=0.02)
        for module in (self.proj_out, self.camera_branch.residual.conv2):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    def enable_cache(self, config: Any) -> None:
        """Any of diffusers' caches of steps, with what it needs to know of this transformer.

        Raises:
            InputError: the cache is for other transformers, or lacks a callback.
        """
        from diffusers import hooks

        if isinstance(config, hooks.TextKVCacheConfig):
            raise InputError("TextKVCache is for other transformers; here text keys and values are 0.1 % of a step")
        if isinstance(config, hooks.FasterCacheConfig):
            if config.current_timestep_callback is None:
                raise InputError("FasterCache needs current_timestep_callback=lambda: pipe.current_timestep")
            names = list(inspect.signature(type(self).forward).parameters)
            config = replace(config, _unconditional_conditional_input_kwargs_identifiers=names)
        if isinstance(config, hooks.SeaCacheConfig) and config.raw_vision_callback is None:
            config = replace(config, raw_vision_callback=lambda module, args, kwargs: list(kwargs["latents"]))
        if isinstance(config, hooks.TaylorSeerCacheConfig) and not (
            config.use_lite_mode or config.cache_identifiers or config.skip_predict_identifiers
        ):
            config = replace(config, cache_identifiers=[r"blocks\.\d+\.attn[12]"])  # diffusers' pattern fits no layer
        super().enable_cache(config)

    def _check_parallel(self, tokens: int) -> None:
        """Refuses a number of devices that context parallelism cannot split the tokens and heads over."""
        parallel = self._parallel_config and self._parallel_config.context_parallel_config
        if not parallel:
            return
        if isinstance(self._cache_config, FirstBlockCacheConfig):
            raise InputError("devices would leave out different blocks with FirstBlockCache; call disable_cache()")
        if not (parallel.ulysses_anything or parallel.ring_anything):
            heads, ulysses, ring = self.config["num_attention_heads"], parallel.ulysses_degree, parallel.ring_degree
            check_split(tokens, heads, ulysses or 1, ring or 1)

    def _resolve_parallel_config(self, config: Any) -> ParallelConfig:
        """As in diffusers, which knows accelerators only, but on the CPU, too."""
        parallel = getattr(config, "context_parallel_config", config)
        if torch.accelerator.is_available() or not isinstance(parallel, ContextParallelConfig):
            return super()._resolve_parallel_config(config)
        rank, count, names = dist.get_rank(), dist.get_world_size(), parallel.mesh_dim_names
        mesh = parallel.mesh or init_device_mesh("cpu", parallel.mesh_shape, mesh_dim_names=names)
        self._parallel_config = ParallelConfig(context_parallel_config=parallel)
        self._parallel_config.setup(rank, count, torch.device("cpu"), mesh=mesh)
        return self._parallel_config

    @apply_forward_hook
    def embed_cameras(self, rays: Tensor) -> Tensor:
        """Rays [B, 24, f, H, 2W] -> what every step adds to its patches, [B, dim, f, h / 2, w]."""
        return self.camera_branch(rays)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        image_embeds: Tensor,
        control: Tensor,
        rays: Tensor | None = None,
        camera_embeds: Tensor | None = None,
    ) -> Tensor:
        """The velocity [B, 16, f, h, 2w].

        latents: noisy Z [B, 16, f, h, 2w]. timestep: [B], 0 to 1000. prompt_embeds: [B, L, D].
        image_embeds: [B, N, D']. control: [B, 20, f, h, 2w]. rays: [B, 24, f, H, 2W], zeros where cameras are free.
        camera_embeds: `embed_cameras` of the rays, which are not needed then.

        Raises:
            InputError: context parallelism over a number of devices that does not divide the tokens or heads, or with
                a cache that cannot.
        """
        # 1. embed the patches, and add the cameras
        rope = self.rope(latents)
        x = self.patch_embedding(torch.cat([latents, control], dim=1))
        x = x + (self.camera_branch(rays) if camera_embeds is None else camera_embeds)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        self._check_parallel(x.shape[1])
        # 2. embed time, text and image
        time, modulation, text, image = self.condition_embedder(timestep, prompt_embeds, image_embeds)
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
        if self.config["unseen_frames"] == "black":
            return x
        return precondition_around_warp(x, latents, timestep, control)


def check_split(tokens: int, heads: int, ulysses: int, ring: int = 1) -> None:
    """Refuses degrees of context parallelism that do not divide the tokens and the heads.

    Raises:
        InputError: says which numbers of devices do.
    """
    if tokens % (ulysses * ring) or heads % ulysses:
        fitting = ", ".join(str(n) for n in range(2, heads + 1) if tokens % n == 0 and heads % n == 0)
        raise InputError(
            f"{tokens} tokens and {heads} heads cannot be split over {ulysses * ring} devices; they can over "
            f"{fitting or 'one only'}"
        )


def precondition_around_warp(network: Tensor, latents: Tensor, timestep: Tensor, control: Tensor) -> Tensor:
    """The velocity [B, 16, f, h, 2w] of samples near the warped views in their control.

    A sample is modelled as warped view + residual. The best linear estimate of the velocity from the noisy latents, for
    residuals of standard deviation `RESIDUAL`, needs no network. The network predicts the rest, scaled to unit variance
    (the preconditioning of Karras et al. 2022, for a flow). Where the mask of warped views is 0, the velocity is the
    network's output; in between, it is a mixture.
    """
    warped, mask = control.float().split([network.shape[1], 4], dim=1)
    share = mask.mean(1, keepdim=True).chunk(2, dim=-1)[1].repeat(1, 1, 1, 1, 2)
    s = (timestep.float() / 1000)[:, None, None, None, None]
    variance = (1 - s) ** 2 * RESIDUAL**2 + s**2
    slope = (s - (1 - s) * RESIDUAL**2) / variance
    estimate = slope * (latents.float() - (1 - s) * warped) - warped
    return share * estimate + (share * RESIDUAL / variance.sqrt() + 1 - share) * network
