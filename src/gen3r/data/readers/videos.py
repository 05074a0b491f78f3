"""User videos and folders of photos, with cameras in a file or estimated by a model."""

from collections.abc import Iterator
from pathlib import Path

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.formats import read_posed_images
from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import frames_of, straightened
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.media.images import IMAGE_SUFFIXES, has_junk, is_junk
from gen3r.media.sequence import ImageSequence
from gen3r.media.video import VIDEO_SUFFIXES


class UserVideos(Reader):
    """Plain videos and folders of photos.

    Tree: <scene>.mp4, or <scene>/*.jpg, at any depth; the folder itself may be one of photos. Cameras: <scene>.json
    beside a video, cameras.json in a folder of photos, in any format of `read_cameras`, one per image in the order
    of the images; lenses are undone, and a crop that Gen3R made (its own file, the published one's) is undone in the
    intrinsics. Without such a file, the estimator predicts frames, cameras and depth of some of the images, in
    its own unit. Depth: the predicted one; none with a file of cameras.

    Licence: that of the images.
    """

    name = "videos"
    licence = "that of the images"
    layout = "<scene>.mp4 or a folder of photos"

    def find_scenes(self) -> Iterator[str]:
        """Videos, and folders that hold photos."""
        for path in [self.root, *self.root.rglob("*")]:
            if has_junk(path.relative_to(self.root)):
                continue
            if path.is_dir():
                if any(p.suffix.lower() in IMAGE_SUFFIXES and not is_junk(p) for p in path.iterdir()):
                    yield path.relative_to(self.root).as_posix()
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                yield path.relative_to(self.root).as_posix()

    def lacks_cameras(self, scene: str) -> bool:
        return not self._cameras_file(scene).is_file()

    def read_scene(self, scene: str) -> ClipRecord:
        path, cameras_file = self.root / scene, self._cameras_file(scene)
        pictures = ImageSequence.open([path])
        if not self.lacks_cameras(scene):
            return self._with_cameras(scene, pictures, cameras_file)
        if self.estimator is None:
            raise InputError(f"{path} has no cameras; put them into {cameras_file.name}, or give a model for them")
        predicted = self.estimator(pictures)
        depth = predicted.depth * predicted.mask
        return ClipRecord(self.name, scene, predicted.cameras, predicted.frames.__getitem__, depth.__getitem__)

    def _cameras_file(self, scene: str) -> Path:
        path = self.root / scene
        return path / "cameras.json" if path.is_dir() else path.with_suffix(".json")

    def _with_cameras(self, scene: str, pictures: ImageSequence, cameras_file: Path) -> ClipRecord:
        frames, size = frames_of(pictures)
        images = read_posed_images(cameras_file, size)
        if len(images) != pictures.count:
            raise InputError(f"{cameras_file} has {len(images)} cameras for {pictures.count} images; give one each")
        try:
            images = images.at(size)
        except InputError as error:
            raise InputError(f"{cameras_file}: {error}") from error
        cameras = make_cameras(images.T_world_camera, images.intrinsics, size)
        return ClipRecord(self.name, scene, cameras, straightened(frames, images.lens_of_each))
