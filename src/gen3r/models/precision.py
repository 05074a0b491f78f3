"""Which floating-point type is fastest for matrix products on a machine."""

import torch


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively (any GPU, CPUs with AMX), float32 elsewhere.

    CPUs without AMX run bfloat16 products at about half the speed of float32 ones.
    """
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32  # pyright: ignore[reportAttributeAccessIssue]
