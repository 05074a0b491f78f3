"""The initial weights of the geometry adapter: the linear autoencoder of the tokens' principal components.

With random weights, an adapter of twenty thin layers passes no information at first: after 420 steps its cameras were
the same for every clip. Here every residual branch starts at zero, and every other layer at the identity on the
channels that its input and output share. So the first step already reconstructs the components of the largest variance.
"""

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanCausalConv3d, WanResidualBlock
from torch import Tensor, nn

from gen3r.models.adapter import Coder, Decoder, Encoder, GeometryAdapter, TimeResample

CAMERA_WEIGHT = 2.0  # in the components: the camera is a fifth of the channels, and the hardest to reconstruct
NEARLY_LINEAR = 0.2  # silu(g x) is g x / 2 + (g x)^2 / 4 to second order, for a small gain g
NARROW = -4.0  # log variance of the posterior; a wide one would hide the tokens in noise


@torch.no_grad()
def start_from_components(adapter: GeometryAdapter, tokens: Tensor) -> None:
    """Sets all weights of `adapter` from a sample of packed tokens [C, N]."""
    _start_ends(adapter, tokens)
    latent = int(adapter.config["latent_channels"])
    _identity(adapter.quant_conv)
    _identity(adapter.post_quant_conv)
    assert adapter.quant_conv.bias is not None
    adapter.quant_conv.bias[latent:] = NARROW
    assert isinstance(adapter.encoder, Encoder)
    assert isinstance(adapter.decoder, Decoder)
    for coder in (adapter.encoder, adapter.decoder):
        _start_coder(coder)
    _start_last(adapter.encoder, 1.0)
    kept = min(latent, *(block.in_dim for block in adapter.decoder.blocks if isinstance(block, WanResidualBlock)))
    _start_last(adapter.decoder, (kept / adapter.decoder.conv_out.in_channels) ** 0.5)
    assert adapter.encoder.conv_out.bias is not None
    adapter.encoder.conv_out.weight[latent:] = 0
    adapter.encoder.conv_out.bias[latent:] = 0


def _start_ends(adapter: GeometryAdapter, tokens: Tensor) -> None:
    """The convolutions next to the tokens project on the principal components and back."""
    mean, std = tokens.mean(1), tokens.std(1).clamp_min(1e-3)
    weight = torch.ones(len(tokens))
    weight[-len(tokens) // 5 :] = CAMERA_WEIGHT
    scaled = (weight / std)[:, None] * (tokens - mean[:, None])
    values, vectors = torch.linalg.eigh(scaled @ scaled.T / scaled.shape[1])
    between = adapter.conv_tokens_in.out_channels
    spread = values[-between:].flip(0).clamp_min(1e-6).sqrt()
    basis = vectors[:, -between:].flip(1)
    into, out = adapter.conv_tokens_in, adapter.conv_tokens_out
    assert into.bias is not None
    assert out.bias is not None
    for conv in (into, out):
        conv.weight.zero_()
    into.weight[:, :, 1, 1] = (basis * (weight / std)[:, None] / spread).T
    into.bias.copy_(-into.weight[:, :, 1, 1] @ mean)
    # a token lies between the first two of the three pixels that the strided convolution covers along either axis
    out.weight[:, :, :2, :2] = (basis * spread * (std / weight)[:, None])[:, :, None, None] / 4
    out.bias.copy_(mean)


def _start_coder(coder: Coder) -> None:
    for module in coder.modules():
        if isinstance(module, WanResidualBlock):
            _zero(module.conv2)
            _identity(module.conv_shortcut)
        elif isinstance(module, WanAttentionBlock):
            _zero(module.proj)
        elif isinstance(module, TimeResample):
            _identity(module.resample[0])
            if "3d" in module.mode:
                _start_time(module)
    _identity(coder.conv_in)


def _zero(conv: nn.Module) -> None:
    for parameter in conv.parameters():
        parameter.zero_()


def _identity(conv: nn.Module) -> None:
    """The identity on the channels that input and output share; causal kernels take the present frame."""
    if not isinstance(conv, (nn.Conv2d, nn.Conv3d)):
        return  # a shortcut between equal widths
    _zero(conv)
    middle = [size // 2 for size in conv.kernel_size]
    if isinstance(conv, WanCausalConv3d):
        middle[0] = conv.kernel_size[0] - 1
    shared = range(min(conv.in_channels, conv.out_channels))
    conv.weight[(shared, shared, *middle)] = 1


def _start_time(module: TimeResample) -> None:
    """Downsampling averages two frames, upsampling repeats them."""
    conv = module.time_conv
    _identity(conv)
    shared = range(conv.in_channels)
    if module.mode.startswith("down"):
        conv.weight[shared, shared, 1] = conv.weight[shared, shared, 2] = 0.5
    else:
        conv.weight[conv.in_channels :] = conv.weight[: conv.in_channels]


def _start_last(coder: Coder, scale: float) -> None:
    """Norm, SiLU and convolution as a nearly linear identity; `scale` corrects the norm for unused channels."""
    _identity(coder.conv_out)
    assert coder.conv_out.bias is not None
    coder.conv_out.bias -= coder.conv_out.weight.sum((1, 2, 3, 4)) * NEARLY_LINEAR / (2 * scale)  # the mean square
    coder.conv_out.weight *= 2 * scale / NEARLY_LINEAR
    coder.norm_out.gamma.fill_(NEARLY_LINEAR)
