"""MVImgNet, and any folder that COLMAP has solved."""

from collections.abc import Iterator
from pathlib import Path

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.formats.colmap import colmap_points_file, read_colmap, read_colmap_points
from gen3r.data.readers.base import Reader, folders_with
from gen3r.data.readers.frames import PictureFiles, PointFile, straightened
from gen3r.data.readers.pictures import SHRUNK, find_pictures, locate
from gen3r.data.records import ClipRecord
from gen3r.geometry.clouds import PointCloud


class COLMAP(Reader):
    """Images with a COLMAP model, binary or text.

    Tree: <scene>/images/*.jpg and <scene>/sparse/0/{cameras,images}.bin. Poses: world-to-camera quaternion (w first)
    and translation, OpenCV axes. Intrinsics in pixels; every lens is undone, a panorama is refused. Images may be
    shrunk, and lie in images_2, images_4 or images_8. Unit: COLMAP's. Frames in the natural order of their names;
    images that COLMAP could not place are left out. Depth: none. Points: points3D beside the cameras, with their
    colours.

    Licence: that of the images.
    """

    name = "colmap"
    licence = "that of the images"
    layout = "<scene>/sparse/0/images.bin and <scene>/images"

    def find_scenes(self) -> Iterator[str]:
        """Folders with sparse/ and images."""
        for folder in folders_with(self.root, "sparse"):
            if any((folder / name).is_dir() for name in SHRUNK):
                yield folder.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        folder = self.root / scene
        images = read_colmap(folder)
        paths = find_pictures([folder / name for name in SHRUNK], images.names)
        images, files, _, left_out = locate(images, paths, folder, self.strict)
        T, points = images.T_world_camera, colmap_points_file(folder)
        return ClipRecord(
            self.name, scene, make_cameras(T, images.intrinsics, images.size),
            straightened(PictureFiles(files, images.size), images.lens_of_each),
            read_points=PointFile(_points, points, T[0]) if points else None, left_out=left_out,
        )  # fmt: skip


def _points(path: Path) -> PointCloud:
    return PointCloud(*read_colmap_points(path))


class MVImgNet(COLMAP):
    """MVImgNet (Yu et al., 2023): objects walked around, about 30 frames each, so that longer clips repeat their ends.

    Tree: <class>/<object>/{images/001.jpg, sparse/0/{cameras,images}.bin}. All else as COLMAP, with one
    SIMPLE_RADIAL lens.

    Licence: MVImgNet terms of use (a form and a password).
    """

    name = "mvimgnet"
    licence = "MVImgNet terms of use (a form and a password)"
    layout = "<class>/<object>/sparse/0/images.bin"
