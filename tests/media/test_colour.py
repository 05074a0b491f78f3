"""Colours come out in sRGB, by profiles and by what headers name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen3r.media.colour import HLG, PQ, to_srgb
from gen3r.media.images import image_tensor, read_image
from tests.media.profiles import SPACES, cmyk_profile, grey_profile, in_srgb, matrix_profile

COLOURS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
RGB = Image.fromarray(COLOURS)


def shown(path: Path) -> np.ndarray:
    return 255 * read_image(path).permute(1, 2, 0).double().numpy()


@pytest.mark.parametrize("space", SPACES)
def test_a_profile_leads_to_srgb(space: str, tmp_path: Path):
    primaries, gamma = SPACES[space]
    expected = in_srgb(COLOURS, primaries, gamma)
    for suffix in (".png", ".tif"):
        RGB.save(tmp_path / f"image{suffix}", icc_profile=matrix_profile(primaries, gamma))
        assert np.abs(shown(tmp_path / f"image{suffix}") - expected).max() < 3


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".heic"])
def test_every_format_with_profiles_has_them_read(suffix: str, tmp_path: Path):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    primaries, gamma = SPACES["Display P3"]
    flat = np.full((32, 32, 3), (250, 60, 40), np.uint8)
    Image.fromarray(flat).save(tmp_path / f"image{suffix}", icc_profile=matrix_profile(primaries, gamma), quality=98)
    off = np.abs(shown(tmp_path / f"image{suffix}") - in_srgb(flat, primaries, gamma)).max()
    assert off < 4  # of which the format itself takes 1 or 2
    assert np.abs(shown(tmp_path / f"image{suffix}") - flat).max() > 4


def test_a_profile_inside_jpeg_2000(tmp_path: Path):
    primaries, gamma = SPACES["Display P3"]
    RGB.save(tmp_path / "image.jp2")
    data, profile = (tmp_path / "image.jp2").read_bytes(), matrix_profile(primaries, gamma)
    start, colour = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    box = struct.pack(">I", len(profile) + 11) + b"colr\2\0\0" + profile
    boxes = data[start + 8 : colour] + box
    data = data[:start] + struct.pack(">I", 8 + len(boxes)) + b"jp2h" + boxes + data[colour + 15 :]
    (tmp_path / "image.jp2").write_bytes(data)
    assert np.abs(shown(tmp_path / "image.jp2") - in_srgb(COLOURS, primaries, gamma)).max() < 3


def test_transparency_and_a_palette_keep_their_profile(tmp_path: Path):
    primaries, gamma = SPACES["Adobe RGB"]
    profile = matrix_profile(primaries, gamma)
    rgba = RGB.copy()
    rgba.putalpha(51)
    rgba.save(tmp_path / "rgba.png", icc_profile=profile)
    expected = in_srgb(COLOURS, primaries, gamma) * 0.2 + 255 * 0.8
    assert np.abs(shown(tmp_path / "rgba.png") - expected).max() < 2
    palette = RGB.quantize(16)
    palette.save(tmp_path / "palette.png", icc_profile=profile)
    expected = in_srgb(np.asarray(palette.convert("RGB")), primaries, gamma)
    assert np.abs(shown(tmp_path / "palette.png") - expected).max() < 3


def test_grey_and_cmyk_profiles(tmp_path: Path):
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    expected = in_srgb(np.asarray(ramp)[..., None].repeat(3, -1), SPACES["Adobe RGB"][0], 1.8)[..., 1]
    ramp.save(tmp_path / "grey.png", icc_profile=grey_profile(1.8))
    assert np.abs(shown(tmp_path / "grey.png")[..., 0] - expected).max() < 3
    ramp.convert("LA").save(tmp_path / "grey-alpha.png", icc_profile=grey_profile(1.8))
    assert np.abs(shown(tmp_path / "grey-alpha.png")[..., 0] - expected).max() < 3
    Image.fromarray(257 * np.asarray(ramp).astype(np.uint16)).save(tmp_path / "16.png", icc_profile=grey_profile(1.8))
    assert np.abs(shown(tmp_path / "16.png")[..., 0] - expected).max() < 3
    black = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    black.save(tmp_path / "without.tif")
    assert shown(tmp_path / "without.tif").max() == 0
    for suffix in (".tif", ".jpg"):
        black.save(tmp_path / f"black{suffix}", icc_profile=cmyk_profile())
        assert shown(tmp_path / f"black{suffix}").std() == 0


def test_a_profile_that_cannot_be_used_is_left_out(tmp_path: Path):
    good = matrix_profile(*SPACES["Adobe RGB"])
    for number, profile in enumerate((b"words", good[:300], grey_profile(1.0), cmyk_profile())):
        RGB.save(tmp_path / f"{number}.png", icc_profile=profile)
        assert np.array_equal(shown(tmp_path / f"{number}.png").round(), COLOURS)


def test_a_pillow_image_has_its_profile_read_too():
    primaries, gamma = SPACES["Display P3"]
    image = RGB.copy()
    image.info["icc_profile"] = matrix_profile(primaries, gamma)
    got = 255 * image_tensor(image).permute(1, 2, 0).numpy()
    assert np.abs(got - in_srgb(COLOURS, primaries, gamma)).max() < 3


def test_cameras_say_adobe_rgb_without_a_profile(tmp_path: Path):
    tags = [(0x8769, 4, 1, struct.pack("<I", 26)), (0xA005, 4, 1, struct.pack("<I", 44)), (1, 2, 4, b"R03\0")]
    groups = [struct.pack("<HHHI", 1, *tag[:3]) + tag[3] + bytes(4) for tag in tags]  # each leads to the next
    RGB.save(tmp_path / "image.png", exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + b"".join(groups))
    assert np.abs(shown(tmp_path / "image.png") - in_srgb(COLOURS, *SPACES["Adobe RGB"])).max() < 2


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


def test_a_png_names_its_colours_without_a_profile(tmp_path: Path):
    path = tmp_path / "image.png"
    RGB.save(path)
    plain = path.read_bytes()
    path.write_bytes(with_chunk(plain, b"cICP", bytes([12, 13, 0, 1])))
    assert np.abs(shown(path) - in_srgb(COLOURS, *SPACES["Display P3"])).max() < 2
    path.write_bytes(with_chunk(plain, b"gAMA", struct.pack(">I", 100000)))
    assert np.abs(shown(path) - 255 * (COLOURS / 255) ** (1 / 2.2)).max() < 1
    path.write_bytes(with_chunk(plain, b"gAMA", struct.pack(">I", 45455)))
    assert np.array_equal(shown(path).round(), COLOURS)


def test_hdr_leaves_colours_of_sdr_as_they_are():
    """A PQ signal of 203 cd/m2, and an HLG signal of 0.75, are white (ITU-R BT.2408)."""
    grey = np.float32([[0.5, 0.5, 0.5]])
    for transfer, white in ((PQ, 0.5807), (HLG, 0.75)):
        levels = to_srgb(grey * 2 * np.float32([[white], [0.0], [1.0]]), 9, transfer)
        assert levels[1].max() == 0
        assert 0.94 < levels[0].min() <= levels[0].max() < 0.97  # the curve keeps the rest for what is brighter
        assert levels[2] == pytest.approx(1, abs=0.03)
    for level in (0.1, 0.4, 0.7):
        light = ((level + 0.055) / 1.055) ** 2.4
        y = (light * 203 / 10000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
        assert to_srgb(np.full((1, 3), signal, np.float32), 9, PQ) == pytest.approx(level, abs=0.003)


def test_hdr_keeps_the_order_of_what_is_brighter_than_white():
    levels = to_srgb(np.linspace(0, 1, 400, dtype=np.float32)[:, None].repeat(3, 1), 9, HLG)[:, 0]
    assert np.all(np.diff(levels) > 0)
    assert levels[-1] <= 1
