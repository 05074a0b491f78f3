"""MVImgNet, and any folder that COLMAP has solved."""

from collections.abc import Iterator
from pathlib import Path

from gen3r.cameras.formats.colmap import read_colmap_model, read_colmap_points
from gen3r.data.readers.base import Reader, folders_with
from gen3r.data.readers.frames import PictureFiles, PointFile
from gen3r.data.readers.lens import Lens
from gen3r.data.readers.poses import make_cameras
from gen3r.data.records import ClipRecord
from gen3r.geometry.clouds import PointCloud


class COLMAP(Reader):
    """Images with a COLMAP model, binary or text.

    Tree: <scene>/images/*.jpg and <scene>/sparse/0/{cameras,images}.bin. Poses: world-to-camera quaternion (w first)
    and translation, OpenCV axes. Intrinsics in pixels; radial and OpenCV lenses are undone. Unit: COLMAP's. Frames in
    the order of their names; images that COLMAP could not place are left out. Depth: none. Points: points3D beside
    the cameras, with their colours.

    Licence: that of the images.
    """

    name = "colmap"
    licence = "that of the images"
    layout = "<scene>/sparse/0/images.bin and <scene>/images"

    def find_scenes(self) -> Iterator[str]:
        """Folders with images/ and sparse/."""
        for folder in folders_with(self.root, "sparse"):
            if (folder / "images").is_dir():
                yield folder.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        folder = self.root / scene
        model = read_colmap_model(folder)
        paths = [folder / "images" / Path(name).name for name in model.names]
        lens = Lens(tuple(model.intrinsics[0]), model.distortion) if any(model.distortion) else None
        poses = model.T_world_camera.numpy()
        cameras = make_cameras(poses, model.intrinsics, model.size)
        points = PointFile(_points, model.points, poses[0]) if model.points else None
        return ClipRecord(self.name, scene, cameras, PictureFiles(paths, lens, model.size), read_points=points)


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
