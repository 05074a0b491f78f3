"""Structure from motion for a feed-forward reconstruction: SIFT matches, COLMAP's mapping and bundle adjustment.

VGGT's authors refine their cameras in this way (VGGT, sec. 4.1, "VGGT + BA"). The feed-forward model gives the initial
focal length and cameras, dense depth, and the cameras of frames that cannot be matched; the matches give everything
else.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.media.crop import Size

if TYPE_CHECKING:
    import pycolmap

MIN_FRAMES = 3  # two do not tell the lens
ALL_PAIRS = 50  # the most frames of which all pairs are matched; of more, each with the next
NEIGHBOURS = 16
MIN_POINTS = 12  # in all frames
MIN_REGISTERED = 0.7  # share of the frames that must be matched
MOST_RANGE = 60.0  # of the points' depths; more is a mapping of cameras that only turned
NEARBY, ALIKE = 0.05, 0.1  # of the longer side, and of the logarithm of depth: how far a point tells the depth
NO_CHANGE = 3.0  # points: the weight of the predicted depth
MAX_CHANGE = 0.7  # of the logarithm of depth; more is a wrong point
FIELD_SIDE = 64  # most pixels of the longer side in which the change is computed
FITS = (16.0, 8.0, 4.0, 2.0)  # pixels: how well points must fit, in turns, from predicted cameras
MIN_ANGLE = 0.7  # degrees between the rays of a point
FOCAL_RANGE = (0.4, 2.5)  # around the initial focal length; beyond it the mapping has failed


@dataclass(frozen=True)
class SparseScene:
    """Registered cameras, and the points that they see.

    T_world_camera: frame number -> camera-to-world [4, 4]. focal: in pixels. points: frame number -> pixels [N, 2] and
    their depth [N] in the unit of the cameras.
    """

    T_world_camera: dict[int, Tensor]
    focal: float
    points: dict[int, tuple[Tensor, Tensor]]


def map_frames(images: Tensor, T_world_camera: Tensor, focals: Sequence[float]) -> Iterator[Iterator[SparseScene]]:
    """The possible sparse scenes of images uint8 [F, H, W, 3] with one lens; none where too few can be matched.

    T_world_camera: as predicted, [F, 4, 4]. focals: initial focal lengths in pixels.

    Short baselines have several solutions, and some of them are wrong. From each focal length, one is sought by global
    mapping and one from the predicted cameras. These scenes come first. The next ones are sought in the same ways among
    more matches, which are less sure, and the last ones by incremental mapping. The work is done as scenes are asked
    for, while this iterator is open. Of more than `ALL_PAIRS` images, each is matched with the next `NEIGHBOURS`, so
    that work grows with their number. The result is the same in every run.
    """
    with _features(images, focals[0]) as features:
        fast = (_global, partial(_adjusted, T_world_camera=T_world_camera))
        for guided, mappers in ((False, fast), (True, fast), (True, (_incremental,))):
            yield _scenes(features, len(images), focals, guided, mappers)


def _scenes(
    features: Path,
    images: int,
    focals: Sequence[float],
    guided: bool,
    mappers: "Sequence[Callable[[Path, str], pycolmap.Reconstruction | None]]",
) -> Iterator[SparseScene]:
    """The scenes that these ways of mapping find from these focal lengths. guided: as for `_match`."""
    import pycolmap  # a large library, which few commands need

    for focal in focals:
        database = features.with_name(f"{focal}-{guided}.db")
        if not database.exists():  # guided matches serve two rounds
            _set_focal(features, focal)
            _match(features, images, guided)
            shutil.copyfile(features, database)
        for mapped in mappers:
            pycolmap.set_random_seed(0)
            model = mapped(database, str(database.parent))
            if model is not None and model.num_reg_images() >= max(MIN_FRAMES, MIN_REGISTERED * images):
                scene = _sparse_scene(model)
                if _plausible(scene, focal):
                    yield scene


def map_pair(images: Tensor, focal: float) -> SparseScene | None:
    """The sparse scene of two images uint8 [2, H, W, 3] with this focal length in pixels, from the essential matrix of
    their matches; None where there are too few."""
    import pycolmap

    with _features(images, focal) as database:
        _match(database, 2, guided=True)
        with pycolmap.Database.open(database) as opened:
            one, other = sorted(opened.read_all_images(), key=lambda image: image.name)
            pair = opened.read_two_view_geometry(one.image_id, other.image_id)
            pixels = [opened.read_keypoints(image.image_id)[:, :2] for image in (one, other)]
            [camera] = opened.read_all_cameras()
    if len(pair.inlier_matches) < MIN_POINTS or pair.cam2_from_cam1 is None:
        return None
    pixels = [x[i].astype(np.float64) for x, i in zip(pixels, pair.inlier_matches.T, strict=True)]
    T_other_one = np.eye(4)
    T_other_one[:3] = pair.cam2_from_cam1.matrix()
    seen = [np.asarray(camera.cam_from_img(x)) for x in pixels]
    places, poses, points = _triangulated(T_other_one, *seen), {}, {}
    for n, T in enumerate((np.eye(4), T_other_one)):
        z = places @ T[2, :3] + T[2, 3]
        poses[n] = torch.from_numpy(np.linalg.inv(T)).float()
        points[n] = torch.from_numpy(pixels[n]).float(), torch.from_numpy(z).float()
    ahead = (points[0][1] > 0) & (points[1][1] > 0)
    if int(ahead.sum()) < MIN_POINTS:
        return None
    return SparseScene(poses, focal, {n: (x[ahead], z[ahead]) for n, (x, z) in points.items()})


def _triangulated(T_other_one: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Points [N, 3] in the first camera's frame that are next to both rays, [N, 2] each at depth 1."""
    R, centre = T_other_one[:3, :3].T, -T_other_one[:3, :3].T @ T_other_one[:3, 3]
    a, b = (np.pad(x, ((0, 0), (0, 1)), constant_values=1.0) for x in (one, other))
    b = b @ R.T
    aa, ab, bb, ac, bc = (np.sum(x * y, -1) for x, y in ((a, a), (a, b), (b, b), (a, centre), (b, centre)))
    determinant = np.maximum(aa * bb - ab**2, 1e-12)
    s, t = (ac * bb - bc * ab) / determinant, (ac * ab - bc * aa) / determinant
    return (s[:, None] * a + centre + t[:, None] * b) / 2


