"""ImageSequence and videos that people have: the right picture, or one line that says what to do."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from gen3r.errors import InputError
from gen3r.media.images import evenly_spaced, image_batch, image_tensor, read_image, resize_and_crop
from gen3r.media.sequence import ImageSequence, open_paths
from gen3r.media.video import Timeline, read_video

WIDE = np.zeros((20, 30, 3), np.uint8)  # left half red, right half blue, green top row
WIDE[:, :15, 0], WIDE[:, 15:, 2], WIDE[0] = 200, 100, (0, 255, 0)


def colour(image: torch.Tensor, row: int, column: int) -> list[int]:
    return (image[:, row, column] * 255).round().int().tolist()


def write(folder: Path, image: Image.Image, suffix: str = ".png", **options: object) -> Path:
    path = folder / f"picture{suffix}"
    image.save(path, **options)
    return path


def write_clip(path: Path, frames: int, codec: str = "mpeg4", turned: int = 0) -> Path:
    """A video whose frame i is uniformly 10 i grey, but for a bright left edge."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10), width=64, height=32, pix_fmt="yuv420p")
        if turned:
            stream.set_display_rotation(turned)
        for i in range(frames):
            pixels = np.full((32, 64, 3), 10 * i, np.uint8)
            pixels[:, :16] = 250
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


class TestReadImage:
    def test_a_plain_picture_is_its_bytes(self, tmp_path: Path):
        image = read_image(write(tmp_path, Image.fromarray(WIDE)))
        assert image.dtype == torch.float32
        assert torch.equal((image * 255).round().byte(), torch.from_numpy(WIDE).permute(2, 0, 1))

    @pytest.mark.parametrize(("tag", "turn"), [(3, 2), (6, 3), (8, 1)])
    def test_exif_orientation_turns_the_picture_upright(self, tmp_path: Path, tag: int, turn: int):
        exif = Image.Exif()
        exif[0x0112] = tag
        image = read_image(write(tmp_path, Image.fromarray(WIDE), exif=exif))
        expected = np.rot90(WIDE, turn)
        assert torch.equal((image * 255).round().byte(), torch.from_numpy(expected.copy()).permute(2, 0, 1))

    def test_transparency_lies_over_white(self, tmp_path: Path):
        rgba = np.zeros((4, 4, 4), np.uint8)
        rgba[0] = (255, 0, 0, 255)
        rgba[1] = (255, 0, 0, 51)
        image = read_image(write(tmp_path, Image.fromarray(rgba)))
        assert colour(image, 0, 0) == [255, 0, 0]
        assert colour(image, 1, 0) == [255, 204, 204]
        assert colour(image, 2, 0) == [255, 255, 255]

    def test_a_palette_with_a_transparent_colour_lies_over_white(self, tmp_path: Path):
        palette = Image.fromarray(WIDE).quantize(8)
        clear = palette.getpixel((20, 10))
        image = read_image(write(tmp_path, palette, transparency=clear))
        assert colour(image, 10, 5) == [200, 0, 0]
        assert colour(image, 10, 20) == [255, 255, 255]

    @pytest.mark.parametrize("mode", ["L", "1", "LA"])
    def test_grey_has_three_equal_channels(self, tmp_path: Path, mode: str):
        image = read_image(write(tmp_path, Image.fromarray(WIDE).convert(mode)))
        assert image.shape == (3, 20, 30)
        assert torch.equal(image[0], image[1])
        assert torch.equal(image[0], image[2])

    def test_sixteen_bits_keep_their_range(self, tmp_path: Path):
        ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
        image = read_image(write(tmp_path, Image.fromarray(ramp)))
        assert torch.allclose(image[0], torch.from_numpy(ramp.astype(np.float32)) / 65535, atol=1e-6)

    def test_floats_keep_their_range_and_holes_are_black(self, tmp_path: Path):
        values = np.array([[-0.5, 0.25], [4.0, np.nan]], np.float32)
        image = read_image(write(tmp_path, Image.fromarray(values), ".tif"))
        assert image[1].tolist() == [[0.0, 0.25], [1.0, 0.0]]

    def test_cmyk_becomes_rgb(self, tmp_path: Path):
        image = read_image(write(tmp_path, Image.new("CMYK", (32, 32), (0, 255, 255, 0)), ".jpg"))
        red, green, blue = colour(image, 16, 16)
        assert red > 240
        assert max(green, blue) < 15

    def test_one_pixel_fills_a_frame(self, tmp_path: Path):
        image = resize_and_crop(read_image(write(tmp_path, Image.new("RGB", (1, 1), (10, 20, 30)))), 112, 224)
        assert image.shape == (3, 112, 224)
        assert colour(image, 50, 50) == [10, 20, 30]
        assert float(image.std((1, 2)).max()) < 1e-6

    def test_a_very_large_picture_is_shrunk_by_a_whole_factor(self, tmp_path: Path):
        pixels = Image.new("RGB", (6300, 4200), (0, 0, 200))
        pixels.paste((200, 0, 0), (0, 0, 3150, 4200))
        image = read_image(write(tmp_path, pixels, compress_level=1))
        assert image.shape == (3, 2100, 3150)
        assert colour(image, 1000, 1574) == [200, 0, 0]
        assert colour(image, 1000, 1575) == [0, 0, 200]

    def test_a_picture_with_too_many_pixels_is_refused_unread(self, tmp_path: Path):
        path = write(tmp_path, Image.new("1", (16384, 16384)))
        with pytest.raises(InputError, match="too many pixels"):
            read_image(path)

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
    def test_a_truncated_picture_is_refused(self, tmp_path: Path, suffix: str):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        path = write(tmp_path, Image.fromarray(noise), suffix)
        path.write_bytes(path.read_bytes()[:700])
        with pytest.raises(InputError, match=r"damaged|cannot|not an image"):
            read_image(path)

    def test_an_address_and_a_folder_of_other_things_say_what_to_do(self, tmp_path: Path):
        with pytest.raises(InputError, match="download it first"):
            open_paths("https://example.com/a.jpg")
        (tmp_path / "images").mkdir()
        (tmp_path / "clip.mp4").touch()
        with pytest.raises(InputError, match=r"no images .*; name clip\.mp4 or images itself"):
            open_paths(tmp_path)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, "no image at"),
            (b"", "empty"),
            (b"words", "not an image"),
            (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ],
    )
    def test_what_is_no_picture_is_refused(self, tmp_path: Path, content: bytes | None, says: str):
        path = tmp_path / "picture.png"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=says):
            read_image(path)


