"""Plain videos and photos, with cameras in a file or from a model; RealEstate10K as videos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import write_cameras
from gen3r.data.readers import open_dataset
from gen3r.data.readers.frames import VideoFrames
from gen3r.data.readers.videos import UserVideos
from gen3r.errors import InputError
from gen3r.export.video import write_video
from gen3r.geometry.points import unproject
from gen3r.media.sequence import ImageSequence
from gen3r.scene import Scene
from tests.data.layouts import Truth, Truths, write_realestate
from tests.data.test_readers import frame_error, gap


def cameras_of(truth: Truth) -> Cameras:
    K = torch.from_numpy(truth.K).float().expand(len(truth.T), 3, 3)
    return Cameras(torch.from_numpy(truth.T), K, *truth.size)


def film(path: Path, truth: Truth) -> None:
    write_video(torch.from_numpy(truth.frames.copy()), path)


def test_videos_and_photos_with_cameras(truths: Truths, tmp_path: Path) -> None:
    truth = truths("re10k")
    film(tmp_path / "walk.mp4", truth)
    write_cameras(cameras_of(truth), tmp_path / "walk.json")
    (tmp_path / "photos").mkdir()
    for i, frame in enumerate(truth.frames):
        Image.fromarray(frame).save(tmp_path / "photos" / f"{i}.png")
    write_cameras(cameras_of(truth), tmp_path / "photos" / "cameras.json")
    reader = open_dataset("videos", tmp_path)
    assert reader.scenes == ["photos", "walk.mp4"]
    for record in reader:
        assert gap(record, truth) < 0.5
        assert frame_error(record, truth) < 6
    write_cameras(cameras_of(truth)[:3], tmp_path / "walk.json")
    with pytest.raises(InputError, match="3 cameras for 5 images"):
        reader[1]


def test_cameras_that_a_model_gives(truths: Truths, tmp_path: Path) -> None:
    truth = truths("re10k")
    film(tmp_path / "walk.mp4", truth)
    reader = open_dataset("videos", tmp_path)
    assert reader.lacks_cameras("walk.mp4")
    with pytest.raises(InputError, match="has no cameras"):
        reader[0]

    def estimate(pictures: ImageSequence) -> Scene:
        frames = (pictures.sample(5, *truth.size) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        depth, cameras = torch.from_numpy(truth.depth.copy()), cameras_of(truth)
        points = unproject(depth, cameras.T_world_camera, cameras.K_px)
        return Scene(frames, depth, torch.ones_like(depth), points, depth > 0, cameras)

    record = UserVideos(tmp_path).with_estimator(estimate)[0]
    assert gap(record, truth) < 0.5
    assert frame_error(record, truth) < 6


def test_realestate_as_videos(truths: Truths, tmp_path: Path) -> None:
    truth = truths("re10k")
    write_realestate(tmp_path, truth)
    folder = next(p for p in (tmp_path / "train").iterdir() if p.is_dir())
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    film(folder.with_suffix(".mp4"), truth)
    record = open_dataset("re10k", tmp_path)[0]
    assert gap(record, truth) < 0.5
    assert frame_error(record, truth) < 6
    film(folder.with_suffix(".mp4"), Truth(truth.frames[:3], truth.depth, truth.T, truth.intrinsics, ""))
    with pytest.raises(InputError, match="3 frames"):
        open_dataset("re10k", tmp_path)[0]


def test_videos_are_read_in_any_order(truths: Truths, tmp_path: Path) -> None:
    film(tmp_path / "walk.mp4", truths("re10k"))
    read = VideoFrames(tmp_path / "walk.mp4")
    forward = [read(i) for i in range(5)]
    for i in (3, 3, 0, 4, 1):
        np.testing.assert_array_equal(read(i), forward[i])
    with pytest.raises(InputError, match="ends before frame 5"):
        read(5)
