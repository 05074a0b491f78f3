"""Frames and depth in image files of every mode."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gen3r.data.readers import open_dataset
from gen3r.data.readers.frames import DepthFiles, PictureFiles, read_frame, read_values
from gen3r.errors import InputError
from gen3r.media.images import read_image
from tests.data.layouts import Truths, write_standard

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
RGB = Image.fromarray(COLOURS)
GREY = RGB.convert("L")
HALF = Image.fromarray(np.tile(np.uint8([[0, 85, 170, 255]]), (6, 2)))
MODES = {
    "RGB": RGB,
    "L": GREY,
    "LA": Image.merge("LA", [GREY, HALF]),
    "RGBA": Image.merge("RGBA", [*RGB.split(), HALF]),
    "P": RGB.quantize(16),
    "1": GREY.convert("1"),
    "I;16": Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257),
    "CMYK": RGB.convert("CMYK"),
}


@pytest.mark.parametrize("mode", MODES)
def test_any_mode_is_three_channels_as_photos_are(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("frame.tif" if mode == "CMYK" else "frame.png")
    MODES[mode].save(path)
    frame = read_frame(path)
    assert (frame.dtype, frame.shape) == (torch.uint8, (6, 8, 3))
    assert torch.equal(frame, (read_image(path) * 255).round().byte().permute(1, 2, 0))
    assert torch.equal(PictureFiles([path])(0), frame)


def test_grey_and_alpha_in_a_dataset_lie_over_white(truths: Truths, tmp_path: Path) -> None:
    write_standard(tmp_path, truths("standard"))
    path = sorted(tmp_path.glob("*/images/*"))[1]
    with Image.open(path) as image:
        size = image.size
    picture = Image.new("LA", size, (40, 0))
    picture.putpixel((0, 0), (255, 255))  # alpha that is 0 everywhere was never set
    picture.save(path)
    frame = open_dataset("standard", tmp_path)[0].read_frame(1)
    assert frame.shape == (size[1], size[0], 3)
    assert frame.min() == 255


def test_stored_numbers_have_one_channel_and_depth_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "values.png"
    MODES["P"].save(path)
    np.testing.assert_array_equal(read_values(path), np.asarray(MODES["P"]))
    RGB.save(path)
    with pytest.raises(InputError, match="3 channels instead of one"):
        read_values(path)
    GREY.save(path)
    with pytest.raises(InputError, match="no depth map: it has 8 bits"):
        DepthFiles([path], 1000.0, 5.0)(0)
    MODES["I;16"].save(path)
    expected = np.asarray(GREY).astype(np.float32) * 257 / 1000
    np.testing.assert_allclose(DepthFiles([path], 1000.0, 40.0)(0).numpy(), np.where(expected <= 40, expected, 0))
