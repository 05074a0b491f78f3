"""Depth as colours."""

import numpy as np

# Dark blue over violet and orange to pale yellow: lightness grows evenly, so that it also reads in grey.
_STOPS = np.array([[12, 8, 50], [72, 20, 110], [150, 44, 110], [216, 86, 70], [248, 158, 50], [252, 246, 170]]) / 255


def colour_depth(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] of depth [...]: inverse depth on one scale over `mask`, near light, far dark."""
    inverse = 1 / np.maximum(np.nan_to_num(depth, nan=1e6, posinf=1e6), 1e-6)
    known = inverse[mask]
    low, high = np.quantile(known, [0.02, 0.98]) if known.size else (0.0, 1.0)
    t = np.clip((inverse - low) / max(high - low, 1e-9), 0, 1)
    at = np.linspace(0, 1, len(_STOPS))
    return (np.stack([np.interp(t, at, _STOPS[:, i]) for i in range(3)], -1) * 255 + 0.5).astype(np.uint8)