class TestFit:
    def test_covers_and_crops_the_centre(self):
        image = torch.zeros(3, 40, 100)
        image[:, :, 30:70] = 1
        fitted = resize_and_crop(image, 20, 20)
        assert fitted.shape == (3, 20, 20)
        assert torch.equal(fitted[..., 1:-1], torch.ones(3, 20, 18))  # bicubic: the border mixes with what is cut
        assert float(fitted.min()) > 0.9

    def test_the_right_size_is_left_alone(self):
        image = torch.rand(2, 3, 16, 16)
        assert resize_and_crop(image, 16, 16) is image

    @pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
    def test_a_strip_does_not_exhaust_the_memory(self, shape: tuple[int, int]):
        assert resize_and_crop(torch.full((3, *shape), 0.25), 112, 112).shape == (3, 112, 112)

    def test_a_long_picture_keeps_its_centre(self):
        image = torch.zeros(3, 20, 2000)
        image[:, :, 990:1010] = 1
        assert float(resize_and_crop(image, 20, 20).mean()) > 0.98


class TestPictureBatch:
    def test_every_form_means_the_same(self):
        pixels = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
        pillow = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        expected = resize_and_crop(pixels.float() / 255, 16, 16)[None, None]
        for form in (pixels, pixels.float() / 255, pillow, [pillow], pixels[None], pixels[None, None]):
            assert torch.equal(image_batch(form, 16, 16), expected)

    @pytest.mark.parametrize("nothing", [None, [], torch.zeros(1, 0, 3, 16, 16), torch.zeros(0, 3, 16, 16)])
    def test_no_picture_is_an_empty_clip(self, nothing: object):
        assert image_batch(nothing, 16, 16).shape == (1, 0, 3, 16, 16)  # pyright: ignore[reportArgumentType]

    def test_pictures_of_different_sizes_fit_together(self):
        assert image_batch([torch.rand(3, 20, 30), torch.rand(3, 50, 10)], 16, 32).shape == (1, 2, 3, 16, 32)

    @pytest.mark.parametrize(
        ("image", "says"),
        [
            (torch.rand(4, 4), r"\[3, H, W\]"),
            (torch.rand(4, 8, 8), r"\[3, H, W\]"),
            (torch.full((3, 8, 8), 255.0), r"lie in \[0, 1\]"),
            (torch.full((3, 8, 8), torch.nan), r"lie in \[0, 1\]"),
        ],
    )
    def test_what_is_no_picture_is_refused(self, image: torch.Tensor, says: str):
        with pytest.raises(InputError, match=says):
            image_tensor(image)


def levels(frames: torch.Tensor) -> list[int]:
    """Which frame of the test clip each is, by its grey."""
    return [round(float(f[:, :, 40:].mean()) * 25.5) for f in frames]


