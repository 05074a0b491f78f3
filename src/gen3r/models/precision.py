"""Which floating-point type is fastest for matrix products on a machine, and where it is used."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

ROUNDS, ENOUGH = 5, 1.0  # of matrix products for their rate: so many, or so many seconds of them


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


def fast_weights(module: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The float32 weights of linear layers and convolutions in the fast type, for `torch.func.functional_call`.

    `fast_products` casts them to the same values, but at every call. Weights that are not loaded are left out.
    """
    dtype = fast_dtype(device)
    layers = {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear | _ConvNd)}
    weights = {f"{name}.{key}": p for name, m in layers.items() for key, p in m.named_parameters(recurse=False)}
    return {name: p.to(dtype) for name, p in weights.items() if p.dtype == torch.float32 != dtype and not p.is_meta}


def exact_products(device: torch.device) -> torch.autocast:
    """Products of float32 numbers stay float32 inside `fast_products`: cameras and points need their digits."""
    return torch.autocast("cpu" if device.type == "meta" else device.type, enabled=False)


def store_weights(module: nn.Module, storage: torch.dtype, compute: torch.dtype) -> None:
    """diffusers' layerwise casting of any component: weights are kept in `storage`, and cast as a layer runs.

    UMT5's feed-forward layers are cast whole, since they cast their input to the type of their last weights.
    """
    from diffusers.hooks import apply_layerwise_casting

    if hasattr(module, "enable_layerwise_casting"):
        module.enable_layerwise_casting(storage, compute)  # pyright: ignore[reportCallIssue]
        return
    apply_layerwise_casting(module, storage, compute, ("norm", "patch_embed", "DenseReluDense"))
    for name, layer in list(module.named_modules()):
        if name.endswith("DenseReluDense"):
            apply_layerwise_casting(layer, storage, compute, None)  # pyright: ignore[reportArgumentType]


def measure_matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of square matrix products [1/s]: the best of a few."""
    size = 1024 if device.type == "cpu" else 8192
    a = torch.ones(size, size, dtype=dtype, device=device)
    times: list[float] = []
    while len(times) < ROUNDS and sum(times) < ENOUGH:
        finish_work(device)
        began = time.perf_counter()
        torch.mm(a, a)
        finish_work(device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def finish_work(device: torch.device) -> None:
    """Waits for an accelerator."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
