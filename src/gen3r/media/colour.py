"""Colours of other spaces to sRGB: primaries, transfer functions, and HDR to the range of a screen.

Codes of primaries and transfer functions are those of ITU-T H.273, which videos, HEIC, AVIF and PNG share.
"""

from collections.abc import Callable

import numpy as np

Chromaticities = tuple[float, float, float, float, float, float, float, float]  # x, y of white, red, green, blue
Values = np.ndarray  # [..., 3], or [...] where channels do not matter

D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
BT2020: Chromaticities = (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
DISPLAY_P3: Chromaticities = (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
PRIMARIES = {9: BT2020, 12: DISPLAY_P3}  # H.273; all others are taken for those of sRGB
LINEAR, PQ, HLG = 8, 16, 18  # transfer functions of H.273
HDR = {PQ: "PQ", HLG: "HLG"}

PQ_WHITE = 203 / 10000  # the light of white in a PQ or HLG picture, ITU-R BT.2408: parts of full scale
HLG_WHITE = 0.265
KNEE, BRIGHTEST = 0.8, 5.0  # where highlights start to be compressed, and what becomes full white; 1: white


def to_srgb(rgb: Values, primaries: int, transfer: int) -> Values:
    """Signal [..., 3] in [0, 1] of these primaries and transfer function, as sRGB.

    PQ and HLG become SDR: light relative to white (203 cd/m2 of PQ, a signal of 0.75 of HLG; of HLG the light of the
    scene, without a display's own gamma), BT.2020 to sRGB, and a curve of the largest channel that leaves all below 0.8
    as it is and compresses 0.8 to 5 times white into the rest.
    """
    source = PRIMARIES.get(primaries, SRGB)
    if transfer == PQ:
        return encode_srgb(_compress_highlights(_to_primaries(_decode_pq(rgb) / PQ_WHITE, source)))
    if transfer == HLG:
        return encode_srgb(_compress_highlights(_to_primaries(_decode_hlg(rgb) / HLG_WHITE, source)))
    if transfer == LINEAR:
        return encode_srgb(_to_primaries(rgb, source))
    return rgb if source is SRGB else from_primaries(rgb, source, decode_srgb)


def from_primaries(rgb: Values, source: Chromaticities, decode: Callable[[Values], Values]) -> Values:
    """Signal [..., 3] in [0, 1] of these primaries as sRGB. decode: its transfer function, from signal to light."""
    return encode_srgb(_to_primaries(decode(rgb), source))


def decode_srgb(signal: Values) -> Values:
    """Light in [0, 1] of an sRGB signal."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: Values) -> Values:
    """The sRGB signal of light, which is clipped to [0, 1]."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _decode_pq(signal: Values) -> Values:
    """Light, 1 for 10000 cd/m2, of a PQ signal (SMPTE ST 2084)."""
    power = signal ** (1 / 78.84375)
    return (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)


def _decode_hlg(signal: Values) -> Values:
    """Light of the scene in [0, 1] of an HLG signal (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _to_primaries(light: Values, source: Chromaticities) -> Values:
    """Light [..., 3] of other primaries in those of sRGB; white stays white."""
    matrix = np.linalg.inv(_xyz(SRGB)) @ _xyz(source)
    return light @ (matrix / matrix.sum(1, keepdims=True)).T.astype(light.dtype)


def _xyz(chromaticities: Chromaticities) -> np.ndarray:
    """The matrix from light of these primaries to XYZ."""
    white, *columns = np.array(chromaticities).reshape(4, 2)
    white, *columns = ([x / y, 1, (1 - x - y) / y] for x, y in (white, *columns))
    primaries = np.stack(columns, 1)
    return primaries * np.linalg.solve(primaries, white)


def _compress_highlights(light: Values) -> Values:
    """Light of which 1 is white, with all in [0, 1]: the extended curve of Reinhard above the knee."""
    light = light.clip(0)
    largest = light.max(-1, keepdims=True)
    over, most = ((x - KNEE) / (1 - KNEE) for x in (largest.clip(KNEE, BRIGHTEST), BRIGHTEST))
    compressed = KNEE + (1 - KNEE) * over * (1 + over / most**2) / (1 + over)
    return light * np.where(largest > KNEE, compressed / np.maximum(largest, KNEE), 1)
