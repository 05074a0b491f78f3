"""RealEstate10K and ACID: camera files for videos, whose frames users extract themselves."""

from collections.abc import Iterator
from pathlib import Path

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.formats import read_posed_images
from gen3r.data.readers.base import Reader, files_in
from gen3r.data.readers.frames import PictureFiles, VideoFrames, frames_of
from gen3r.data.readers.pictures import locate
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.media.crop import Size
from gen3r.media.sequence import ImageSequence
from gen3r.media.video import VIDEO_SUFFIXES


class RealEstate10K(Reader):
    """RealEstate10K (Zhou et al., 2018).

    Tree: <split>/<clip>.txt, and beside it either <split>/<clip>/<timestamp>.png (or .jpg) or <split>/<clip>.mp4 with
    one frame per line. A line: time [us], fx fy cx cy as fractions of width and height, 0 0, world-to-camera 3 x 4 row
    by row, OpenCV axes; the first line is the video's URL. Unit: arbitrary, another one in each clip. Depth: none.

    Licence: cameras CC BY 4.0 (Google); the frames are their uploaders'.
    """

    name = "re10k"
    licence = "cameras CC BY 4.0 (Google); the frames are their uploaders'"
    layout = "<split>/<clip>.txt with a folder of frames or a video of the same name beside it"

    def find_scenes(self) -> Iterator[str]:
        """Camera files that have frames."""
        for path in self.root.glob("*/*.txt"):
            if path.with_suffix("").is_dir() or self._video(path):
                yield f"{path.parent.name}/{path.stem}"

    def read_scene(self, scene: str) -> ClipRecord:
        path = self.root / f"{scene}.txt"
        images, folder = read_posed_images(path), path.with_suffix("")
        if folder.is_dir():
            by_time = {p.stem: p for p in files_in(folder) if p.stem.isdecimal()}
            images, files, _, left_out = locate(images, [by_time.get(t) for t in images.names], folder, self.strict)
            frames = PictureFiles(files)
        else:
            frames, size = self._film(path, len(images))
            images, left_out = images.at(size), 0
        cameras = make_cameras(images.T_world_camera, images.intrinsics, images.size)
        return ClipRecord(self.name, scene, cameras, frames, left_out=left_out)

    @staticmethod
    def _video(path: Path) -> Path | None:
        return next((v for s in VIDEO_SUFFIXES if (v := path.with_suffix(s)).is_file()), None)

    def _film(self, path: Path, cameras: int) -> tuple[PictureFiles | VideoFrames, Size]:
        video = self._video(path)
        if video is None:
            raise InputError(f"{path.with_suffix('')} has neither frames nor a video; cut them from the video")
        pictures = ImageSequence.open([video])
        if pictures.count != cameras:
            raise InputError(f"{video} has {pictures.count} frames, {path} has {cameras} cameras; cut it again")
        return frames_of(pictures)


class ACID(RealEstate10K):
    """Aerial Coastline Imagery Dataset (Liu et al., 2021): the same files as RealEstate10K, filmed by drones.

    Licence: cameras as published by Google Research; the frames are their uploaders'.
    """

    name = "acid"
    licence = "cameras as published by Google Research; the frames are their uploaders'"
