"""Frames of videos as players show them: which, when, how turned, in what colours."""

import os
import struct
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from gen3r.data.readers.frames import VideoFrames
from gen3r.errors import InputError
from gen3r.media.sequence import ImageSequence
from gen3r.media.video import VIDEO_SUFFIXES, read_timeline, read_video
from tests.media.fuzz import read_clip, read_damaged, videos

HEIGHT, WIDTH = 64, 96


def write(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    container_format: str | None = None,
    aspect: Fraction | None = None,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """A video of frames [H, W, 3], shown at these times in ms, else ten a second."""
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = times[i] if times else 100 * i, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def greys(levels: Sequence[int], height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def levels(frames: torch.Tensor) -> list[int]:
    """The grey of each frame, to the next ten."""
    return [round(25.5 * float(frame.mean())) * 10 for frame in frames]


def trim(path: Path, skip: float, keep: float) -> None:
    """Writes into the edit list that `keep` seconds from `skip` on are shown; the rest stays in the file."""
    data = bytearray(path.read_bytes())
    place = data.find(b"elst") + 12
    _, start, rate = struct.unpack(">Iii", data[place : place + 12])
    media = struct.unpack(">I", data[data.find(b"mdhd") + 16 :][:4])[0]
    movie = struct.unpack(">I", data[data.find(b"mvhd") + 16 :][:4])[0]
    data[place : place + 12] = struct.pack(">Iii", int(keep * movie), start + int(skip * media), rate)
    path.write_bytes(data)


class TestShown:
    @pytest.mark.parametrize(("skip", "keep"), [(0.4, 0.6), (0.0, 0.5), (0.3, 0.4)])
    @pytest.mark.parametrize("suffix", [".mp4", ".mov"])
    def test_an_edit_list_hides_frames(self, skip: float, keep: float, suffix: str, tmp_path: Path):
        path = write(tmp_path / f"clip{suffix}", greys(range(10, 210, 20)))
        trim(path, skip, keep)
        expected = [10 + 200 * skip + 20 * i for i in range(round(10 * keep))]
        pictures = ImageSequence.open([path])
        assert pictures.count == len(expected)
        assert levels(read_video(path)) == expected
        assert levels(pictures.sample(2, 14, 14)) == [expected[0], expected[-1]]
        assert levels(pictures.read([1, 0], 14, 14)) == [expected[1], expected[0]]
        assert levels(torch.stack([VideoFrames(path)(len(expected) - 1)]).permute(0, 3, 1, 2) / 255) == [expected[-1]]

    def test_frames_at_uneven_times_are_chosen_by_time(self, tmp_path: Path):
        path = write(tmp_path / "clip.mkv", greys([0, 50, 100, 150, 200]), times=[0, 100, 200, 300, 2000])
        assert levels(ImageSequence.open([path]).sample(5, 14, 14)) == [0, 150, 150, 200, 200]
        assert levels(read_video(path, 3)) == [0, 150, 200]
        assert levels(read_video(path)) == [0, 50, 100, 150, 200]

    @pytest.mark.parametrize("frames", [1, 2, 5, 9])
    def test_frames_at_even_times_are_chosen_by_number(self, frames: int, tmp_path: Path):
        path = write(tmp_path / "clip.mp4", greys(range(0, 250, 50)), options={"bf": "2"})
        wanted = [50 * round(x - 1e-6) for x in np.linspace(0, 4, frames)]
        assert levels(ImageSequence.open([path]).sample(frames, 14, 14)) == wanted

    def test_a_stream_without_times_is_counted(self, tmp_path: Path):
        path = write(tmp_path / "clip.h264", greys(range(0, 250, 50)), container_format="h264")
        assert not read_timeline(path).timed
        assert levels(ImageSequence.open([path]).sample(3, 14, 14)) == [0, 100, 200]

    def test_joined_captures_start_again(self, tmp_path: Path):
        """Times jump back, and the size changes: frames are counted, and fitted to the first."""
        parts = [greys([0, 50, 100]), greys([150, 200, 250], 96, 64)]
        paths = [write(tmp_path / f"{i}.ts", part, container_format="mpegts") for i, part in enumerate(parts)]
        (tmp_path / "clip.ts").write_bytes(b"".join(p.read_bytes() for p in paths))
        frames = read_video(tmp_path / "clip.ts")
        assert frames.shape == (6, 3, HEIGHT, WIDTH)
        assert levels(frames) == [0, 50, 100, 150, 200, 250]
        assert levels(ImageSequence.open([tmp_path / "clip.ts"]).sample(2, 14, 14)) == [0, 250]

    def test_damaged_packets_are_left_out_with_a_note(self, tmp_path: Path):
        path = write(tmp_path / "clip.mov", greys(range(0, 200, 20)), codec="png", pixels="rgb24")
        path.write_bytes(path.read_bytes().replace(b"\x89PNG", bytes(4), 1))
        with pytest.warns(UserWarning, match=r"clip\.mov is damaged; 1 of its packets"):
            assert levels(read_video(path)) == list(range(20, 200, 20))

    def test_the_cover_of_a_song_is_no_video(self, tmp_path: Path):
        song = tmp_path / "song.mka"
        with av.open(str(song), "w", format="matroska") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            sound.sample_rate = 8000
            container.mux([*stream.encode(sound), *stream.encode()])
        with pytest.raises(InputError, match="no video frames"):
            read_video(song)

    def test_a_long_video_needs_no_more_memory(self, tmp_path: Path):
        used = []
        for frames in (20, 2000):
            path = write(tmp_path / "clip.mkv", greys([0, 250] * (frames // 2), 16, 16), codec="mpeg4")
            tracemalloc.start()
            assert ImageSequence.open([path]).count == frames
            used.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert used[1] < used[0] + 20_000


def woven(positions: Sequence[int], height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """A bar that moves on between the two fields of each frame; the lower field is the first."""
    frames = greys([0] * len(positions), height, width)
    for frame, x in zip(frames, positions, strict=True):
        frame[1::2, x : x + 16] = frame[::2, x + 4 : x + 20] = 250
    return frames


class TestInterlaced:
    @pytest.mark.parametrize(
        ("name", "codec", "options"),
        [
            ("clip.avi", "mpeg4", {"flags": "+ilme+ildct"}),
            ("clip.mts", "libx264", {"x264-params": "bff=1"}),
        ],
    )
    def test_each_frame_is_the_picture_of_its_first_field(self, name: str, codec: str, options: dict, tmp_path: Path):
        path = write(tmp_path / name, woven(range(0, 64, 8)), codec, options=options)
        frames = read_video(path)
        assert len(frames) == read_timeline(path).count == 8
        assert (frames[:, :, ::2] - frames[:, :, 1::2]).abs().mean() < 0.01
        for frame, left in zip(frames, range(0, 64, 8), strict=True):
            bar = frame[..., left + 2 : left + 14]
            assert (bar - 250 / 255).abs().mean() < 0.05
            assert frame[..., left + 22 :].mean() < 0.05
        assert ImageSequence.open([path]).sample(3, HEIGHT, WIDTH)[2].equal(frames[-1])

    def test_what_is_not_interlaced_stays(self, tmp_path: Path):
        """Joined captures: whole frames, two fields a frame, the same in another size."""
        options = {"x264-params": "bff=1"}
        parts = [write(tmp_path / "0.ts", woven([8, 16], 32, 64), container_format="mpegts")]
        for i, size in enumerate([(32, 64), (64, 96)], 1):
            parts.append(write(tmp_path / f"{i}.ts", woven([8, 16], *size), options=options, container_format="mpegts"))
        (tmp_path / "clip.ts").write_bytes(b"".join(p.read_bytes() for p in parts))
        frames = read_video(tmp_path / "clip.ts")
        assert len(frames) == 6
        assert frames[:2].equal(read_video(parts[0]))
        combed = (frames[:, :, ::2] - frames[:, :, 1::2]).abs().mean((1, 2, 3)) > 0.02
        assert combed.tolist() == [True, True, False, False, False, False]


# What the matrix of a track makes of a frame (a, b, c, d: a pixel (x, y) is shown at (a x + c y, b x + d y)).
MATRICES = {
    (1, 0, 0, 1): lambda x: x, (-1, 0, 0, 1): lambda x: x[:, ::-1], (1, 0, 0, -1): lambda x: x[::-1],
    (-1, 0, 0, -1): lambda x: x[::-1, ::-1], (0, 1, 1, 0): lambda x: x.swapaxes(0, 1),
    (0, 1, -1, 0): lambda x: np.rot90(x, -1), (0, -1, 1, 0): lambda x: np.rot90(x),
    (0, -1, -1, 0): lambda x: x[::-1, ::-1].swapaxes(0, 1),
}  # fmt: skip


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_turned_or_mirrored_video_is_shown_as_recorded(matrix: tuple[int, int, int, int], tmp_path: Path):
    corners = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    corners[: HEIGHT // 2, : WIDTH // 2], corners[HEIGHT // 2 :, : WIDTH // 2] = (220, 30, 30), (30, 30, 220)
    path = write(tmp_path / "clip.mp4", [corners])
    data = bytearray(path.read_bytes())
    a, b, c, d = (65536 * x for x in matrix)
    place = data.find(b"tkhd") + 44
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = np.ascontiguousarray(MATRICES[matrix](corners))
    shown = (255 * read_video(path)[0]).permute(1, 2, 0).numpy()
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 6
    assert ImageSequence.open([path]).first_size() == expected.shape[:2]


def test_panoramas_and_pictures_for_both_eyes_are_said(tmp_path: Path):
    path = write(tmp_path / "clip.mp4", greys([90]))
    words = b"".join(
        b"<GSpherical:%s>%s</GSpherical:%s>" % (key, value, key)
        for key, value in {
            b"Spherical": b"true", b"Stitched": b"true", b"StitchingSoftware": b"x", b"StereoMode": b"top-bottom",
            b"ProjectionType": b"equirectangular",
        }.items()
    )  # fmt: skip
    box = bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + words
    box = struct.pack(">I", len(box) + 8) + b"uuid" + box
    data = bytearray(path.read_bytes())
    track = data.index(b"trak") - 4
    [size] = struct.unpack_from(">I", data, track)
    data[track + size : track + size] = box
    for place in (track, data.index(b"moov") - 4):
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(box))
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="is a panorama"), pytest.warns(UserWarning, match="two views in one picture"):
        assert levels(read_video(path)) == [90]


@pytest.mark.parametrize(
    ("height", "width", "aspect"), [(108, 144, (4, 3)), (72, 90, (64, 45)), (96, 144, (8, 9)), (64, 64, (1, 50))]
)
def test_pixels_become_square(height: int, width: int, aspect: tuple[int, int], tmp_path: Path):
    ratio = Fraction(*aspect)
    y, x = np.mgrid[:height, :width] + 0.5
    disc = ((x - width / 2) * float(ratio)) ** 2 + (y - height / 2) ** 2 < (0.4 * height) ** 2
    path = write(
        tmp_path / "clip.mp4", [np.where(disc[..., None], 240, 30).repeat(3, -1).astype(np.uint8)], aspect=ratio
    )
    shown = read_video(path)[0].mean(0) > 0.5
    if ratio < Fraction(1, 4):  # no camera makes such pixels
        assert shown.shape == (height, width)
    else:
        assert int(shown.any(0).sum()) == pytest.approx(int(shown.any(1).sum()), abs=2)
        assert shown.numel() >= height * width  # nothing is thrown away


COLOURS = np.array([(220, 30, 30), (30, 200, 40), (40, 60, 220), (240, 220, 40)])
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def light(srgb: np.ndarray) -> np.ndarray:
    value = srgb / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def pq(value: np.ndarray) -> np.ndarray:
    y = (value * 203 / 10000) ** 0.1593017578
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(value: np.ndarray) -> np.ndarray:
    scene = 0.265 * value
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def bt709(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("curve", "transfer", "note"), [(pq, 16, "PQ"), (hlg, 18, "HLG"), (bt709, 14, None)])
@pytest.mark.parametrize("full_range", [False, True])
def test_bt2020_and_hdr_become_srgb(curve, transfer: int, note: str | None, full_range: bool, tmp_path: Path):
    """Colours of SDR placed in HDR as ITU-R BT.2408 says come back."""
    signal = curve(light(COLOURS) @ TO_BT2020.T).repeat(24, 0)[None].repeat(64, 0)
    r, g, b = signal[..., 0], signal[..., 1], signal[..., 2]
    y = 0.2627 * r + 0.6780 * g + 0.0593 * b
    low, span, chroma = (0, 1023, 1023) if full_range else (64, 876, 896)
    planes = [low + span * y, 512 + chroma * (b - y) / 1.8814, 512 + chroma * (r - y) / 1.4746]
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, transfer
        context.color_range = 2 if full_range else 1
        frame = av.VideoFrame(96, 64, "yuv444p10le")
        for values, plane in zip(planes, frame.planes, strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, :96] = values.round().clip(0, 1023)
            plane.update(rows.tobytes())
        frame.pts, frame.colorspace, frame.color_range = 0, 9, context.color_range
        container.mux([*stream.encode(frame), *stream.encode()])
    if note is None:
        shown = 255 * read_video(path)[0]
    else:
        with pytest.warns(UserWarning, match=rf"clip\.mp4 is HDR \({note}\)"):
            shown = 255 * read_video(path)[0]
    got = shown[:, 32, 12::24].T.numpy()
    assert np.abs(got - COLOURS).max() <= 4  # 3 of them where the curve for highlights begins


@pytest.mark.parametrize(("matrix", "full_range"), [(1, False), (1, True), (5, False), (5, True)])
def test_the_matrix_and_range_of_a_video_are_used(matrix: int, full_range: bool, tmp_path: Path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 2 if full_range else 1
        red, blue = (0.2126, 0.0722) if matrix == 1 else (0.299, 0.114)
        r, g, b = (COLOURS[..., i].repeat(24)[None].repeat(64, 0) / 255 for i in range(3))
        y = red * r + (1 - red - blue) * g + blue * b
        low, span, chroma = (0, 255, 255) if full_range else (16, 219, 224)
        planes = [low + span * y, 128 + chroma * (b - y) / (2 - 2 * blue), 128 + chroma * (r - y) / (2 - 2 * red)]
        frame = av.VideoFrame(96, 64, "yuv444p")
        for values, plane in zip(planes, frame.planes, strict=True):
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            rows[:, :96] = values.round()
            plane.update(rows.tobytes())
        frame.pts, frame.colorspace, frame.color_range = 0, matrix, context.color_range
        container.mux([*stream.encode(frame), *stream.encode()])
    got = 255 * read_video(path)[0][:, 32, 12::24].T.numpy()
    assert np.abs(got - COLOURS).max() <= 3


def test_a_transparent_video_lies_over_white(tmp_path: Path):
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "rgba"
        rgba = np.full((64, 96, 4), (255, 0, 0, 51), np.uint8)
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")), *stream.encode()])
    assert (255 * read_video(path)[0, :, 5, 5]).round().tolist() == [255, 204, 204]


class TestNames:
    @pytest.mark.parametrize("title", ["title", "artist", "comment"])
    @pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
    def test_text_that_is_not_utf8_is_not_used(self, title: str, suffix: str, tmp_path: Path):
        path = tmp_path / f"clip{suffix}"
        with av.open(str(path), "w") as container:
            container.metadata[title] = "Zuerich"
            stream = container.add_stream("mpeg4", rate=10, width=96, height=64, pix_fmt="yuv420p")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(greys([90])[0], format="rgb24")))
            container.mux(stream.encode())
        path.write_bytes(path.read_bytes().replace(b"Zuerich", b"Z\xfcrich "))
        assert levels(read_video(path)) == [90]

    @pytest.mark.parametrize(
        "name",
        [
            "a:b.mp4",
            "http:clip.mp4",
            'it\'s "x".mp4',
            "-y.mp4",
            "f%03d.mp4",
            "日本 é.mp4",
            "[a]{b}*.mp4",
            "clip",
            "clip.xyz",
        ],
    )
    def test_any_name_is_a_name(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        write(tmp_path / "plain.mp4", greys([10, 90])).rename(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert levels(ImageSequence.open([Path(name)]).sample(2, 14, 14)) == [10, 90]
        assert levels(read_video(name)) == [10, 90]

    @pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
    def test_a_name_that_is_not_utf8(self, tmp_path: Path):
        path = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp4"))
        write(tmp_path / "plain.mp4", greys([90])).rename(path)
        assert levels(read_video(path)) == [90]

    @pytest.mark.parametrize(
        ("suffix", "container_format", "codec"),
        [(".mts", "mpegts", "libx264"), (".ts", "mpegts", "mpeg2video"), (".3gp", "3gp", "libx264"),
         (".mpg", "mpeg", "mpeg2video"), (".vob", "vob", "mpeg2video"), (".wmv", "asf", "wmv2"), (".flv", "flv", "flv"),
         (".mxf", "mxf", "mpeg2video"), (".nut", "nut", "mpeg4"), (".y4m", "yuv4mpegpipe", "rawvideo")],
    )  # fmt: skip
    def test_camcorders_and_telephones(self, suffix: str, container_format: str, codec: str, tmp_path: Path):
        path = tmp_path / f"clip{suffix}"
        with av.open(str(path), "w", format=container_format) as container:
            stream = container.add_stream(codec, rate=25, width=96, height=64, pix_fmt="yuv420p")
            for image in greys([0, 40, 80, 120, 160]):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        pictures = ImageSequence.open([path])
        assert pictures.count == 5
        assert levels(pictures.sample(3, 14, 14)) == [0, 80, 160]

    @pytest.mark.parametrize(
        "text", ["ffconcat version 1.0\nfile other.mp4\n", "#EXTM3U\n#EXTINF:1,\nother.mp4\n", "plain words\n" * 50]
    )
    def test_a_list_of_files_is_no_video(self, text: str, tmp_path: Path):
        write(tmp_path / "other.mp4", greys([90]))
        for name in ("list.mp4", "list.m3u8", "list.txt"):
            (tmp_path / name).write_text(text)
            with pytest.raises(InputError, match=r"give the video itself|cannot be read|not an image"):
                ImageSequence.open([tmp_path / name]).sample(1, 14, 14)

    def test_what_is_neither_says_so(self, tmp_path: Path):
        (tmp_path / "notes.docx").write_bytes(b"PK\3\4" + bytes(200))
        with pytest.raises(InputError, match=r"notes\.docx is not an image that can be read"):
            ImageSequence.open([tmp_path / "notes.docx"])

    def test_a_folder_knows_the_usual_suffixes(self):
        assert {".mp4", ".mov", ".mkv", ".mts", ".3gp", ".wmv"} <= set(VIDEO_SUFFIXES)


def test_damaged_videos_are_read_or_refused(tmp_path: Path):
    files = list(videos())
    outcomes, _ = read_damaged(files, 3 * len(files), tmp_path, read_clip, seed=1)
    assert min(outcomes["read"], outcomes["refused"]) > len(files) // 2
