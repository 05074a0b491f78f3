"""Reading videos: the frames that are shown, whole, upright, with square pixels, in sRGB."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.colour import HDR, PRIMARIES, to_srgb
from gen3r.media.crop import Size
from gen3r.media.decoding import PANORAMA, Turn, convert_rows, shrink_factor
from gen3r.media.images import check_file, resize_and_crop

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.filter import Graph
    from av.video.stream import VideoStream

# What a folder's videos are called. A file that is named may have any suffix.
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".3gp", ".3g2", ".mpg", ".mpeg", ".vob",
    ".wmv", ".asf", ".flv", ".ogv", ".mxf", ".dv",
)  # fmt: skip
# Text, lists of other files, and what FFmpeg takes files of zeros for.
_NO_VIDEO = ("tty", "concat", "hls", "dash", "imf", "image2", "lavfi", "ffmetadata", "cdg")
_IMAGE = "_pipe"  # how FFmpeg's names of the formats of single images end
_MOST_STRETCHED = 4  # pixels that are said to be longer than that are taken for square
_PACKED = (1, 2)  # FFmpeg's AVStereo3DType: side by side, one above the other
_TIE = 1e-6  # seconds


@dataclass(frozen=True)
class Timeline:
    """When a video's frames are shown.

    count: the frames, by their packets; none that an edit list hides. start, end: the times of the first and the last
    frame in seconds; their numbers where the stream has no times, or times that jump back.
    """

    count: int
    start: float
    end: float
    timed: bool


def read_video(path: str | Path, frames: int | None = None) -> Tensor:
    """`frames` frames, evenly spaced over a video by time (None: all), float32 [F, 3, H, W] in [0, 1].

    Frames of another size than the first are resized to cover it, and cropped.

    Raises:
        InputError: it is missing, damaged, or holds no frames.
    """
    path = Path(path)
    check_file(path, "video")
    shown = video_frames(path) if frames is None else sample_frames(path, read_timeline(path), frames)
    images = [frame.permute(2, 0, 1).float() / 255 for frame in shown]
    return torch.stack([resize_and_crop(image, *images[0].shape[-2:]) for image in images])


def read_timeline(path: Path) -> Timeline:
    """How many frames a video shows, and when, from its packets; nothing is decoded or kept.

    Raises:
        InputError: it is damaged or holds no frames.
    """
    count, first, last, before, timed = 0, float("inf"), float("-inf"), float("-inf"), True
    with _opened(path) as (container, stream):
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            count += 1
            if packet.pts is None or packet.time_base is None or (packet.dts is not None and packet.dts < before):
                timed = False
                continue
            before = before if packet.dts is None else packet.dts
            time = float(packet.pts * packet.time_base)
            first, last = min(first, time), max(last, time)
    if not count:
        _refuse_empty(path)
    return Timeline(count, first, last, True) if timed else Timeline(count, 0, count - 1, False)


def is_video(path: Path) -> bool:
    """Whether a file's content is a video, and no image that FFmpeg knows."""
    try:
        with _opened(path) as (container, _):
            return not container.format.name.endswith(_IMAGE)
    except InputError:
        return False


def read_size(path: Path) -> Size:
    """Height and width of a video before it is turned, without decoding it.

    Raises:
        InputError: it is missing or damaged.
    """
    with _opened(path) as (_, stream):
        return stream.codec_context.height, stream.codec_context.width


def sample_frames(path: Path, timeline: Timeline, wanted: int) -> Iterator[Tensor]:
    """`wanted` frames uint8 [H, W, 3]: those shown next to times that are evenly spaced, both ends included.

    Frames repeat where a video has too few, or shows one for long.
    """
    times = list(np.linspace(timeline.start, timeline.end, wanted))[::-1]
    pixels, time = None, -float("inf")
    with _opened(path) as (container, stream):
        for number, frame in enumerate(_shown(path, container, stream)):
            before, kept = time, pixels
            time = (before if frame.pts is None else frame.time) if timeline.timed else float(number)
            if timeline.timed and time < timeline.start - _TIE:
                continue
            pixels = _Lazy(frame, stream)
            while times and kept is not None and times[-1] <= (before + time) / 2 + _TIE:
                times.pop()
                yield kept()
            while times and times[-1] <= time + _TIE:
                times.pop()
                yield pixels()
            if not times:
                return
    if pixels is None:
        _refuse_empty(path)
    for _ in times:
        yield pixels()


def video_frames(path: Path) -> Iterator[Tensor]:
    """All frames that a video shows, one at a time: uint8 [H, W, 3].

    Raises:
        InputError: it is missing, damaged, or holds no frames.
    """
    check_file(path, "video")
    frame = None
    with _opened(path) as (container, stream):
        for frame in _shown(path, container, stream):
            yield _frame_pixels(frame, stream)
    if frame is None:
        _refuse_empty(path)


