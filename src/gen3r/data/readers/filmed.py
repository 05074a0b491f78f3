"""Videos and folders of photos that people have, with cameras in a file or estimated."""

from collections.abc import Callable, Iterator
from pathlib import Path

from gen3r.cameras.files import read_cameras
from gen3r.data.readers.base import PictureFiles, Reader, VideoFrames, picture_size
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.media.images import IMAGE_SUFFIXES
from gen3r.media.sequence import ImageSequence
from gen3r.media.video import VIDEO_SUFFIXES
from gen3r.scene import Scene

Estimate = Callable[[ImageSequence], Scene]


class Filmed(Reader):
    """Plain videos and folders of photos.

    Tree: <scene>.mp4, or <scene>/*.jpg, at any depth; the folder itself may be one of photos. Cameras: beside a video
    <scene>.json, in a folder of photos cameras.json, in any form that `read_cameras` knows, one a picture in the order
    of the pictures. Without such a file `estimate` gives a scene of some of the pictures: what VGGT sees in them, with
    its depth and in its unit. Depth: that scene's; none with a file of cameras.

    Licence: that of the pictures.
    """

    name = "filmed"
    licence = "that of the pictures"
    layout = "<scene>.mp4 or a folder of photos"

    def __init__(self, root: str | Path, strict: bool = False, estimate: Estimate | None = None) -> None:
        super().__init__(root, strict)
        self.estimate = estimate

    def find_scenes(self) -> Iterator[str]:
        """Videos, and folders that hold photos."""
        for path in [self.root, *self.root.rglob("*")]:
            if path.is_dir():
                if any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir()):
                    yield path.relative_to(self.root).as_posix()
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                yield path.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        path, cameras_file = self.root / scene, self.cameras_file(scene)
        pictures = ImageSequence.open([path])
        if cameras_file.is_file():
            return self._with_cameras(scene, pictures, cameras_file)
        if self.estimate is None:
            raise InputError(f"{path} has no cameras; put them into {cameras_file.name}, or give a model for them")
        seen = self.estimate(pictures)
        depth = seen.depth * seen.mask
        return ClipRecord(self.name, scene, seen.cameras, seen.frames.__getitem__, depth.__getitem__)

    def cameras_file(self, scene: str) -> Path:
        """Where the cameras of a scene are, if it has any."""
        path = self.root / scene
        return path / "cameras.json" if path.is_dir() else path.with_suffix(".json")

    def _with_cameras(self, scene: str, pictures: ImageSequence, cameras_file: Path) -> ClipRecord:
        cameras = read_cameras(cameras_file)
        if len(cameras) != pictures.count:
            raise InputError(f"{cameras_file} has {len(cameras)} cameras for {pictures.count} pictures; give one each")
        if pictures.video:
            frames = VideoFrames(pictures.files[0])
            height, width = frames(0).shape[:2]
        else:
            frames = PictureFiles(pictures.files)
            height, width = picture_size(pictures.files[0])
        if (height, width) != (cameras.height, cameras.width):
            cameras = cameras.resize_and_crop(height, width)
        return ClipRecord(self.name, scene, cameras.relative_to_first(), frames)
