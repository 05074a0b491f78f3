"""Every export read back by a reader of its own: its cameras put its points onto the frames, and up is up.

The colour of a pixel of the scene is its place: column, row and frame. A point that was read back says so from which
pixel it comes, whatever the format did to it.
"""

import io
import json
import math
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
import trimesh
from PIL import Image
from plyfile import PlyData
from scipy.spatial.transform import Rotation

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import read_cameras
from gen3r.export.formats import FORMATS
from gen3r.export.options import ExportOptions, KnownLength
from gen3r.geometry.points import unproject
from gen3r.scene import Scene

FRAMES, HEIGHT, WIDTH = 4, 24, 32
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # between OpenCV's and OpenGL's axes
EXACT = ExportOptions(unsure=0, outliers=0)
UP = {"opencv": (0, -1, 0), "opengl": (0, 1, 0), "z up": (0, 0, 1)}


def make_scene(centred: bool) -> Scene:
    """A floor and a wall, under cameras that move and turn; the lens centred and fixed, or neither."""
    T = torch.eye(4).repeat(FRAMES, 1, 1)
    turns = Rotation.from_euler("yxz", [[0.05 * i, 0.03 * i, 0.02 * i] for i in range(FRAMES)])
    T[:, :3, :3] = torch.from_numpy(turns.as_matrix()).float()
    T[:, :3, 3] = torch.arange(FRAMES)[:, None] * torch.tensor([0.06, -0.04, 0.05])
    cameras = Cameras.from_fov(T, math.radians(60), HEIGHT, WIDTH)
    if not centred:
        K_px = cameras.K_px.clone()
        K_px[:, 0, 0] *= 1.2
        K_px[:, :2, 2] += torch.tensor([2.3, -1.7])
        K_px[:, :2, :2] *= 1 + 0.05 * torch.arange(FRAMES)[:, None, None]
        cameras = Cameras(T, K_px, HEIGHT, WIDTH)
    place = torch.stack(torch.meshgrid(*map(torch.arange, (FRAMES, HEIGHT, WIDTH)), indexing="ij"), -1)
    frames = place[..., [2, 1, 0]].to(torch.uint8)
    rays = unproject(torch.ones(FRAMES, HEIGHT, WIDTH), cameras.T_world_camera, cameras.K_px)
    rays = rays - cameras.centres[:, None, None]
    wall = (3 - cameras.centres[:, None, None, 2]) / rays[..., 2]
    floor = (0.8 - cameras.centres[:, None, None, 1]) / rays[..., 1]
    depth = torch.where((floor > 0) & (floor < wall), floor, wall)
    confidence = 1 + torch.rand(depth.shape, generator=torch.Generator().manual_seed(0))
    points = unproject(depth, cameras.T_world_camera, cameras.K_px)
    return Scene(frames, depth, confidence, points, depth > 0, cameras, "a floor", {})


