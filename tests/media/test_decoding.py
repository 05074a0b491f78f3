"""Pictures of every mode, turn and format, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gen3r.data.readers.frames import PictureFiles, frames_of, read_frame
from gen3r.errors import InputError
from gen3r.media.decoding import opened, upright_size
from gen3r.media.images import file_size, first_size, image_tensor, list_images, read_image
from gen3r.media.sequence import ImageSequence
from tests.media.fuzz import pictures, read_damaged, read_long, read_picture

STORED = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
# EXIF orientation -> what it shows, by the definition of where the stored first row and column are.
UPRIGHT = {
    1: STORED, 2: STORED[:, ::-1], 3: STORED[::-1, ::-1], 4: STORED[::-1], 5: STORED.swapaxes(0, 1),
    6: np.rot90(STORED, -1), 7: STORED[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(STORED),
}  # fmt: skip


def bytes_of(image: torch.Tensor) -> np.ndarray:
    return (255 * image).round().byte().permute(1, 2, 0).numpy()


def turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(STORED).save(path, exif=exif, **lossless)
    return path


class TestTurns:
    @pytest.mark.parametrize("orientation", UPRIGHT)
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
    def test_a_file_and_a_pillow_image_stand_upright_alike(self, orientation: int, suffix: str, tmp_path: Path):
        path = turned(tmp_path / f"image{suffix}", orientation)
        assert np.array_equal(bytes_of(read_image(path)), UPRIGHT[orientation])
        assert file_size(path) == UPRIGHT[orientation].shape[:2]
        with Image.open(path) as image:
            assert first_size([image]) == UPRIGHT[orientation].shape[:2]
            assert np.array_equal(bytes_of(image_tensor(image)), UPRIGHT[orientation])
            assert np.array_equal(bytes_of(image_tensor(image)), UPRIGHT[orientation])  # and does so again

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_is_none(self, orientation: int, tmp_path: Path):
        assert np.array_equal(bytes_of(read_image(turned(tmp_path / "image.png", orientation))), STORED)

    def test_a_heic_stands_upright_once(self, tmp_path: Path):
        pytest.importorskip("pillow_heif").register_heif_opener()
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.new("RGB", (96, 64), (200, 30, 30))
        image.paste((30, 30, 200), (0, 0, 48, 64))
        image.save(tmp_path / "image.heic", exif=exif.tobytes())
        shown = read_image(tmp_path / "image.heic")
        assert shown.shape == (3, 96, 64)
        assert file_size(tmp_path / "image.heic") == (96, 64)
        assert bytes_of(shown)[10, 32, 2] > 150 > 100 > bytes_of(shown)[80, 32, 2]  # the left half is on top now

    def test_tags_of_unusual_types_do_not_matter(self, tmp_path: Path):
        """Resolution unit as a float, a width as text: telephones and editors write both."""
        entries = [(0x0100, 2, b"40\0\0"), (0x0112, 3, b"\6\0\0\0"), (0x0128, 11, b"\0\0\0@"), (0x0213, 2, b"1\0\0\0")]
        head = b"Exif\0\0II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little")
        body = b"".join(
            tag.to_bytes(2, "little")
            + kind.to_bytes(2, "little")
            + (3 if kind == 2 else 1).to_bytes(4, "little")
            + value
            for tag, kind, value in entries
        )
        for suffix in (".jpg", ".webp", ".png"):
            Image.fromarray(STORED).save(tmp_path / f"image{suffix}", exif=head + body + bytes(4))
            assert read_image(tmp_path / f"image{suffix}").shape == (3, 30, 20)

    def test_a_dataset_frame_is_turned_where_its_camera_is(self, tmp_path: Path):
        path = turned(tmp_path / "image.png", 6)
        assert np.array_equal(read_frame(path).numpy(), STORED)
        assert np.array_equal(PictureFiles([path], size=(20, 30))(0).numpy(), STORED)
        assert np.array_equal(PictureFiles([path], size=(30, 20))(0).numpy(), UPRIGHT[6])
        read, size = frames_of(ImageSequence.open([path]))
        assert size == (30, 20)
        assert np.array_equal(read(0).numpy(), UPRIGHT[6])


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [("1", ".png"), ("L", ".jp2"), ("LA", ".png"), ("P", ".gif"), ("PA", ".tif"), ("RGBA", ".tif"),
         ("RGBX", ".tif"), ("CMYK", ".tif"), ("YCbCr", ".tif"), ("LAB", ".tif"), ("I;16", ".png"), ("I;16B", ".tif"),
         ("F", ".tif"), ("F", ".pfm"), ("I;16", ".pgm"), ("I", ".tif")],
    )  # fmt: skip
    def test_grey_stays_the_same_grey(self, mode: str, suffix: str, tmp_path: Path):
        grey, expected = Image.new("L", (32, 32), 120), 120
        if mode == "1":
            image, expected = Image.new("1", (32, 32), 1), 255
        elif mode == "LAB":
            image, expected = Image.new("LAB", (32, 32), (128, 128, 128)), 119
        elif mode in ("I;16", "I;16B"):
            image = Image.fromarray(np.full((32, 32), 120 * 257, np.uint16))
            image = image if mode == "I;16" else image.convert("I").convert("I;16B")
        elif mode == "I":
            image = Image.new("I", (32, 32), round(120 / 255 * (2**31 - 1)))
        elif mode == "F":
            image = Image.new("F", (32, 32), 120 / 255)
        else:
            image = (grey if mode in ("L", "LA", "P", "PA") else grey.convert("RGB")).convert(mode)
        image.save(tmp_path / f"image{suffix}")
        shown = 255 * read_image(tmp_path / f"image{suffix}")
        assert shown.shape == (3, 32, 32)
        assert float((shown - expected).abs().max()) <= 1.01

    @pytest.mark.parametrize("mode", ["P", "1", "I;16", "LA", "CMYK"])
    def test_a_large_one_is_shrunk_in_any_mode(self, mode: str):
        deep = Image.fromarray(np.full((4100, 4100), 40000, np.uint16))
        image = deep if mode == "I;16" else Image.new(mode, (4100, 4100), 0)
        assert image_tensor(image).shape == (3, 2050, 2050)

    def test_premultiplied_and_palette_transparency(self):
        red = Image.new("RGBA", (4, 4), (255, 0, 0, 51))
        for mode in ("RGBa", "RGBA"):
            assert bytes_of(image_tensor(red.convert(mode)))[0, 0].tolist() == [255, 204, 204]
        for mode in ("LA", "La"):
            assert bytes_of(image_tensor(Image.new("LA", (4, 4), (0, 51)).convert(mode)))[0, 0].tolist() == [204] * 3

    @pytest.mark.parametrize("suffix", [".tga", ".bmp", ".dds", ".png"])
    def test_transparency_that_was_never_set(self, suffix: str, tmp_path: Path):
        Image.new("RGBA", (4, 4), (200, 100, 50, 0)).save(tmp_path / f"image{suffix}")
        assert bytes_of(read_image(tmp_path / f"image{suffix}"))[0, 0].tolist() == [200, 100, 50]

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
    def test_a_panorama_of_all_directions_is_said(self, suffix: str, tmp_path: Path):
        words, path = b'<x GPano:ProjectionType="equirectangular"/>', tmp_path / f"image{suffix}"
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", words.decode())
        Image.fromarray(STORED).save(path, xmp=words, pnginfo=text)
        with pytest.warns(UserWarning, match=r"image\.\w+ is a panorama"):
            read_image(path)

    @pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
    def test_an_animation_is_said(self, suffix: str, tmp_path: Path):
        path, frames = tmp_path / f"image{suffix}", [Image.fromarray(np.roll(STORED, i, 0)) for i in range(3)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.warns(UserWarning, match=rf"image{suffix} is an animation, of which the first frame is read"):
            assert np.abs(bytes_of(read_image(path)).astype(int) - STORED).mean() < 60

    def test_a_jpeg_with_the_other_eye_or_depth_is_its_first(self, tmp_path: Path, recwarn: pytest.WarningsRecorder):
        exif = Image.Exif()
        exif[0x0112] = 6
        other = Image.new("L", (8, 8))
        Image.fromarray(STORED).save(tmp_path / "image.jpg", "MPO", save_all=True, append_images=[other], exif=exif)
        assert read_image(tmp_path / "image.jpg").shape == (3, 30, 20)
        assert not recwarn

    def test_a_clear_grey_of_sixteen_bits_is_white(self, tmp_path: Path):
        Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "image.png", transparency=1000)
        assert bytes_of(read_image(tmp_path / "image.png")).min() == 255

    def test_white_as_zero_and_signed_and_32_bits(self, tmp_path: Path):
        for number, (values, tags, expected) in enumerate(
            [
                (np.full((4, 4), 10000, np.uint16), {262: 0}, 1 - 10000 / 65535),
                (np.full((4, 4), 2**30, np.int32), {}, 0.5),
            ]
        ):
            path = tmp_path / f"{number}.tif"
            Image.fromarray(values).save(path, tiffinfo=tags)
            if tags:  # Pillow writes its own kind
                data = bytearray(path.read_bytes())
                at = data.index((262).to_bytes(2, "little") + (3).to_bytes(2, "little"))
                data[at + 8] = 0
                path.write_bytes(data)
            assert float(read_image(path).mean()) == pytest.approx(expected, abs=1e-3)

    def test_a_dark_clip_stays_dark(self, tmp_path: Path):
        """Every frame has the same range, whatever its brightest pixel is."""
        for number, values in enumerate((np.full((8, 8), 0.25), np.eye(8) * 0.5)):
            Image.fromarray(values.astype(np.float32)).save(tmp_path / f"{number}.tif")
            Image.fromarray((values * 65535).round().astype(np.uint16)).save(tmp_path / f"{number}.png")
            for suffix in (".tif", ".png"):
                read = read_image(tmp_path / f"{number}{suffix}")[0]
                assert torch.allclose(read, torch.from_numpy(values).float(), atol=1e-4)

    def test_numbers_that_are_no_brightness_are_refused(self, tmp_path: Path):
        Image.fromarray(np.full((8, 8), 120.0, np.float32)).save(tmp_path / "image.tif")
        with pytest.raises(InputError, match="120 is more than its white, 1; scale it"):
            read_image(tmp_path / "image.tif")

    def test_a_long_panorama_is_shrunk(self):
        assert image_tensor(Image.new("L", (30_000, 1500))).shape == (3, 750, 15_000)


class TestRefused:
    def test_heic_without_its_library_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "image.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        Image.init()
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        monkeypatch.setattr(Image, "OPEN", {k: v for k, v in Image.OPEN.items() if k != "HEIF"})
        monkeypatch.setattr(Image, "ID", [x for x in Image.ID if x != "HEIF"])
        with pytest.raises(InputError, match=r"image\.jpg is a HEIC; install gen3r\[heic\]"):
            read_image(tmp_path / "image.jpg")

    def test_raw_files_of_cameras(self, tmp_path: Path):
        Image.fromarray(STORED).save(tmp_path / "a.tif")
        (tmp_path / "a.tif").rename(tmp_path / "a.nef")
        Image.fromarray(STORED).save(tmp_path / "b.tif", tiffinfo={50706: b"\1\4\0\0"})
        (tmp_path / "c.CR3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(500))
        (tmp_path / "d.RAF").write_bytes(b"FUJIFILMCCD-RAW " + bytes(500))
        for name in ("a.nef", "b.tif", "c.CR3", "d.RAF"):
            with pytest.raises(InputError, match=r"camera's raw file; export it as JPEG"):
                read_image(ImageSequence.open([tmp_path / name]).files[0])

    @pytest.mark.parametrize("suffix", [".eps", ".pdf", ".svg"])
    def test_what_other_programs_draw(self, suffix: str, tmp_path: Path):
        path = tmp_path / f"image{suffix}"
        if suffix == ".svg":
            path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        else:
            Image.fromarray(STORED).save(path)
        with pytest.raises(InputError, match="not an image that can be read; give a PNG or JPEG"):
            read_image(path)

    def test_a_damaged_pillow_image_is_one_line_too(self, tmp_path: Path):
        Image.fromarray(STORED).save(tmp_path / "image.png")
        (tmp_path / "image.png").write_bytes((tmp_path / "image.png").read_bytes()[:600])
        with Image.open(tmp_path / "image.png") as image, pytest.raises(InputError, match="the image is damaged"):
            image_tensor(image)

    def test_the_reason_is_one_line(self, tmp_path: Path):
        Image.fromarray(STORED).save(tmp_path / "image.png")
        with pytest.raises(InputError) as caught, opened(tmp_path / "image.png"):
            raise RuntimeError("first\nsecond\n" + 1000 * "x")
        assert "first second" in str(caught.value)
        assert len(str(caught.value)) < 400


def test_what_systems_leave_is_nobodys_data(tmp_path: Path):
    for name in ("._a.jpg", "a.jpg", "Thumbs.db", ".thumbnails/a.jpg", "__MACOSX/a.jpg", "b.jpg/c.txt", "@eaDir/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    Image.fromarray(STORED).save(tmp_path / "a.jpg")
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg"]
    named = sorted(p for p in tmp_path.iterdir() if p.name != "b.jpg")  # as a shell lists them
    assert ImageSequence.open(named).files == (tmp_path / "a.jpg",)


def test_of_one_name_in_several_formats_one_is_read(tmp_path: Path):
    for name in ("1.jpg", "1.png", "2.jpg", "10.png"):
        Image.fromarray(STORED).save(tmp_path / name)
    with pytest.warns(UserWarning, match="1 images left out: 1.png, for one, has the name of 1.jpg"):
        read = ImageSequence.open([tmp_path])
    assert [path.name for path in read.files] == ["1.jpg", "2.jpg", "10.png"]


def test_an_avif_needs_no_other_library(tmp_path: Path):
    Image.fromarray(np.full((32, 32, 3), (200, 100, 50), np.uint8)).save(tmp_path / "image.avif", quality=95)
    with opened(tmp_path / "image.avif") as image:
        assert upright_size(image) == (32, 32)
    assert np.abs(bytes_of(read_image(tmp_path / "image.avif")).astype(int) - (200, 100, 50)).max() <= 3


def test_damaged_pictures_are_read_or_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    files = list(pictures())
    outcomes, _ = read_damaged(files, 4 * len(files), tmp_path, read_picture, seed=1)
    assert min(outcomes["read"], outcomes["refused"]) > len(files)
    capfd.readouterr()  # libtiff writes to the console itself


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "count"), [("pictures", 2000), ("videos", 500)])
def test_many_damaged_files(kind: str, count: int):
    result = read_long(kind, count)
    assert result["read"] + result["refused"] == count
    assert result["longest"] < 10
    assert result["memory"] < 1000
