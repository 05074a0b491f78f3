"""Which floating-point type is fastest for matrix products on a machine, and where it is used."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively (any GPU, CPUs with AMX or AVX-512 BF16), else float32.

    Other CPUs run bfloat16 products at about half the speed of float32 ones.
    """
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportAttributeAccessIssue]
    return torch.bfloat16 if native else torch.float32


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Products of float32 weights run in the device's fast type."""
    dtype = fast_dtype(device)
    with warnings.catch_warnings(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        # RMS norms keep float32 weights under autocast: right, only not fused.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        yield


def exact_products(device: torch.device) -> torch.autocast:
    """Products of float32 numbers stay float32 inside `fast_products`: cameras and points need their digits."""
    return torch.autocast(device.type, enabled=False)
