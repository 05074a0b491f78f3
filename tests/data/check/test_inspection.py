"""The check of a dataset: silent where all is well, and naming each thing that is not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.check.agreement import measure_agreement
from gen3r.data.check.inspection import camera_problems, inspect_dataset, inspect_record, table
from gen3r.data.readers import open_dataset
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.geometry.clouds import PointCloud
from gen3r.geometry.points import unproject
from tests.data.layouts import Truths, write_standard
from tests.data.test_clips import in_memory


@pytest.fixture(scope="module")
def record(truths: Truths) -> ClipRecord:
    truth = truths("tartanair")
    fx, fy, cx, cy = truth.intrinsics
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]).expand(len(truth.T), 3, 3)
    cameras = Cameras(torch.from_numpy(truth.T), K, *truth.size)
    return in_memory(torch.from_numpy(truth.frames.copy()), torch.from_numpy(truth.depth.copy()), cameras, metric=True)


def test_nothing_is_wrong_with_the_truth(record: ClipRecord) -> None:
    report = inspect_record(record, tolerance_px=0.75)
    assert report.problems == []
    assert report.agreement.pairs >= 2
    assert (report.agreement.reprojection_px or 9) < 0.5
    assert (report.agreement.epipolar_px or 9) < 0.25
    assert (report.agreement.depth_off or 9) < 0.01
    assert report.depth_known == pytest.approx(0.83, abs=0.05)
    assert "none" in table([report])


def with_poses(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[ClipRecord], ClipRecord]:
    return lambda r: replace(r, cameras=replace(r.cameras, T_world_camera=change(r.cameras.T_world_camera.clone())))


def with_lens(factor: list[list[float]]) -> Callable[[ClipRecord], ClipRecord]:
    return lambda r: replace(r, cameras=replace(r.cameras, K_px=r.cameras.K_px * torch.tensor(factor)))


def with_depth(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[ClipRecord], ClipRecord]:
    return lambda r: replace(r, read_depth=lambda i: change(r.read_depth(i)))  # type: ignore[misc]


def longer(r: ClipRecord) -> ClipRecord:
    """Twice the frames, there and back, without depth."""
    order = [0, 1, 2, 3, 4, 3, 2, 1, 0]
    cameras = replace(r.cameras, T_world_camera=r.cameras.T_world_camera[order], K_px=r.cameras.K_px[order])
    return ClipRecord(r.dataset, r.scene, cameras, lambda i: r.read_frame(order[i]))


def with_points(T: torch.Tensor) -> Callable[[ClipRecord], ClipRecord]:
    """Points that the first frame sees, moved."""

    def change(r: ClipRecord) -> ClipRecord:
        seen = unproject(r.read_depth(0), r.cameras.T_world_camera[0], r.cameras.K_px[0])  # type: ignore[misc]
        return replace(r, read_points=lambda: PointCloud(seen[r.read_depth(0) > 0]).moved(T))  # type: ignore[misc]

    return change


def fail(number: int) -> torch.Tensor:
    raise InputError(f"file {number} is damaged")


FLIP = torch.diag(torch.tensor([1.0, -1, -1, 1]))
WRONG: dict[str, tuple[Callable[[ClipRecord], ClipRecord], str]] = {
    "axes": (with_poses(lambda T: T @ FLIP), "depth and cameras disagree"),
    "direction": (with_poses(torch.linalg.inv), "depth and cameras disagree"),
    "unit": (with_depth(lambda d: d / 10), "depth and cameras disagree"),
    "focal length": (with_lens([[1.25, 1, 1], [1, 1.25, 1], [1, 1, 1]]), "depth and cameras disagree"),
    "axes without depth": (
        lambda r: replace(with_poses(lambda T: T @ FLIP)(r), read_depth=None), "from the epipolar lines"),
    "long lens": (with_lens([[40, 1, 1], [1, 40, 1], [1, 1, 1]]), "5 of 5 cameras: a field of view outside"),
    "pixels": (with_lens([[2, 1, 1], [1, 1, 1], [1, 1, 1]]), "pixels far from square"),
    "middle": (with_lens([[1, 1, 1.9], [1, 1, 1], [1, 1, 1]]), "principal point far from the middle"),
    "no depth": (with_depth(lambda d: 0 * d), "5 of 5 depth maps are all but empty"),
    "broken depth": (lambda r: replace(r, read_depth=fail), "5 of 5 depth maps cannot be read: file 0"),
    "points": (with_points(FLIP), "of the points lie inside any image"),
    "broken points": (lambda r: replace(r, read_points=lambda: fail(7)), "file 7 is damaged"),
    "broken frames": (
        lambda r: replace(r, read_frame=lambda i: fail(i) if i in (1, 3) else r.read_frame(i)), "2 of 5 frames cannot"),
    "size": (lambda r: replace(r, read_frame=lambda i: r.read_frame(i)[:-8]), "cannot be used: frame 0 is"),
    "frozen": (lambda r: replace(r, read_frame=lambda i: r.read_frame(0 * i)), "4 frames are equal to the next"),
    "copies": (longer, "4 frames are copies"),
}  # fmt: skip


def test_points_inside_the_pictures_are_no_problem(record: ClipRecord) -> None:
    report = inspect_record(with_points(torch.eye(4))(record), tolerance_px=0.75)
    assert report.problems == []
    assert (report.points or 0) > 10_000
    assert report.points_seen == 1


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str, record: ClipRecord) -> None:
    change, message = WRONG[name]
    problems = inspect_record(change(record), tolerance_px=0.75).problems
    assert any(message in problem for problem in problems), problems


def path(step: torch.Tensor) -> Cameras:
    T = torch.eye(4).repeat(20, 1, 1)
    T[:, :3, 3] = step.cumsum(0)
    return Cameras.from_fov(T, 1.0, 56, 56)


def test_jumps() -> None:
    steps = torch.full((20, 3), 0.1) + 0.05 * torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    assert list(camera_problems(path(steps))) == []
    steps[7] += 4
    assert "jump 1 times, first from frame 6 to 7" in next(camera_problems(path(steps)))
    turned = path(steps[:1].expand(20, 3))
    T = turned.T_world_camera.clone()
    T[10:, :3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    assert "90 degrees" in next(camera_problems(replace(turned, T_world_camera=T)))
    assert list(camera_problems(path(torch.zeros(20, 3)))) == []  # standing still is none


def test_few_frames_have_no_agreement(record: ClipRecord) -> None:
    assert measure_agreement(record, [2]).pairs == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_duplicates_and_unreadable_scenes(workers: int, truths: Truths, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_standard(tmp_path / name, truths("standard"))
    (tmp_path / "c" / "plaza" / "transforms.json").write_text("{")
    reader = open_dataset("standard", tmp_path)
    a, b, c = inspect_dataset(reader, reader.scenes, workers)
    assert b.problems[-1] == "the same images as a/plaza"
    assert not any("same" in problem for problem in a.problems)
    assert "not whole JSON" in c.problems[0]
    assert c.frames == 0
    assert "not whole JSON" in table([a, b, c])
