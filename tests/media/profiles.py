"""ICC profiles made by hand, and the colours that they mean, computed from their definition."""

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SPACES = {  # primaries and gamma (0: that of sRGB)
    "Display P3": (((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), 0),
    "Adobe RGB": (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 2.19921875),
    "ProPhoto-like": (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), 1.8),
    "swapped": (((0.30, 0.60), (0.15, 0.06), (0.64, 0.33)), 2.2),
}


def xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix from light of these primaries, whose white is D65, to XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, [0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])


def light(signal: np.ndarray, gamma: float) -> np.ndarray:
    if gamma:
        return signal**gamma
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def in_srgb(colours: np.ndarray, primaries: tuple[tuple[float, float], ...], gamma: float) -> np.ndarray:
    """What colours [..., 3] of 8 bits are in sRGB, from 0 to 255."""
    linear = light(colours / 255, gamma) @ (np.linalg.inv(xyz(SRGB)) @ xyz(primaries)).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def matrix_profile(primaries: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """An ICC profile (version 2) of RGB."""
    matrix = xyz(primaries)
    white = matrix.sum(1)
    adapted = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD @ matrix
    steps = np.round(65535 * light(np.linspace(0, 1, 1024), gamma)).astype(">u2").tobytes()
    curve = b"curv" + bytes(4) + struct.pack(">I", 1024) + steps
    columns = {name: _xyz(adapted[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"RGB ", b"XYZ ", {**columns, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma))
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": curve})


def cmyk_profile() -> bytes:
    """A CMYK profile of a press that prints black ink as mid grey: a table of 2^4 points."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    lightness = 255 * (1 - inks[:, :3].mean(1)) * (1 - 0.5 * inks[:, 3])
    lab = np.stack([lightness, np.full(16, 128), np.full(16, 128)], -1).round().astype(np.uint8).tobytes()
    line = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).flatten().tolist())
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * line + lab + 3 * line
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table}, b"prtr")


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * v) for v in values))


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(D50), **tags}
    entries, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        entries += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I", start + len(data)) + b"none" + bytes([2, 0x40, 0, 0]) + kind + space + connection
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + data
