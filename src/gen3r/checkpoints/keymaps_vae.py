"""Published names <-> ours for the causal autoencoders, Wan's and the geometry adapter (prefix `model.` removed)."""

import re

from torch import Tensor

Tensors = dict[str, Tensor]
Names = dict[str, str]  # starts of published names -> ours

# Inside a residual block the published list counts norm 0, SiLU 1, conv 2, norm 3, SiLU 4, dropout 5, conv 6.
_RESIDUAL = {
    ".residual.0.": ".norm1.",
    ".residual.2.": ".conv1.",
    ".residual.3.": ".norm2.",
    ".residual.6.": ".conv2.",
    ".shortcut.": ".conv_shortcut.",
}
_ENDS = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
_CODER = {"conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out"}
_VAE_MIDDLE = {
    "middle.0": "mid_block.resnets.0", "middle.1": "mid_block.attentions.0", "middle.2": "mid_block.resnets.1",
}  # fmt: skip
_ADAPTER_MIDDLE = {"middle.0": "middle.resnets.0", "middle.1": "middle.attention", "middle.2": "middle.resnets.1"}


def _in_coders(names: Names) -> Names:
    return {f"{c}.{theirs}": f"{c}.{ours}" for c in ("encoder", "decoder") for theirs, ours in names.items()}


_ADAPTER = {
    "encoder.init_block.resample.1": "conv_tokens_in",
    "decoder.out_block.resample.2": "conv_tokens_out",
    "encoder.downsamples": "encoder.blocks",
    "decoder.upsamples": "decoder.blocks",
    **_in_coders(_ADAPTER_MIDDLE | _CODER),
    **_ENDS,
}


def _vae(blocks: int) -> Names:
    """The names of a video autoencoder whose decoder has so many residual blocks per stage (3 in the public one).

    The published decoder is one list of residual blocks and, after each stage but the last, a resampling.
    """
    up = {}
    for stage in range(8):
        first = stage * (blocks + 1)
        up |= {f"decoder.upsamples.{first + i}": f"decoder.up_blocks.{stage}.resnets.{i}" for i in range(blocks)}
        up[f"decoder.upsamples.{first + blocks}"] = f"decoder.up_blocks.{stage}.upsamplers.0"
    return {"encoder.downsamples": "encoder.down_blocks", **up, **_in_coders(_VAE_MIDDLE | _CODER), **_ENDS}


def _rename(key: str, names: Names, back: bool = False) -> str:
    """`key` with its start, up to a dot, exchanged, and the name inside a residual block after it."""
    for theirs, ours in names.items():
        old, new = (ours, theirs) if back else (theirs, ours)
        if key == old or key.startswith(old + "."):
            rest = key.removeprefix(old)
            for inner, our_inner in _RESIDUAL.items():
                old, other = (our_inner, inner) if back else (inner, our_inner)
                if old in rest:
                    rest = rest.replace(old, other)
                    break
            return new + rest
    return key


def vae_from_published(tensors: Tensors) -> Tensors:
    """VideoVAE's tensors of the published video autoencoder's."""
    resamplings = [int(m[1]) for k in tensors if (m := re.match(r"decoder\.upsamples\.(\d+)\.resample", k))]
    names = _vae(min(resamplings))
    return {_rename(k, names): v for k, v in tensors.items()}


def vae_to_published(tensors: Tensors) -> Tensors:
    """The inverse of `vae_from_published`."""
    names = _vae(len({m[1] for k in tensors if (m := re.match(r"decoder\.up_blocks\.0\.resnets\.(\d+)", k))}))
    return {_rename(k, names, back=True): v for k, v in tensors.items()}


def adapter_from_published(tensors: Tensors) -> Tensors:
    """GeometryAdapter's tensors of the published adapter's."""
    return {_rename(k, _ADAPTER): v for k, v in tensors.items()}


def adapter_to_published(tensors: Tensors) -> Tensors:
    """The inverse of `adapter_from_published`."""
    return {_rename(k, _ADAPTER, back=True): v for k, v in tensors.items()}