@pytest.fixture(params=[True, False], ids=["centred", "any lens"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return make_scene(request.param)


def export(scene: Scene, name: str, folder: Path, options: ExportOptions = EXACT) -> Path:
    [path] = scene.export(folder, name, options=options)
    assert [p.name for p in folder.iterdir()] == [FORMATS[name].path]
    return path


def check_points(points: np.ndarray, colours: np.ndarray, poses: np.ndarray, K_px: np.ndarray, axes: str) -> None:
    """Points [N, 3] under cameras, camera-to-world with OpenCV's camera axes, and the world's axes."""
    assert len(points) > 0.7 * HEIGHT * WIDTH
    column, row, frame = colours.astype(int).T
    local = np.einsum("nij,nj->ni", np.linalg.inv(poses)[frame], np.c_[points, np.ones(len(points))])[:, :3]
    pixels = np.einsum("nij,nj->ni", K_px[frame], local)
    assert (pixels[:, 2] > 0).all()
    assert np.abs(pixels[:, :2] / pixels[:, 2:] - np.c_[column, row] - 0.5).max() < 0.5
    height = points @ UP[axes]
    assert height[row < HEIGHT // 3].mean() > height[row > 2 * HEIGHT // 3].mean() + 0.5


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    vertices = PlyData.read(str(path))["vertex"]
    return tuple(np.stack([vertices[n] for n in names], -1) for names in ("xyz", ("red", "green", "blue")))


def lenses(scene: Scene) -> np.ndarray:
    return scene.cameras.K_px.double().numpy()


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_ply(scene: Scene, tmp_path: Path, axes) -> None:
    path = export(scene, "ply", tmp_path, ExportOptions(unsure=0, outliers=0, axes=axes))
    poses = scene.cameras.T_world_camera.double().numpy()
    poses = FLIP @ poses if axes == "opengl" else poses
    points, colours = read_points(path)
    check_points(points, colours, poses, lenses(scene), axes)
    normals = np.stack([PlyData.read(str(path))["vertex"][n] for n in ("nx", "ny", "nz")], -1)
    floor = (colours[:, 1] > HEIGHT - 6) & (colours[:, 2] == 0)
    assert (normals[floor] @ UP[axes] > 0.99).all()


class Gltf:
    """The tree of a GLB file, and its arrays."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length, size, kind = struct.unpack_from("<4sIII4s", data)
        assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
        self.tree = json.loads(data[20 : 20 + size])
        self.buffer = data[28 + size :]

    def array(self, number: int) -> np.ndarray:
        accessor = self.tree["accessors"][number]
        view = self.tree["bufferViews"][accessor["bufferView"]]
        kind = {5126: "<f4", 5125: "<u4", 5123: "<u2"}[accessor["componentType"]]
        count = accessor["count"] * int(accessor["type"].replace("SCALAR", "1")[-1])
        return np.frombuffer(self.buffer, kind, count, view["byteOffset"]).reshape(accessor["count"], -1)

    def cameras(self) -> tuple[np.ndarray, np.ndarray]:
        """The poses of the animated camera, with OpenCV's camera axes, and its lens, for each time."""
        [animation], [camera] = self.tree["animations"], self.tree["cameras"]
        values = {c["target"]["path"]: animation["samplers"][c["sampler"]] for c in animation["channels"]}
        node = self.tree["nodes"][animation["channels"][0]["target"]["node"]]
        assert node["camera"] == 0
        times = self.array(values["rotation"]["input"])[:, 0]
        assert np.allclose(times, np.arange(FRAMES) / 12)
        poses = np.tile(np.eye(4), (FRAMES, 1, 1))
        poses[:, :3, :3] = Rotation.from_quat(self.array(values["rotation"]["output"])).as_matrix()
        poses[:, :3, 3] = self.array(values["translation"]["output"])
        lens = camera["perspective"]
        fy = HEIGHT / 2 / math.tan(lens["yfov"] / 2)
        K = np.array([[fy * WIDTH / HEIGHT / lens["aspectRatio"], 0, WIDTH / 2], [0, fy, HEIGHT / 2], [0, 0, 1]])
        return poses @ FLIP, np.tile(K, (FRAMES, 1, 1))


def test_glb_points(tmp_path: Path) -> None:
    path = export(make_scene(centred=True), "glb-points", tmp_path)
    file = Gltf(path)
    primitive = next(m for m in file.tree["meshes"])["primitives"][0]
    linear = file.array(primitive["attributes"]["COLOR_0"])[:, :3] / 65535
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    points = file.array(primitive["attributes"]["POSITION"])
    check_points(points, np.round(255 * srgb), *file.cameras(), "opengl")
    [cloud] = trimesh.load_scene(path).geometry.values()
    assert np.array_equal(np.asarray(cloud.vertices, np.float32), points)


def test_glb_mesh(tmp_path: Path) -> None:
    scene = make_scene(centred=True)
    scene.depth[:, 8:16, 8:16] *= 0.4  # a box before the wall
    scene.points.copy_(unproject(scene.depth, scene.cameras.T_world_camera, scene.cameras.K_px))
    path = export(scene, "glb", tmp_path)
    poses, K_px = Gltf(path).cameras()
    loaded = trimesh.load_scene(path)
    meshes = list(loaded.geometry.values())
    assert 1 < len(meshes) <= FRAMES
    points, colours, facing = [], [], []
    for mesh in meshes:
        image = np.asarray(mesh.visual.material.baseColorTexture)
        u, v = mesh.visual.uv.T
        colours.append(image[((1 - v) * HEIGHT).astype(int), (u * WIDTH).astype(int)])
        points.append(mesh.vertices)
        centre = poses[colours[-1][0, 2], :3, 3]
        facing.append(((centre - mesh.triangles_center) * mesh.face_normals).sum(-1) > 0)
        z = (mesh.vertices - centre) @ poses[colours[-1][0, 2], :3, 2]
        assert np.ptp(z[mesh.faces], axis=1).max() < 0.6  # no triangle joins the box and the wall
    check_points(np.concatenate(points), np.concatenate(colours), poses, K_px, "opengl")
    assert np.concatenate(facing).all()
    assert sum(len(m.faces) for m in meshes) < 1.6 * len(meshes[0].faces)  # what is seen twice is one mesh
    same = scene.to_trimesh(EXACT)
    assert sum(len(m.faces) for m in same.geometry.values()) == sum(len(m.faces) for m in meshes)
    assert np.array_equal(np.asarray(same.geometry["frame0"].visual.material.baseColorTexture), scene.frames[0])


@pytest.mark.parametrize("name", ["glb", "glb-points"])
def test_the_validator_of_gltf(tmp_path: Path, name: str) -> None:
    code = "require('gltf-validator').validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])))"
    code += ".then(report => console.log(JSON.stringify(report.issues)))"
    node = shutil.which("node")
    if (
        node is None
        or subprocess.run([node, "-e", "require.resolve('gltf-validator')"], capture_output=True).returncode
    ):
        pytest.skip("node with gltf-validator is not installed (npm install gltf-validator)")
    path = export(make_scene(centred=True), name, tmp_path)
    issues = json.loads(subprocess.run([node, "-e", code, path], capture_output=True, check=True).stdout)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


@pytest.mark.parametrize("name", ["colmap", "colmap-text"])
def test_colmap(scene: Scene, tmp_path: Path, name: str) -> None:
    path = export(scene, name, tmp_path)
    model = pycolmap.Reconstruction(path / "sparse" / "0")
    poses, K_px = np.tile(np.eye(4), (FRAMES, 1, 1)), np.empty((FRAMES, 3, 3))
    for number, image in enumerate(sorted(model.images.values(), key=lambda image: image.name)):
        poses[number] = np.linalg.inv(np.r_[image.cam_from_world().matrix(), [[0, 0, 0, 1]]])
        K_px[number] = model.cameras[image.camera_id].calibration_matrix()
        with Image.open(path / "images" / image.name) as picture:
            assert np.array_equal(np.asarray(picture), scene.frames[number])
    points = np.stack([p.xyz for p in model.points3D.values()])
    check_points(points, np.stack([p.color for p in model.points3D.values()]), poses, K_px, "opencv")
    assert model.compute_mean_reprojection_error() < 0.5
    assert model.compute_mean_track_length() > 1.5
    for point in model.points3D.values():
        column, row, frame = point.color
        own = [e for e in point.track.elements if model.images[e.image_id].name == f"frame{frame:05d}.png"]
        [place] = [model.images[e.image_id].points2D[e.point2D_idx].xy for e in own]
        assert np.abs(place - (column + 0.5, row + 0.5)).max() < 0.01
    assert len(read_cameras(path)) == FRAMES if scene.cameras.one_lens else model.num_cameras() == FRAMES


def test_nerfstudio(scene: Scene, tmp_path: Path) -> None:
    path = export(scene, "nerfstudio", tmp_path)
    about = json.loads((path / "transforms.json").read_text())
    poses = np.array([frame["transform_matrix"] for frame in about["frames"]]) @ FLIP
    K_px = np.tile(np.eye(3), (FRAMES, 1, 1))
    for K, frame in zip(K_px, about["frames"], strict=True):
        K[0], K[1] = [frame["fl_x"], 0, frame["cx"]], [0, frame["fl_y"], frame["cy"]]
        with Image.open(path / frame["file_path"]) as image:
            assert (frame["w"], frame["h"]) == image.size
    check_points(*read_points(path / about["ply_file_path"]), poses, K_px, "z up")
    turn = np.r_[np.array(about["applied_transform"]), [[0, 0, 0, 1]]]
    assert np.allclose(np.linalg.inv(turn) @ poses, scene.cameras.T_world_camera, atol=1e-6)
    ours = read_cameras(path / "transforms.json").relative_to_first()
    assert torch.allclose(ours.T_world_camera, scene.cameras.T_world_camera, atol=1e-5)


def check_gaussians(scene: Scene, means, scales, quaternions_wxyz, opacities, colours, axes: str) -> None:
    """Means, standard deviations, unit quaternions, opacities, and colours from 0 to 1."""
    poses = scene.cameras.T_world_camera.double().numpy()
    poses = FLIP @ poses if axes == "opengl" else poses
    check_points(means, np.round(255 * colours), poses, lenses(scene), axes)
    R = Rotation.from_quat(np.roll(quaternions_wxyz, -1, 1)).as_matrix()
    column, row, frame = np.round(255 * colours).astype(int).T
    floor = (row > HEIGHT - 6) & (frame == 0)
    assert (R[floor, :, 2] @ UP[axes] > 0.99).all()  # flat on the floor
    assert (scales[:, 2] < 0.2 * scales[:, 1]).all()
    width = scene.depth.numpy()[frame, row, column] / lenses(scene)[frame, 0, 0]
    assert np.allclose(scales[:, 1], 0.6 * width, rtol=0.1)
    assert (scales[floor, 0] > 1.5 * scales[floor, 1]).all()  # long, where the floor leans away
    assert ((opacities > 0.55) & (opacities < 1)).all()
    sure = scene.confidence.numpy()[frame, row, column]
    assert np.corrcoef(sure, opacities)[0, 1] > 0.9


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_gaussians(scene: Scene, tmp_path: Path, axes) -> None:
    path = export(scene, "gaussians", tmp_path, ExportOptions(unsure=0, outliers=0, axes=axes))
    vertices = PlyData.read(str(path))["vertex"]

    def read(*names: str) -> np.ndarray:
        return np.stack([vertices[name] for name in names], -1).astype(float)

    colours = 0.5 + read("f_dc_0", "f_dc_1", "f_dc_2") / (2 * math.sqrt(math.pi))
    check_gaussians(
        scene, read("x", "y", "z"), np.exp(read("scale_0", "scale_1", "scale_2")),
        read("rot_0", "rot_1", "rot_2", "rot_3"), 1 / (1 + np.exp(-read("opacity")[:, 0])), colours, axes,
    )  # fmt: skip
    same = scene.to_gaussians(ExportOptions(unsure=0, outliers=0, axes=axes))
    assert np.allclose(same.means, read("x", "y", "z"))


def test_spz(scene: Scene, tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply", reason="gsply is not installed (gen3r[spz])")
    data = gsply.read_spz(export(scene, "spz", tmp_path))
    same = scene.to_gaussians(ExportOptions(unsure=0, outliers=0, axes="opengl"))
    assert np.abs(data.means - same.means.numpy()).max() <= 1 / 4096
    assert np.abs(data.scales - same.scales.log().numpy()).max() < 1 / 16
    assert (np.abs((data.quats * same.rotations.numpy()).sum(-1)) > 0.9999).all()
    assert np.abs(1 / (1 + np.exp(-data.opacities)) - same.opacities.numpy()).max() < 0.01
    assert np.abs(255 * (0.5 + data.sh0 / (2 * math.sqrt(math.pi))) - same.colours.numpy()).max() < 5


def test_a_splat_reader_takes_the_gaussians(scene: Scene, tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply", reason="gsply is not installed (gen3r[spz])")
    data = gsply.plyread(export(scene, "gaussians", tmp_path))
    assert np.allclose(data.means, scene.to_points(EXACT).points)


def check_depth(scene: Scene, depths: list[np.ndarray], tolerance: float) -> None:
    depth = np.stack(depths)
    assert (depth > 0).mean() > 0.7
    assert np.abs(depth - scene.depth.numpy())[depth > 0].max() <= tolerance


def test_depth_png(scene: Scene, tmp_path: Path) -> None:
    path = export(scene, "depth-png", tmp_path)
    about = json.loads((path / "depth.json").read_text())
    stored = [np.asarray(Image.open(p)) for p in sorted(path.glob("*.png"))]
    assert all(s.dtype == np.uint16 for s in stored)
    check_depth(scene, [s / about["stored_per_unit"] for s in stored], 1e-4)


def test_depth_npz(scene: Scene, tmp_path: Path) -> None:
    with np.load(export(scene, "depth-npz", tmp_path)) as arrays:
        check_depth(scene, list(arrays["depth"] * arrays["mask"]), 0)
        assert np.array_equal(arrays["T_world_camera"], scene.cameras.T_world_camera)
        assert np.array_equal(arrays["K_px"], scene.cameras.K_px)
        assert np.isnan(arrays["metres_per_unit"])


def test_depth_exr(scene: Scene, tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (gen3r[exr])")
    path = export(scene, "depth-exr", tmp_path)
    check_depth(scene, [exr.File(str(p)).channels()["Z"].pixels for p in sorted(path.glob("*.exr"))], 0)


def test_frames(scene: Scene, tmp_path: Path) -> None:
    path = export(scene, "frames", tmp_path)
    assert np.array_equal(np.stack([np.asarray(Image.open(p)) for p in sorted(path.iterdir())]), scene.frames)


def test_tum_and_kitti(scene: Scene, tmp_path: Path) -> None:
    tum = np.loadtxt(export(scene, "tum", tmp_path / "a"))
    assert np.allclose(tum[:, 0], np.arange(FRAMES) / 12)
    assert np.allclose(tum[:, 1:4], scene.cameras.centres)
    turns = scene.cameras.T_world_camera[:, :3, :3]
    assert np.allclose(Rotation.from_quat(tum[:, 4:]).as_matrix(), turns, atol=1e-6)
    kitti = np.loadtxt(export(scene, "kitti", tmp_path / "b")).reshape(-1, 3, 4)
    assert np.allclose(kitti, scene.cameras.T_world_camera[:, :3])


def test_evo_reads_the_trajectories(scene: Scene, tmp_path: Path) -> None:
    files = pytest.importorskip("evo.tools.file_interface", reason="evo is not installed")
    for name, read in (("tum", files.read_tum_trajectory_file), ("kitti", files.read_kitti_poses_file)):
        path = read(str(export(scene, name, tmp_path / name)))
        assert path.check()[0]
        assert np.allclose(np.stack(path.poses_se3), scene.cameras.T_world_camera, atol=1e-6)


def test_rgbd(scene: Scene, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    path = export(scene, "rgbd", tmp_path)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    truth = np.loadtxt(path / "groundtruth.txt")
    poses[:, :3, 3], poses[:, :3, :3] = truth[:, 1:4], Rotation.from_quat(truth[:, 4:]).as_matrix()
    points, colours, K_px = [], [], []
    for number, line in enumerate((path / "associations.txt").read_text().splitlines()):
        time, rgb, _, depth = line.split()
        assert float(time) == pytest.approx(truth[number, 0], abs=1e-5)
        name = "camera_info.yaml" if scene.cameras.one_lens else f"camera_info/frame{number:05d}.yaml"
        info = yaml.safe_load((path / name).read_text())
        assert (info["image_height"], info["image_width"]) == (HEIGHT, WIDTH)
        K = np.array(info["camera_matrix"]["data"]).reshape(3, 3)
        z = np.asarray(Image.open(path / depth)) / 5000
        row, column = z.nonzero()  # ROS's pixels have their centres at whole numbers
        local = np.c_[column, row, np.ones(len(row))] @ np.linalg.inv(K).T * z[row, column, None]
        points.append(local @ poses[number, :3, :3].T + poses[number, :3, 3])
        colours.append(np.asarray(Image.open(path / rgb))[row, column])
        K_px.append(K + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    check_points(np.concatenate(points), np.concatenate(colours), poses, np.stack(K_px), "opencv")
    column, row, frame = np.concatenate(colours).T
    assert np.abs(np.concatenate(points) - scene.points.numpy()[frame, row, column]).max() < 1e-3
    assert [line.split()[1] for line in (path / "rgb.txt").read_text().splitlines()[1:]] == [
        f"rgb/frame{i:05d}.png" for i in range(FRAMES)
    ]


def test_rgbd_leaves_out_what_is_beyond_sixteen_bits(tmp_path: Path) -> None:
    scene = make_scene(centred=True)
    scene.depth[0, :4] = 14
    path = export(scene, "rgbd", tmp_path, ExportOptions(unsure=0, edges=0, grazing=0, sky=0))
    stored = np.asarray(Image.open(path / "depth" / "frame00000.png"))
    assert (stored[:4] == 0).all()
    assert (stored[4:] > 0).all()


def test_usd(scene: Scene, tmp_path: Path) -> None:
    pxr = pytest.importorskip("pxr.UsdGeom", reason="usd-core is not installed (gen3r[usd])")
    from pxr import Gf, Usd

    stage = Usd.Stage.Open(str(export(scene, "usd", tmp_path)))
    assert pxr.GetStageUpAxis(stage) == "Y"
    assert stage.GetEndTimeCode() == FRAMES - 1
    prim = pxr.Points(stage.GetPrimAtPath("/scene/points"))
    linear = np.array(pxr.PrimvarsAPI(prim).GetPrimvar("displayColor").Get())
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours, points = np.round(255 * srgb).astype(int), np.array(prim.GetPointsAttr().Get())
    assert len(points) > 0.7 * HEIGHT * WIDTH
    camera = pxr.Camera(stage.GetPrimAtPath("/scene/camera"))
    for (column, row, frame), point in zip(colours, points, strict=True):
        frustum = camera.GetCamera(Usd.TimeCode(int(frame))).frustum
        seen = (frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()).Transform(Gf.Vec3d(*map(float, point)))
        pixel = (1 + seen[0]) / 2 * WIDTH, (1 - seen[1]) / 2 * HEIGHT
        assert np.abs(np.subtract(pixel, (column + 0.5, row + 0.5))).max() < 0.5
    height = points @ UP["opengl"]
    assert height[colours[:, 1] < HEIGHT // 3].mean() > height[colours[:, 1] > 2 * HEIGHT // 3].mean() + 0.5


def test_rerun(scene: Scene, tmp_path: Path) -> None:
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed (gen3r[rerun])")
    path = export(scene, "rerun", tmp_path)
    values: dict[str, list] = {}
    for chunk in rerun.chunk.RrdReader(path).stream():
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            if ":" in name:
                values.setdefault(name, []).extend(x for row in batch.column(name).to_pylist() for x in row or [])
    packed = np.array(values["Points3D:colors"], np.uint32)
    colours = np.stack([packed >> shift & 255 for shift in (24, 16, 8)], -1)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, :3] = np.array(values["Transform3D:mat3x3"]).reshape(-1, 3, 3).mT  # column by column
    poses[:, :3, 3] = values["Transform3D:translation"]
    K_px = np.array(values["Pinhole:image_from_camera"]).reshape(-1, 3, 3).mT
    check_points(np.array(values["Points3D:positions"]), colours, poses, K_px, "opencv")
    assert len(values["DepthImage:buffer"]) == len(values["EncodedImage:blob"]) == FRAMES
    frame = np.asarray(Image.open(io.BytesIO(bytes(values["EncodedImage:blob"][-1]))))
    assert frame.shape == (HEIGHT, WIDTH, 3)


def test_metres_are_in_every_file_that_has_a_place_for_them(tmp_path: Path) -> None:
    """The first two frames' pixels below each other on the wall are known to be 5 m apart."""
    scene = make_scene(centred=True)
    length = float((scene.points[1, 2, 5] - scene.points[1, 9, 5]).norm())
    known = KnownLength(metres=5, frame=1, pixels=((5.2, 2.7), (5.0, 9.1)))
    options = ExportOptions(unsure=0, outliers=0, scale_from=known)
    names = ["ply", "glb", "nerfstudio", "tum", "depth-png", "depth-npz"]
    paths = dict(zip(names, scene.export(tmp_path, *names, options=options), strict=True))
    points, colours = read_points(paths["ply"])
    column, row, frame = colours.astype(int).T
    assert np.allclose(points, 5 / length * scene.points.numpy()[frame, row, column], rtol=1e-4)
    assert "unit: metres" in PlyData.read(str(paths["ply"])).comments
    assert Gltf(paths["glb"]).tree["asset"]["extras"]["metres_per_unit"] == 1
    assert json.loads((paths["nerfstudio"] / "transforms.json").read_text())["metres_per_unit"] == 1
    assert np.allclose(np.loadtxt(paths["tum"])[:, 1:4], 5 / length * scene.cameras.centres, rtol=1e-4)
    about = json.loads((paths["depth-png"] / "depth.json").read_text())
    stored = np.asarray(Image.open(paths["depth-png"] / "frame00002.png"))
    assert about["unit"] == "metres"
    assert stored[5, 5] / about["stored_per_unit"] == pytest.approx(5 / length * float(scene.depth[2, 5, 5]), rel=1e-3)
    with np.load(paths["depth-npz"]) as arrays:
        assert float(arrays["metres_per_unit"]) == 1
