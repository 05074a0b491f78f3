"""Problems of a dataset: unreadable files, impossible cameras, depth that disagrees, duplicates."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from gen3r.cameras.camera import Cameras
from gen3r.data.check.agreement import Agreement, measure_agreement
from gen3r.data.readers.base import Reader
from gen3r.data.records import ClipRecord
from gen3r.data.workers import in_parallel
from gen3r.errors import InputError
from gen3r.geometry.points import project
from gen3r.media.images import evenly_spaced

# A step is a jump where it is so many times the sequence's median, and turns or moves by more than this.
JUMP, JUMP_DEGREES, JUMP_EXTENT = 8.0, 10.0, 0.05
FOV = (5.0, 150.0)  # degrees that lenses have
SQUARE = 1.5  # most that fx and fy differ by
OFF_CENTRE = 0.25  # of the image's size: how far the principal point may lie from its middle
LEAST_DEPTH = 0.01  # of the pixels
POINTS, LEAST_SEEN = 5000, 0.5  # how many points to look at, and the share that should be in some image


Value = TypeVar("Value")


@dataclass
class SceneReport:
    """problems: one line each, none where all is well. The other fields describe the scene; None where unknown."""

    scene: str
    frames: int = 0
    height: int = 0
    width: int = 0
    fov_y_deg: float | None = None
    path_length: float | None = None
    metric: bool = False
    depth_known: float | None = None
    points: int | None = None
    points_seen: float | None = None
    agreement: Agreement = field(default_factory=Agreement)
    problems: list[str] = field(default_factory=list)
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {k: v for k, v in asdict(self).items() if k != "digest"}


def inspect_dataset(
    reader: Reader, scenes: Sequence[str], workers: int = 1, frames: int | None = None, tolerance_px: float = 2.0
) -> Iterator[SceneReport]:
    """The report of each of the scenes, in order; a scene equal to an earlier one is called its duplicate.

    frames: at most so many of a scene are opened, evenly spread (None: all).
    """
    seen: dict[str, str] = {}
    jobs = [(reader, scene, frames, tolerance_px) for scene in scenes]
    for report in in_parallel(_inspect, jobs, workers):
        yield _with_duplicates(report, seen)


def _with_duplicates(report: SceneReport, seen: dict[str, str]) -> SceneReport:
    if report.digest:
        first = seen.setdefault(report.digest, report.scene)
        if first != report.scene:
            report.problems.append(f"the same images as {first}")
    return report


def _inspect(job: tuple[Reader, str, int | None, float]) -> SceneReport:
    reader, scene, frames, tolerance_px = job
    try:
        record = reader.read(scene)
    except InputError as error:
        return SceneReport(scene, problems=[str(error)])
    return inspect_record(record, frames, tolerance_px)


def inspect_record(record: ClipRecord, frames: int | None = None, tolerance_px: float = 2.0) -> SceneReport:
    """The report of one sequence on its own."""
    cameras = record.cameras
    steps = (cameras.centres[1:] - cameras.centres[:-1]).norm(dim=-1)
    report = SceneReport(
        record.scene, len(record), cameras.height, cameras.width, math.degrees(cameras.fov_y.median()),
        float(steps.sum()), record.metric,
    )  # fmt: skip
    report.problems += [*camera_problems(cameras)]
    if record.left_out:
        report.problems.append(f"{record.left_out} images of the camera file are missing or named twice")
    wanted = range(len(record)) if frames is None else evenly_spaced(len(record), min(frames, len(record)))
    thumbnails = _read_frames(record, wanted, report)
    _read_depths(record, wanted, report)
    readable = sorted(thumbnails)
    _read_points(record, report)
    report.problems += _frozen(thumbnails, cameras)
    if thumbnails:
        report.digest = hashlib.sha256(
            b"".join(thumbnails[i] for i in readable[:: max(1, len(readable) // 4)])
        ).hexdigest()
    with suppress(InputError):  # a depth map that is already reported
        report.agreement = measure_agreement(record, readable)
    report.problems += _disagreement(report.agreement, tolerance_px)
    return report


def camera_problems(cameras: Cameras) -> Iterator[str]:
    """Impossible lenses, and poses that jump."""
    K, size = cameras.K_px.double(), torch.tensor([cameras.width, cameras.height]).double()
    focal = K[:, [0, 1], [0, 1]]
    fov = torch.rad2deg(2 * torch.atan(size / 2 / focal))
    for bad, what in (
        ((fov < FOV[0]) | (fov > FOV[1]), f"a field of view outside {FOV[0]:g} to {FOV[1]:g} degrees"),
        ((focal[:, :1] / focal[:, 1:]).log().abs() > math.log(SQUARE), "pixels far from square"),
        ((K[:, :2, 2] / size - 0.5).abs() > OFF_CENTRE, "a principal point far from the middle"),
    ):
        if bad.any():
            yield f"intrinsics of {int(bad.any(1).sum())} of {len(K)} cameras: {what}"
    if len(cameras) < 3:
        return
    T = cameras.T_world_camera.double()
    moved = (T[1:, :3, 3] - T[:-1, :3, 3]).norm(dim=-1)
    cosine = ((T[:-1, :3, :3].mT @ T[1:, :3, :3]).diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    turned = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    extent = (T[:, :3, 3] - T[:, :3, 3].mean(0)).norm(dim=-1).max()
    jumps = (moved > JUMP * moved.median()) & (moved > JUMP_EXTENT * extent) & (moved > 1e-9)
    jumps |= (turned > JUMP * turned.median()) & (turned > JUMP_DEGREES)
    if jumps.any():
        first = int(jumps.nonzero()[0])
        yield (f"poses jump {int(jumps.sum())} times, first from frame {first} to {first + 1} "
               f"(by {moved[first]:.3g} units of the poses, and {turned[first]:.3g} degrees)")  # fmt: skip


def _read_frames(record: ClipRecord, wanted: Sequence[int], report: SceneReport) -> dict[int, bytes]:
    """Thumbnails of the frames that can be read; the others are reported."""

    def thumbnail(number: int) -> bytes:
        frame = record.read_frame(number)
        if frame.shape[:2] != (report.height, report.width):
            raise InputError(
                f"frame {number} is {frame.shape[1]} x {frame.shape[0]}, its camera's {report.width} x {report.height}"
            )
        return Image.fromarray(frame.numpy()).reduce(max(1, min(frame.shape[:2]) // 16)).tobytes()

    return _read_all(thumbnail, wanted, report, "frames cannot be used")


def _read_depths(record: ClipRecord, wanted: Sequence[int], report: SceneReport) -> None:
    read_depth = record.read_depth
    if read_depth is None:
        return
    shares = _read_all(lambda i: float((read_depth(i) > 0).float().mean()), wanted, report, "depth maps cannot be read")
    if shares:
        report.depth_known = float(np.median([*shares.values()]))
        empty = sum(share < LEAST_DEPTH for share in shares.values())
        if empty:
            report.problems.append(f"{empty} of {len(wanted)} depth maps are all but empty")


def _read_all(read: Callable[[int], Value], wanted: Sequence[int], report: SceneReport, what: str) -> dict[int, Value]:
    """The values that can be read; how many cannot is reported, with the first error."""
    found, failures = {}, []
    for number in wanted:
        try:
            found[number] = read(number)
        except InputError as error:
            failures.append(str(error))
    if failures:
        report.problems.append(f"{len(failures)} of {len(wanted)} {what}: {failures[0]}")
    return found


def _read_points(record: ClipRecord, report: SceneReport) -> None:
    """The count of points, and the share of a sample of them that some camera sees inside its image."""
    if record.read_points is None:
        return
    try:
        points = record.read_points().points
    except InputError as error:
        report.problems.append(str(error))
        return
    report.points, cameras = len(points), record.cameras
    some = points[:: max(1, len(points) // POINTS)]
    pixel, z = project(some, cameras.T_world_camera, cameras.K_px)
    inside = (z > 0) & (pixel >= 0).all(-1) & (pixel < torch.tensor([cameras.width, cameras.height])).all(-1)
    report.points_seen = float(inside.any(0).float().mean()) if len(some) else 0.0
    if report.points_seen < LEAST_SEEN:
        report.problems.append(f"only {report.points_seen:.0%} of the points lie inside any image")


def _frozen(thumbnails: dict[int, bytes], cameras: Cameras) -> list[str]:
    """Images that come more than once; worse where the camera moves meanwhile."""
    order, T = sorted(thumbnails), cameras.T_world_camera
    equal = [(i, j) for i, j in zip(order, order[1:], strict=False) if thumbnails[i] == thumbnails[j]]
    moving = [i for i, j in equal if not torch.equal(T[i], T[j])]
    if moving:
        return [f"{len(moving)} frames are equal to the next although the camera moves, first frame {moving[0]}"]
    repeated = len(order) - len(set(thumbnails.values()))
    return [f"{repeated} frames are copies of others"] if repeated else []


def _disagreement(agreement: Agreement, tolerance_px: float) -> list[str]:
    off, line = agreement.reprojection_px, agreement.epipolar_px
    if off is not None and off > tolerance_px:
        return [f"depth and cameras disagree with the images: {off:.1f} px (median)"]
    if line is not None and line > tolerance_px and off is None:
        return [f"cameras disagree with the images: {line:.1f} px from the epipolar lines (median)"]
    return []


def table(reports: Sequence[SceneReport]) -> str:
    """The reports as text: a line a scene, its problems under it."""
    header = (
        f"{'scene':<40} {'frames':>6} {'size':>11} {'fov':>5} {'depth':>6} {'points':>6} {'reproj':>7} "
        f"{'epipol':>7}  problems"
    )
    return "\n".join([header, *(_row(report) for report in reports)])


def _row(report: SceneReport) -> str:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    size = f"{report.width} x {report.height}" if report.width else "-"
    cells = (
        f"{report.scene[-40:]:<40} {report.frames:>6} {size:>11} {number(report.fov_y_deg, '.0f'):>5} "
        f"{number(report.depth_known, '.0%'):>6} {number(report.points_seen, '.0%'):>6} "
        f"{number(report.agreement.reprojection_px, '.2f'):>7} {number(report.agreement.epipolar_px, '.2f'):>7}  "
        f"{len(report.problems) or 'none'}"
    )
    return "\n".join([cells, *(f"    {problem}" for problem in report.problems)])