def _refuse_empty(path: Path) -> NoReturn:
    raise InputError(f"{path} holds no images; give another video")


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """A video and its best stream, with whatever goes wrong turned into one line.

    FFmpeg gets an open file, not its name, in which it would look for protocols and patterns.
    """
    import av
    from av.stream import Disposition
    from av.video.stream import VideoStream

    try:
        with path.open("rb") as file, av.open(_Nameless(file), "r", metadata_errors="ignore") as container:
            if container.format.name in _NO_VIDEO:
                raise InputError(f"{path} is a list or a text, not a video; give the video itself")
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
                raise InputError(f"{path} has no video frames; give a video")
            stream.thread_type = "AUTO"
            yield container, stream
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path} may not be read; change its permissions") from error
    except Exception as error:  # FFmpeg's, and those of its Python side about odd headers
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200] or type(error).__name__
        raise InputError(f"{path} cannot be read as a video ({reason}); convert it to MP4") from error


class _Nameless:
    """What FFmpeg needs of an open file, without the name, by whose suffix it would guess."""

    name = "video"

    def __init__(self, file: BufferedReader) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """-1 where a damaged header points outside."""
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _shown(path: Path, container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
    """The frames in the order in which they are shown; packets that are damaged are left out, as players do."""
    return _deinterlaced(_decoded(path, container, stream))


def _decoded(path: Path, container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
    import av

    damaged, decoded, last_error = 0, 0, None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            damaged, last_error = damaged + 1, error
            continue
        for frame in frames:
            if not decoded:
                _warn_of_kind(frame, path.name)
            decoded += 1
            yield frame
    if last_error is not None and not decoded:
        raise last_error
    if damaged:
        warnings.warn(f"{path.name} is damaged; {damaged} of its packets are left out", stacklevel=2)


def _warn_of_kind(frame: "VideoFrame", name: str) -> None:
    """Says what is lost of a video's kind, or is not taken for what it is."""
    if frame.color_trc in HDR:
        warnings.warn(f"{name} is HDR ({HDR[frame.color_trc]}); its colours become SDR", stacklevel=3)
    if frame.side_data.get("SPHERICAL") is not None:
        warnings.warn(PANORAMA.format(name), stacklevel=3)
    stereo = frame.side_data.get("STEREO3D")
    if stereo is not None and int.from_bytes(bytes(stereo)[:4], "little") in _PACKED:
        warnings.warn(f"{name} shows two views in one picture, for 3-D glasses; cut one of them out", stacklevel=3)


def _deinterlaced(frames: "Iterable[VideoFrame]") -> "Iterator[VideoFrame]":
    """The same frames, of which those that hold two fields, filmed one after another, become the picture of the first.

    The filter sees the frames before and after, and leaves alone what is not interlaced.
    """
    graph, graph_kind = None, None
    for frame in frames:
        kind = frame.format.name, frame.width, frame.height
        if graph is not None and kind != graph_kind:
            yield from _filtered(graph, None)
            graph = None
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if graph is None:
            graph, graph_kind = _deinterlacer(frame), kind
        yield from _filtered(graph, frame)
    if graph is not None:
        yield from _filtered(graph, None)


def _deinterlacer(frame: "VideoFrame") -> "Graph":
    """FFmpeg's filter for frames like this one."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _filtered(graph: "Graph", frame: "VideoFrame | None") -> "Iterator[VideoFrame]":
    """The frames that a filter gives for one more frame; None: for the end."""
    graph.vpush(frame)
    with suppress(BlockingIOError, EOFError):  # it waits for more, or has given all
        while True:
            yield graph.vpull()


class _Lazy:
    """The pixels of a frame, made when they are first asked for."""

    def __init__(self, frame: "VideoFrame", stream: "VideoStream") -> None:
        self.frame, self.stream, self.pixels = frame, stream, None

    def __call__(self) -> Tensor:
        if self.pixels is None:
            self.pixels = _frame_pixels(self.frame, self.stream)
        return self.pixels


def _frame_pixels(frame: "VideoFrame", stream: "VideoStream") -> Tensor:
    """A decoded frame as it is shown, uint8 [H, W, 3]. Colours without tags are taken as FFmpeg takes them (BT.601)."""
    height, width = _square_pixels(frame.height, frame.width, stream)
    hdr, clear = frame.color_trc in HDR, any(c.is_alpha for c in frame.format.components)
    kind = "rgb48le" if hdr else "rgba" if clear else "rgb24"
    pixels = frame.reformat(width, height, kind, interpolation="BICUBIC").to_ndarray()
    if clear and not hdr:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        pixels = (pixels[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
    if hdr or frame.color_primaries in PRIMARIES:
        codes = frame.color_primaries, frame.color_trc
        pixels = (255 * convert_rows(pixels, lambda x: to_srgb(x, *codes)) + 0.5).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(_frame_turn(frame).apply(pixels)))


def _square_pixels(height: int, width: int, stream: "VideoStream") -> tuple[int, int]:
    """The size at which a frame's pixels are square: none are lost, but where they are more than anyone needs."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / _MOST_STRETCHED <= aspect <= _MOST_STRETCHED:
        aspect = 1.0
    factor = shrink_factor(height, width)
    return max(1, round(height / min(aspect, 1) / factor)), max(1, round(width * max(aspect, 1) / factor))


def _frame_turn(frame: "VideoFrame") -> Turn:
    """How the recording says that its frames are to be turned and mirrored."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Turn(False, False, False)
    # A pixel (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)
