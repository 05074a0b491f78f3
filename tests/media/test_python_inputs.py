"""Images and text as people give them in Python."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gen3r.errors import InputError
from gen3r.media.images import count_images, first_size, image_batch, image_tensor
from gen3r.media.sequence import ImageSequence, open_paths

HWC = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
CHW = torch.from_numpy(HWC).permute(2, 0, 1)
EXPECTED = CHW.float() / 255
FORMS: dict[str, Any] = {
    "numpy HWC": HWC,
    "numpy CHW": HWC.transpose(2, 0, 1),
    "numpy float": HWC.astype(np.float64) / 255,
    "numpy float16 CHW": (HWC.transpose(2, 0, 1) / 255).astype(np.float16),
    "numpy uint16": HWC.astype(np.uint16) * 257,
    "numpy that is not contiguous": np.repeat(HWC, 2, 0)[::2],
    "numpy backwards": np.ascontiguousarray(HWC[::-1])[::-1],
    "numpy big-endian": HWC.astype(">u2") * 257,
    "torch CHW": CHW,
    "torch HWC": torch.from_numpy(HWC),
    "torch float": EXPECTED,
    "torch bfloat16": EXPECTED.bfloat16(),
    "torch that needs a gradient": EXPECTED.clone().requires_grad_(),
    "Pillow": Image.fromarray(HWC),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_means_the_same(form: str):
    image = FORMS[form]
    tolerance = 4e-3 if "float16" in form else 1e-6
    assert torch.allclose(image_tensor(image), EXPECTED, atol=tolerance)
    expected = image_batch(EXPECTED, 14, 28)
    for images in (image, [image], (image,)):
        assert first_size(images) == (20, 30)
        assert count_images(images) == 1
        assert torch.allclose(image_batch(images, 14, 28), expected, atol=2 * tolerance)
    assert image_batch([image, image], 14, 28).shape == (1, 2, 3, 14, 28)


def test_paths_are_images_too(tmp_path: Path):
    path = tmp_path / "image.png"
    Image.fromarray(HWC).save(path)
    for images in (path, str(path), [path], [str(path), EXPECTED, HWC]):
        assert first_size(images) == (20, 30)
        assert torch.equal(image_batch(images, 20, 30)[0, -1], EXPECTED)


@pytest.mark.parametrize("stack", [np.stack, lambda x: torch.from_numpy(np.stack(x))])
def test_stacks_of_images(stack: Any):
    assert torch.equal(image_batch(stack([HWC] * 4), 20, 30)[0, 3], EXPECTED)
    batch = image_batch(stack([[HWC] * 2] * 3), 20, 30)
    assert batch.shape == (3, 2, 3, 20, 30)
    assert count_images(stack([[HWC] * 2] * 3)) == 2
    assert first_size(stack([[HWC] * 2] * 3)) == (20, 30)
    assert torch.equal(image_batch(stack([HWC.transpose(2, 0, 1)] * 2), 20, 30)[0, 1], EXPECTED)


def test_where_both_layouts_fit_each_library_has_its_own():
    values = np.random.default_rng(1).random((3, 5, 3))
    assert np.allclose(image_tensor(values), values.transpose(2, 0, 1))
    assert np.allclose(image_tensor(torch.from_numpy(values)), values)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (HWC[..., 0], r"\[H, W, 3\] or a tensor \[3, H, W\], not \[20, 30\]"),
        (np.zeros((20, 30, 4), np.uint8), r"not \[20, 30, 4\]"),
        (np.zeros((0, 30, 3), np.uint8), r"not \[0, 30, 3\]"),
        (HWC.astype(np.int64), "uint8, or floats in .0, 1., not int64"),
        (HWC > 100, "not bool"),
        (CHW.long(), "not torch.int64"),
        (HWC.astype(np.float32), "not between 0 and 255"),
        (2 * EXPECTED - 1, "between -1 and"),
        (np.full((4, 4, 3), np.nan), "not between nan"),
        (np.full((4, 4, 3), "a"), "not <U1"),
        (7, "not 7"),
        ({"image": HWC}, "not dict"),
        ([[HWC]], "not list"),
        ([None], "not NoneType"),
        (SimpleNamespace(), "not SimpleNamespace"),
    ],
)
def test_what_is_no_image_says_what_to_give(image: Any, says: str):
    with pytest.raises(InputError, match=says):
        image_batch(image, 14, 28)


def test_paths_open_as_the_command_line_opens_them(tmp_path: Path):
    for number in range(3):
        Image.fromarray(HWC).save(tmp_path / f"{number}.png")
    assert isinstance(found := open_paths(str(tmp_path)), ImageSequence)
    assert found.count == 3
    assert found.meant(2) == 2
    assert open_paths([tmp_path / "0.png", str(tmp_path / "2.png")]).meant(1) == 2
    assert open_paths(HWC) is HWC
    with pytest.raises(InputError, match=r"no file or folder at a red room; text goes into the prompt"):
        open_paths("a red room")
