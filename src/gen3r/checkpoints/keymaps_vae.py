"""Published names <-> ours for the causal autoencoders, Wan's and the geometry adapter (prefix `model.` removed)."""

import re

from torch import Tensor

Tensors = dict[str, Tensor]

# Inside a residual block the published list counts norm 0, SiLU 1, conv 2, norm 3, SiLU 4, dropout 5, conv 6.
_RESIDUAL = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_ENDS = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
_CODER = {"conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out"}
_ADAPTER_ENDS = {"encoder.init_block.resample.1": "conv_tokens_in", "decoder.out_block.resample.2": "conv_tokens_out"}
_VAE_MIDDLE = {"0": "mid_block.resnets.0", "1": "mid_block.attentions.0", "2": "mid_block.resnets.1"}
_ADAPTER_MIDDLE = {"0": "middle.resnets.0", "1": "middle.attention", "2": "middle.resnets.1"}


def vae_from_published(tensors: Tensors) -> Tensors:
    """VideoVAE's tensors of the published video autoencoder's.

    The published decoder is one list; a stage of it is some residual blocks, three in the public checkpoint, and a
    resampling, whose first place tells how many.
    """
    places = [int(m[1]) for k in tensors if (m := re.match(r"decoder\.upsamples\.(\d+)\.resample", k))]
    return {_vae_name(k, min(places) + 1): v for k, v in tensors.items()}


def vae_to_published(tensors: Tensors) -> Tensors:
    """The inverse of `vae_from_published`."""
    blocks = {m[1] for k in tensors if (m := re.match(r"decoder\.up_blocks\.0\.resnets\.(\d+)", k))}
    return {_vae_published(k, len(blocks) + 1): v for k, v in tensors.items()}


def adapter_from_published(tensors: Tensors) -> Tensors:
    """GeometryAdapter's tensors of the published adapter's."""
    return {_adapter_name(k): v for k, v in tensors.items()}


def adapter_to_published(tensors: Tensors) -> Tensors:
    """The inverse of `adapter_from_published`."""
    return {_adapter_published(k): v for k, v in tensors.items()}


def _swap(key: str, table: dict[str, str], back: bool = False) -> str:
    """`key` with the entry of `table` that its start equals, up to a dot, exchanged."""
    for published, ours in table.items():
        old, new = (ours, published) if back else (published, ours)
        if key == old or key.startswith(old + "."):
            return new + key.removeprefix(old)
    return key


def _vae_name(key: str, stage_length: int) -> str:
    if match := re.fullmatch(r"(encoder|decoder)\.middle\.(\d)\.(.+)", key):
        return f"{match[1]}.{_VAE_MIDDLE[match[2]]}.{_swap(match[3], _RESIDUAL)}"
    if match := re.fullmatch(r"encoder\.downsamples\.(\d+)\.(.+)", key):
        return f"encoder.down_blocks.{match[1]}.{_swap(match[2], _RESIDUAL)}"
    if match := re.fullmatch(r"decoder\.upsamples\.(\d+)\.(.+)", key):
        stage, entry = divmod(int(match[1]), stage_length)
        part = "upsamplers.0" if entry == stage_length - 1 else f"resnets.{entry}"
        return f"decoder.up_blocks.{stage}.{part}.{_swap(match[2], _RESIDUAL)}"
    return _end_name(key)


def _vae_published(key: str, stage_length: int) -> str:
    for number, ours in _VAE_MIDDLE.items():
        if match := re.fullmatch(rf"(encoder|decoder)\.{re.escape(ours)}\.(.+)", key):
            return f"{match[1]}.middle.{number}.{_swap(match[2], _RESIDUAL, back=True)}"
    if match := re.fullmatch(r"encoder\.down_blocks\.(\d+)\.(.+)", key):
        return f"encoder.downsamples.{match[1]}.{_swap(match[2], _RESIDUAL, back=True)}"
    if match := re.fullmatch(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)", key):
        entry = stage_length - 1 if match[2] == "upsamplers" else int(match[3])
        return f"decoder.upsamples.{stage_length * int(match[1]) + entry}.{_swap(match[4], _RESIDUAL, back=True)}"
    return _end_published(key)


def _adapter_name(key: str) -> str:
    if (swapped := _swap(key, _ADAPTER_ENDS)) != key:
        return swapped
    if match := re.fullmatch(r"(encoder|decoder)\.middle\.(\d)\.(.+)", key):
        return f"{match[1]}.{_ADAPTER_MIDDLE[match[2]]}.{_swap(match[3], _RESIDUAL)}"
    if match := re.fullmatch(r"(encoder|decoder)\.(?:down|up)samples\.(\d+)\.(.+)", key):
        return f"{match[1]}.blocks.{match[2]}.{_swap(match[3], _RESIDUAL)}"
    return _end_name(key)


def _adapter_published(key: str) -> str:
    if (swapped := _swap(key, _ADAPTER_ENDS, back=True)) != key:
        return swapped
    for number, ours in _ADAPTER_MIDDLE.items():
        if match := re.fullmatch(rf"(encoder|decoder)\.{re.escape(ours)}\.(.+)", key):
            return f"{match[1]}.middle.{number}.{_swap(match[2], _RESIDUAL, back=True)}"
    if match := re.fullmatch(r"(encoder|decoder)\.blocks\.(\d+)\.(.+)", key):
        direction = {"encoder": "downsamples", "decoder": "upsamples"}[match[1]]
        return f"{match[1]}.{direction}.{match[2]}.{_swap(match[3], _RESIDUAL, back=True)}"
    return _end_published(key)


def _end_name(key: str) -> str:
    if match := re.fullmatch(r"(encoder|decoder)\.(.+)", key):
        return f"{match[1]}.{_swap(match[2], _CODER)}"
    return _swap(key, _ENDS)


def _end_published(key: str) -> str:
    if match := re.fullmatch(r"(encoder|decoder)\.(.+)", key):
        return f"{match[1]}.{_swap(match[2], _CODER, back=True)}"
    return _swap(key, _ENDS, back=True)