@contextmanager
def _features(images: Tensor, focal: float) -> Iterator[Path]:
    """A COLMAP database with the features of images, in a folder with them that goes afterwards."""
    import pycolmap

    height, width = images.shape[1:3]
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images):
            Image.fromarray(image.numpy()).save(Path(folder) / f"{number:04d}.png", compress_level=1)
        database = Path(folder) / "matches.db"
        reader = pycolmap.ImageReaderOptions(
            camera_model="SIMPLE_PINHOLE", camera_params=f"{focal},{width / 2},{height / 2}"
        )
        extraction = pycolmap.FeatureExtractionOptions(use_gpu=False, num_threads=1)  # images in order
        extraction.sift.peak_threshold = 0.003  # small images have few features
        extraction.sift.max_num_features = 2048
        pycolmap.extract_features(
            database, folder, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
            extraction_options=extraction, device=pycolmap.Device.cpu,
        )  # fmt: skip
        yield database


def _match(database: Path, images: int, guided: bool) -> None:
    """Matches the features of all pairs; of more than `ALL_PAIRS` images, of each with the next ones.

    guided: seeks more matches along the epipolar lines of the first ones, which takes ten times as long.
    """
    import pycolmap

    verification = pycolmap.TwoViewGeometryOptions(compute_relative_pose=images == 2)  # mapping finds its own
    verification.ransac.random_seed = 0
    pairs = pycolmap.SequentialPairingOptions(quadratic_overlap=False, loop_detection=False)
    pairs.overlap = images if images <= ALL_PAIRS else NEIGHBOURS
    matching = pycolmap.FeatureMatchingOptions(use_gpu=False, guided_matching=guided)
    matching.num_threads = 1  # in several, the scene is not the same in every run
    pycolmap.match_sequential(
        database, matching_options=matching, pairing_options=pairs, verification_options=verification,
        device=pycolmap.Device.cpu,
    )  # fmt: skip