class TestVideo:
    def test_all_frames_in_order(self, tmp_path: Path):
        frames = read_video(write_clip(tmp_path / "clip.mp4", 9))
        assert frames.shape == (9, 3, 32, 64)
        assert levels(frames) == list(range(9))

    def test_frames_are_spread_evenly(self, tmp_path: Path):
        assert levels(read_video(write_clip(tmp_path / "clip.mkv", 9), frames=5)) == [0, 2, 4, 6, 8]

    def test_a_short_video_repeats_frames(self, tmp_path: Path):
        assert levels(read_video(write_clip(tmp_path / "clip.mp4", 2), frames=5)) == [0, 0, 0, 1, 1]

    def test_frames_are_fitted_one_at_a_time(self, tmp_path: Path):
        pictures = ImageSequence.open([write_clip(tmp_path / "clip.mp4", 9)])
        assert pictures.count == 9
        assert pictures.sample(2, 16, 16).shape == (2, 3, 16, 16)

    @pytest.mark.parametrize(("turned", "edge"), [(90, "bottom"), (-90, "top"), (180, "right")])
    def test_a_telephone_video_stands_upright(self, tmp_path: Path, turned: int, edge: str):
        frame = read_video(write_clip(tmp_path / "clip.mp4", 1, turned=turned))[0]
        bright = {"bottom": frame[:, -8:], "top": frame[:, :8], "right": frame[:, :, -8:]}[edge]
        assert frame.shape == ((3, 32, 64) if turned == 180 else (3, 64, 32))
        assert float(bright.mean()) > 0.9 > 0.3 > float(frame.mean())

    def test_a_stream_that_ends_early_repeats_its_last_frame(self, tmp_path: Path):
        path = write_clip(tmp_path / "clip.mp4", 3)
        assert levels(ImageSequence((path,), timeline=Timeline(5, 0, 0.4, True)).sample(5, 32, 64)) == [0, 1, 2, 2, 2]

    @pytest.mark.parametrize(("content", "says"), [(None, "no video at"), (b"", "empty"), (b"words", "cannot be read")])
    def test_what_is_no_video_is_refused(self, tmp_path: Path, content: bytes | None, says: str):
        path = tmp_path / "clip.mp4"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=says):
            read_video(path)

    def test_a_truncated_video_is_refused(self, tmp_path: Path):
        path = write_clip(tmp_path / "clip.mp4", 9)
        path.write_bytes(path.read_bytes()[:-400])
        with pytest.raises(InputError, match="cannot be read"):
            read_video(path)

    def test_sound_alone_is_refused(self, tmp_path: Path):
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=8000, layout="mono")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            for packet in [*stream.encode(silence), *stream.encode()]:
                container.mux(packet)
        with pytest.raises(InputError, match="no video frames"):
            read_video(path)


class TestPictures:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for number in (2, 10, 1):
            Image.new("RGB", (8 * number, 40), (number, 0, 0)).save(folder / f"frame{number}.png")
        (folder / "notes.txt").write_text("words")
        (folder / ".hidden.png").write_bytes(b"")
        return folder

    def test_a_folder_is_in_the_order_of_its_numbers(self, folder: Path):
        pictures = ImageSequence.open([folder])
        assert [p.name for p in pictures.files] == ["frame1.png", "frame2.png", "frame10.png"]
        assert [colour(x, 5, 5)[0] for x in pictures.sample(5, 16, 16)] == [1, 1, 2, 10, 10]

    def test_files_keep_their_order(self, folder: Path):
        files = [folder / "frame10.png", folder / "frame1.png"]
        assert [colour(x, 5, 5)[0] for x in ImageSequence.open(files).sample(2, 16, 16)] == [10, 1]

    def test_nothing_is_nothing(self):
        assert ImageSequence.open([]).count == 0

    @pytest.mark.parametrize("prepare", [lambda f: [f, f], lambda f: [f / "frame1.png", f], lambda f: [f, f / "a.mp4"]])
    def test_mixtures_are_refused(self, folder: Path, prepare: Callable[[Path], list[Path]]):
        with pytest.raises(InputError, match="not a mixture"):
            ImageSequence.open(prepare(folder))

    def test_a_link_to_nothing_is_not_passed_over(self, folder: Path):
        (folder / "frame3.png").symlink_to("frame3.png")
        (folder / "frame4.png").mkdir()
        with pytest.raises(InputError, match=r"no image at .*frame3\.png"):
            ImageSequence.open([folder])

    @pytest.mark.parametrize(
        "content",
        [
            b"\x76\x2f\x31\x01\x02\0\0\0" + bytes(100),  # OpenEXR
            b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n" + bytes(64),
            b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
            b"\x09" + bytes(3000),  # graphics of a karaoke disc, for FFmpeg
        ],
    )
    def test_an_image_that_only_ffmpeg_knows_is_no_video(self, content: bytes, tmp_path: Path):
        (tmp_path / "image.xyz").write_bytes(content)
        with pytest.raises(InputError, match=r"image\.xyz is not an image that can be read; give a PNG or JPEG"):
            ImageSequence.open([tmp_path / "image.xyz"]).first_size()

    def test_a_folder_without_pictures_is_refused(self, tmp_path: Path):
        with pytest.raises(InputError, match="holds no images"):
            ImageSequence.open([tmp_path])


def test_spread_includes_both_ends():
    assert evenly_spaced(49, 5) == [0, 12, 24, 36, 48]
    assert evenly_spaced(3, 1) == [0]
