"""Photos of folders and archives, and crops that move over the photos of packages."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from gen3r.data.photos import LARGEST, SHIPPED, moving_photos, photos_in, shipped
from gen3r.errors import InputError


def _save(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_a_tree_of_photos_and_archives_is_one_list(tmp_path: Path) -> None:
    _save(tmp_path / "in" / "wide.JPG", (250, 0, 0), (900, 300))
    packed = _save(tmp_path / "green.png", (0, 250, 0))
    with ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(packed, "a/b/green.png")
        archive.writestr("a/notes.txt", "nothing")
    (tmp_path / "notes.txt").write_text("nothing")
    photos = photos_in(tmp_path)
    assert len(photos.names) == 3
    drawn = [photos.draw(np.random.default_rng(seed)) for seed in range(20)]
    assert {picture.size for picture in drawn} == {(LARGEST, round(LARGEST / 3)), (40, 30)}
    tile = photos.tile(np.random.default_rng(0), 16, 0.3, 0.6)
    assert tile.shape == (16, 16, 3)
    assert 0 <= tile.min() <= tile.max() <= 1


def test_only_what_looks_like_a_sky_is_one(tmp_path: Path) -> None:
    _save(tmp_path / "ceiling" / "beige.png", (220, 200, 170))
    assert photos_in(tmp_path / "ceiling").sky(np.random.default_rng(0)) is None
    picture = np.full((40, 60, 3), (90, 70, 50), np.uint8)
    picture[:24] = 130, 170, 240
    (tmp_path / "sky").mkdir()
    Image.fromarray(picture).save(tmp_path / "sky" / "hill.png")
    (tmp_path / "sky" / "._hill.png").write_bytes(b"what macOS leaves beside a file")
    sky = photos_in(tmp_path / "sky").sky(np.random.default_rng(0))
    assert sky is not None
    assert sky.shape == (24, 60, 3)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        photos_in(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no \.jpg or \.png files"):
        photos_in(tmp_path)
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip" / "a.zip").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.zip is damaged"):
        photos_in(tmp_path / "zip")
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "a.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.png is damaged .*; remove it"):
        photos_in(tmp_path / "png").draw(np.random.default_rng(0))


@pytest.mark.parametrize("split", SHIPPED)
def test_the_photos_that_packages_ship_are_there(split: str) -> None:
    assert all(path.is_file() for path, _ in shipped(split).names)


def test_photos_move() -> None:
    clip = moving_photos(np.random.default_rng(0), shipped("train"), 5, 56, 84)
    assert clip.shape == (5, 3, 56, 84)
    assert (clip[0].float() - clip[-1].float()).abs().mean() > 0.5