def _set_focal(database: Path, focal: float) -> None:
    """Gives the lens a focal length. Features and matches stay; which of the matches are possible is found anew."""
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        [camera] = opened.read_all_cameras()
        camera.params = [focal, *camera.params[1:]]
        opened.update_camera(camera)
        opened.clear_two_view_geometries()


def _global(database: Path, folder: str) -> "pycolmap.Reconstruction | None":
    """All cameras at once (GLOMAP): it needs no good first pair."""
    import pycolmap

    options = pycolmap.GlobalPipelineOptions(num_threads=1, random_seed=0)
    return _largest(pycolmap.global_mapping(database, folder, folder, options=options))


def _adjusted(database: Path, folder: str, T_world_camera: Tensor) -> "pycolmap.Reconstruction":
    """From predicted cameras: points of the matches, and bundle adjustment of both, in turns of a closer fit."""
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        images, [camera] = opened.read_all_images(), opened.read_all_cameras()
        cache = pycolmap.DatabaseCache.create(opened, pycolmap.DatabaseCacheOptions())
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    for image in images:
        T = torch.linalg.inv(T_world_camera[int(Path(image.name).stem)].double())
        registered = pycolmap.Image(image.name, camera_id=camera.camera_id, image_id=image.image_id)
        model.add_image_with_trivial_frame(registered, pycolmap.Rigid3d(T[:3].numpy()))
    options = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=0)
    adjustment, mapping, finding = options.get_global_bundle_adjustment(), options.get_mapper(), options.triangulation
    adjustment.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    finding.min_angle = mapping.filter_min_tri_angle = MIN_ANGLE
    for pixels in FITS:
        finding.complete_max_reproj_error = finding.merge_max_reproj_error = mapping.filter_max_reproj_error = pixels
        finding.create_max_angle_error = finding.continue_max_angle_error = pixels / 2  # degrees
        model.delete_all_points2D_and_points3D()
        mapper = pycolmap.IncrementalMapper(cache)
        mapper.begin_reconstruction(model)
        for image in images:
            mapper.triangulate_image(finding, image.image_id)
        mapper.complete_and_merge_tracks(finding)
        mapper.adjust_global_bundle(mapping, adjustment)
        mapper.filter_points(mapping)
        mapper.end_reconstruction(False)
    return model


def _incremental(database: Path, folder: str) -> "pycolmap.Reconstruction | None":
    """Camera by camera, with limits for the short baselines of videos."""
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions(
        num_threads=1, random_seed=0, min_model_size=MIN_FRAMES, min_num_matches=10, multiple_models=False
    )
    options.min_focal_length_ratio, options.max_focal_length_ratio = FOCAL_RANGE
    mapper = options.mapper
    mapper.init_min_num_inliers, mapper.abs_pose_min_num_inliers = 20, 12
    mapper.init_min_tri_angle, mapper.filter_min_tri_angle, mapper.ba_local_min_tri_angle = 2.0, 0.7, 2.0
    options.triangulation.min_angle = 0.7
    return _largest(pycolmap.incremental_mapping(database, folder, folder, options=options))


def _largest(models: "dict[int, pycolmap.Reconstruction]") -> "pycolmap.Reconstruction | None":
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def _plausible(scene: SparseScene, focal: float) -> bool:
    """Whether the lens and the depths can be true."""
    z = torch.cat([depth for _, depth in scene.points.values()])
    if len(z) < MIN_POINTS or not FOCAL_RANGE[0] < scene.focal / focal < FOCAL_RANGE[1]:
        return False
    near, far = z.quantile(torch.tensor([0.05, 0.95]))
    return bool(far < MOST_RANGE * near)


def _sparse_scene(model: "pycolmap.Reconstruction") -> SparseScene:
    poses, points = {}, {}
    for image in model.images.values():
        if not image.has_pose:
            continue
        T_camera_world = np.eye(4)
        T_camera_world[:3] = image.cam_from_world().matrix()
        seen = [p for p in image.points2D if p.has_point3D()]
        places = np.array([model.points3D[p.point3D_id].xyz for p in seen]).reshape(-1, 3)
        z = places @ T_camera_world[2, :3] + T_camera_world[2, 3]
        pixels = np.array([p.xy for p in seen]).reshape(-1, 2)
        number = int(Path(image.name).stem)
        poses[number] = torch.from_numpy(np.linalg.inv(T_camera_world)).float()
        points[number] = torch.from_numpy(pixels[z > 0]).float(), torch.from_numpy(z[z > 0]).float()
    return SparseScene(poses, float(next(iter(model.cameras.values())).params[0]), points)


def align_cameras(depth: Tensor, cameras: Cameras, scene: SparseScene, size: Size) -> Cameras:
    """The cameras of a sparse scene in the unit of a predicted depth [F, H, W], at the size of the predicted `cameras`.

    size: height and width of the images that the scene was mapped from, of the same field of view. The unit is that of
    the nearer half of the points, whose depth is surer. Frames that are not registered keep their predicted motion from
    the nearest registered one.
    """
    unit = _unit(depth, scene, size)
    known, predicted, poses = sorted(scene.T_world_camera), cameras.T_world_camera, []
    for n in range(len(depth)):
        nearest = min(known, key=lambda k: abs(k - n))
        T = scene.T_world_camera[nearest].clone()
        T[:3, 3] /= unit
        poses.append(T if nearest == n else T @ torch.linalg.inv(predicted[nearest]) @ predicted[n])
    K = cameras.K_px.clone()
    K[:, 0, 0] = K[:, 1, 1] = depth.shape[-1] / size[1] * scene.focal
    return Cameras(torch.stack(poses), K, cameras.height, cameras.width).relative_to_first()


def align_depth(depth: Tensor, scene: SparseScene, size: Size) -> Tensor:
    """A predicted depth [F, H, W] that follows the points of a sparse scene near each of them.

    size: as for `align_cameras`. The logarithm of the depth changes by the mean over the points of a frame, weighted by
    their nearness in the image and in depth, and by one of `NO_CHANGE` for none.
    """
    unit = _unit(depth, scene, size)
    factor = min(1.0, FIELD_SIDE / max(depth.shape[1:]))
    height, width = (max(1, round(factor * side)) for side in depth.shape[1:])
    own = F.interpolate(depth[None].log(), (height, width), mode="area")[0]
    y, x = (torch.arange(n, device=depth.device)[:, None] + 0.5 for n in (height, width))
    field = torch.zeros_like(own)  # where a depth is not positive, it stays
    for n, (pixels, z) in scene.points.items():
        pixels = depth.shape[-1] / size[1] * pixels
        log_depth = _at(depth[n], pixels).log()
        change = ((z / unit).log() - log_depth).clamp(-MAX_CHANGE, MAX_CHANGE)
        column, row = (factor * pixels).T
        near = _bell(y - row, NEARBY * max(height, width))[:, None] * _bell(x - column, NEARBY * max(height, width))
        weight = near * _bell(own[n, ..., None] - log_depth, ALIKE)
        field[n] = (weight * change).sum(-1) / (weight.sum(-1) + NO_CHANGE)
    field = F.interpolate(field.nan_to_num()[None], depth.shape[1:], mode="bilinear", align_corners=False)[0]
    return depth * field.exp()


def _bell(x: Tensor, width: float) -> Tensor:
    return torch.exp(-0.5 * (x / width) ** 2)


def _unit(depth: Tensor, scene: SparseScene, size: Size) -> Tensor:
    """How many units of a sparse scene one of a predicted depth has."""
    scale = depth.shape[-1] / size[1]
    ratios = torch.cat([z / _at(depth[n], scale * pixels) for n, (pixels, z) in scene.points.items()])
    z = torch.cat([z for _, z in scene.points.values()])
    return ratios[z <= z.median()].median()


def _at(depth: Tensor, pixels: Tensor) -> Tensor:
    """The depth [N] of an image [H, W] at pixels [N, 2]."""
    height, width = depth.shape
    return depth[pixels[:, 1].long().clamp(0, height - 1), pixels[:, 0].long().clamp(0, width - 1)]
