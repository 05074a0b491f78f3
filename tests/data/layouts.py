"""One procedural scene written in the raw layout of every dataset.

The conversions are written out here from what the datasets' own papers and code say, and share nothing with the
readers: an error would have to be made twice.
"""

import gzip
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from gen3r.cameras.camera import Cameras
from gen3r.data.synthetic.decorator import Decorator
from gen3r.data.synthetic.light import outdoors
from gen3r.data.synthetic.places import PLACES
from gen3r.data.synthetic.render import Renderer
from gen3r.data.synthetic.shots import look_at
from gen3r.data.synthetic.textures import Atlas

SEED, FRAMES, FARTHEST = 129, 5, 60
RADIAL = (-0.06, 0.02, 0.0, 0.0, 0.0)
BROWN = (-0.06, 0.02, 0.004, -0.003, 0.0)


@dataclass(frozen=True)
class Truth:
    """frames uint8 [F, H, W, 3]; depth float32 [F, H, W] in metres, 0 = sky; T float64 [F, 4, 4], camera-to-world,
    x right, y down, z forward; intrinsics fx, fy, cx, cy."""

    frames: np.ndarray
    depth: np.ndarray
    T: np.ndarray
    intrinsics: tuple[float, float, float, float]
    caption: str

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.frames.shape[1:3]
        return height, width

    @property
    def w2c(self) -> np.ndarray:
        return np.linalg.inv(self.T)

    @property
    def K(self) -> np.ndarray:
        fx, fy, cx, cy = self.intrinsics
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    def in_world(self, turn: np.ndarray, shift: Sequence[float] = (0, 0, 0), scale: float = 1.0) -> "Truth":
        """The same scene in a world that is turned, shifted, and measured in 1 / scale metres."""
        gauge = np.eye(4)
        gauge[:3, :3], gauge[:3, 3] = turn, shift
        T = self.T.copy()
        T[:, :3, 3] *= scale
        return replace(self, T=gauge @ T, depth=self.depth * np.float32(scale))


Truths = Callable[[str], Truth]  # dataset -> the scene, through a lens that the dataset can describe


def render_truth(height: int, width: int) -> Truth:
    """A plaza, past which a camera moves that turns a little. Its focal length is half the width at 112 x 175."""
    d = Decorator(np.random.default_rng(SEED), "train")
    layout = PLACES["plaza"](d, "noon")
    light = outdoors(d.rng, "noon", "clear", layout.lamps)
    t = np.linspace(0, 1, FRAMES)[:, None]
    poses = look_at(np.array([-1.0, -6, 1.7]) + t * [1.6, 0.5, 0.1], np.array([0.0, 3, 1.6]) + t * [0.7, 0, 0.1])
    renderer, fov = Renderer(d.builder, Atlas(d.textures), light, 3.0), 2 * np.arctan(112 / 175)
    renderer.expose(poses, fov, 0.34)
    made = renderer.render_clip(poses, fov, height, width, [])
    K = Cameras.from_fov(torch.from_numpy(poses), fov, height, width).K_px[0].double()
    intrinsics = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
    depth = np.where(made.depth < FARTHEST, made.depth, 0)  # lasers reach no farther
    return Truth(made.frames, depth, poses, intrinsics, "A plaza at noon.")


def lens_free() -> Truth:
    """Pixels that are not square and a principal point off the centre: no two numbers of the lens are the same."""
    big = render_truth(224, 444)
    rows, columns = slice(10, 214, 2), slice(3, 423, 3)
    fx, fy, cx, cy = big.intrinsics
    intrinsics = (fx / 3, fy / 2, (cx - 3.5) / 3 + 0.5, (cy - 10.5) / 2 + 0.5)
    return replace(big, frames=big.frames[:, rows, columns], depth=big.depth[:, rows, columns], intrinsics=intrinsics)


def lens_square() -> Truth:
    """Square pixels, a principal point off the centre."""
    whole = lens_fixed()
    fx, fy, cx, cy = whole.intrinsics
    return replace(whole, frames=whole.frames[:, 8:, :165], depth=whole.depth[:, 8:, :165],
                   intrinsics=(fx, fy, cx, cy - 8))  # fmt: skip


def lens_fixed() -> Truth:
    """TartanAir's: a focal length of half the width, as this scene happens to have."""
    return render_truth(112, 175)


def axes(T: np.ndarray, x: str, y: str, z: str) -> np.ndarray:
    """Camera-to-world for a camera whose x, y, z point right, left, up, down, forward or back."""
    right, down, forward = T[:, :3, 0], T[:, :3, 1], T[:, :3, 2]
    ways = {"right": right, "left": -right, "down": down, "up": -down, "forward": forward, "back": -forward}
    named = T.copy()
    named[:, :3, :3] = np.stack([ways[x], ways[y], ways[z]], axis=-1)
    return named


def bent(truth: Truth, coefficients: Sequence[float]) -> np.ndarray:
    """The frames as a lens with k1, k2, p1, p2, k3 would have taken them."""
    places = bent_places(truth, coefficients)
    channels = [
        [map_coordinates(frame[..., c].astype(float), places, order=1, mode="nearest") for c in range(3)]
        for frame in truth.frames
    ]
    return np.moveaxis(np.array(channels), 1, -1).round().astype(np.uint8)


def bent_depth(truth: Truth, coefficients: Sequence[float]) -> np.ndarray:
    """The depth as a sensor behind the same lens would have measured it: between pixels, but not across edges."""
    places = bent_places(truth, coefficients)
    nearest, between = (
        np.stack([map_coordinates(depth, places, order=order, mode="nearest") for depth in truth.depth])
        for order in (0, 1)
    )
    return np.where(np.abs(between - nearest) < 0.1 * nearest, between, nearest)


def bent_places(truth: Truth, coefficients: Sequence[float]) -> list[np.ndarray]:
    """The rows and columns [H, W] in the straight image of what lies at each pixel behind the lens."""
    fx, fy, cx, cy = truth.intrinsics
    k1, k2, p1, p2, k3 = coefficients
    height, width = truth.size
    row, column = np.mgrid[0:height, 0:width] + 0.5
    u, v = (column - cx) / fx, (row - cy) / fy  # where the ray landed; sought: where it would have, straight
    x, y = u.copy(), v.copy()
    for _ in range(30):
        r2 = x**2 + y**2
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        x, y = (
            (u - 2 * p1 * x * y - p2 * (r2 + 2 * x**2)) / radial,
            (v - p1 * (r2 + 2 * y**2) - 2 * p2 * x * y) / radial,
        )
    return [y * fy + cy - 0.5, x * fx + cx - 0.5]


# A patch of pixels on a thing that is said to move in this frame; no pair of frames is measured from it.
MOVES, PATCH = 2, (slice(60, 76), slice(60, 84))


def world_points(truth: Truth, frame: int) -> np.ndarray:
    """Where the pixels of a frame are [H, W, 3]."""
    row, column = np.mgrid[0 : truth.size[0], 0 : truth.size[1]] + 0.5
    rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(truth.K).T
    return rays * truth.depth[frame][..., None] @ truth.T[frame][:3, :3].T + truth.T[frame][:3, 3]


def box_of_patch(truth: Truth, frame: int, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre, in the world, and the size of a box along `axes` (columns) just around the patch of a frame."""
    points = world_points(truth, frame)[PATCH].reshape(-1, 3) @ axes
    assert (truth.depth[frame][PATCH] > 0).all()
    return axes @ (points.max(0) + points.min(0)) / 2, np.ptp(points, axis=0) + 1e-3


def some_points(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] that frame 0 sees, and their colours uint8 [N, 3]."""
    seen = truth.depth[0][::9, ::9] > 0
    return world_points(truth, 0)[::9, ::9][seen], truth.frames[0][::9, ::9][seen]


def write_cloud(path: Path, truth: Truth, binary: bool = False) -> None:
    """The points as PLY."""
    points, colours = some_points(truth)
    header = ["ply", f"format {'binary_little_endian' if binary else 'ascii'} 1.0", f"element vertex {len(points)}"]
    header += [f"property double {a}" for a in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    lines = "\n".join([*header, "end_header", ""]).encode()
    for point, colour in zip(points, colours, strict=True):
        values = (*point, *(int(c) for c in colour))
        lines += struct.pack("<3d3B", *values) if binary else f"{row(values)}\n".encode()
    path.write_bytes(lines)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 97} if path.suffix == ".jpg" else {"compress_level": 1}))
    return path


def text(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def row(*parts: Any) -> str:
    """Numbers and arrays in one line."""
    return " ".join(f"{float(x):.15g}" for part in parts for x in np.ravel(part))


def write_realestate(root: Path, truth: Truth) -> None:
    height, width = truth.size
    fx, fy, cx, cy = truth.intrinsics
    normal = [fx / width, fy / height, cx / width, cy / height]
    times = [33_367 * i + 158_692_025 for i in range(len(truth.T))]
    lines = [row(t, normal, 0, 0, P[:3]) for t, P in zip(times, truth.w2c, strict=True)]
    text(root / "train" / "0bf152ef84195293.txt", ["https://www.youtube.com/watch?v=x", *lines[2:], *lines[:2]])
    for t, frame in zip(times, truth.frames, strict=True):
        save(root / "train" / "0bf152ef84195293" / f"{t}.png", frame)


def write_dl3dv(root: Path, truth: Truth) -> None:
    height, width = truth.size
    folder, eight = root / "1K" / ("ab" * 32), 8
    fx, fy, cx, cy = (eight * x for x in truth.intrinsics)
    data = {"w": eight * width, "h": eight * height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy,
            "k1": BROWN[0], "k2": BROWN[1], "p1": BROWN[2], "p2": BROWN[3], "camera_model": "OPENCV",
            "applied_transform": np.eye(4)[[0, 2, 1]].tolist(), "frames": []}  # fmt: skip
    matrices = axes(truth.T, "right", "up", "back")
    for i, (frame, M) in enumerate(zip(bent(truth, BROWN), matrices, strict=True), start=1):
        save(folder / "images_8" / f"frame_{i:05d}.png", frame)
        entry = {"file_path": f"images/frame_{i:05d}.png", "transform_matrix": M.tolist(), "colmap_im_id": i}
        data["frames"].insert(0, entry)
    text(folder / "transforms.json", [json.dumps(data)])


def write_tartanair(root: Path, truth: Truth) -> None:
    folder = root / "office" / "Easy" / "P000"
    body = axes(truth.T, "forward", "right", "down")
    text(folder / "pose_left.txt", [row(M[:3, 3], Rotation.from_matrix(M[:3, :3]).as_quat()) for M in body])
    (folder / "depth_left").mkdir()
    for i, (frame, depth) in enumerate(zip(truth.frames, truth.depth, strict=True)):
        save(folder / "image_left" / f"{i:06d}_left.png", frame)
        np.save(folder / "depth_left" / f"{i:06d}_left_depth.npy", np.where(depth > 0, depth, 10000).astype(np.float32))


def write_kitti360(root: Path, truth: Truth, missing: int | None = None) -> None:
    """missing: a frame without a pose."""
    height, width = truth.size
    drive, first = "2013_05_28_drive_0000_sync", 250
    fx, fy, cx, cy = truth.intrinsics
    rectify = Rotation.from_rotvec([0.02, -0.01, 0.03]).as_matrix()
    P = [[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0]]
    text(root / "calibration" / "perspective.txt", [
        f"S_rect_00: {width}.0 {height}.0", f"R_rect_00: {row(rectify)}", f"P_rect_00: {row(P)}",
        f"P_rect_01: {row(P)}",
    ])  # fmt: skip
    T_laser_camera = np.eye(4)  # the camera as it hangs, before it is rectified; the laser has x ahead, z up
    T_laser_camera[:3, :3] = Rotation.from_rotvec([0.01, 0.02, 0]).as_matrix() @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    T_laser_camera[:3, 3] = [0.8, 0.3, -0.2]
    text(root / "calibration" / "calib_cam_to_velo.txt", [row(T_laser_camera[:3])])
    numbers = [first + i for i in range(len(truth.T))]
    rows = [row(n, T) for i, (n, T) in enumerate(zip(numbers, truth.T, strict=True)) if i != missing]
    text(root / "data_poses" / drive / "cam0_to_world.txt", rows)
    scans = root / "data_3d_raw" / drive / "velodyne_points" / "data"
    scans.mkdir(parents=True)
    for n, frame, depth in zip(numbers, truth.frames, truth.depth, strict=True):
        save(root / "data_2d_raw" / drive / "image_00" / "data_rect" / f"{n:010d}.png", frame)
        v, u = np.nonzero(depth)
        z = depth[v, u].astype(float)
        points = np.stack([(u + 0.5 - cx) / fx * z, (v + 0.5 - cy) / fy * z, z])
        points = T_laser_camera[:3, :3] @ (rectify.T @ points) + T_laser_camera[:3, 3:]
        points = np.concatenate([points, np.ones((1, len(z)))]).T.astype(np.float32)
        points[::-1].tofile(scans / f"{n:010d}.bin")
    write_kitti360_boxes(root / "data_3d_bboxes" / "train_full" / f"{drive}.xml", truth, first)


def write_kitti360_boxes(path: Path, truth: Truth, first: int) -> None:
    """A box that moves through the frames, and one that stands still around the patch of the first."""
    turn = Rotation.from_rotvec([0.1, -0.2, 0.5]).as_matrix()
    cube = [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]

    def matrix(name: str, values: np.ndarray) -> str:
        rows, columns = values.shape
        data = f"<rows>{rows}</rows><cols>{columns}</cols><dt>f</dt>\n<data>{row(values)}</data>"
        return f'<{name} type_id="opencv-matrix">{data}</{name}>'

    boxes = []
    for number, (frame, time) in enumerate(((MOVES, first + MOVES), (0, -1), (MOVES, first + 100))):
        centre, size = box_of_patch(truth, frame, turn)
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = turn * size, centre
        facts = f"<index>{number}</index><dynamic>{int(time >= 0)}</dynamic><timestamp>{time}</timestamp>"
        place = matrix("transform", T) + matrix("vertices", np.array(cube)) + matrix("faces", np.zeros((12, 3)))
        boxes.append(f"<object{number}>{facts}{place}</object{number}>")
    text(path, ['<?xml version="1.0"?>', "<opencv_storage>", *boxes, "</opencv_storage>"])


def write_waymo(root: Path, truth: Truth) -> None:
    height, width = truth.size
    import pyarrow as pa
    import pyarrow.parquet as pq

    T_vehicle_camera = np.eye(4)
    T_vehicle_camera[:3, :3] = Rotation.from_euler("zyx", [0.8, 0.02, -0.01]).as_matrix()
    T_vehicle_camera[:3, 3] = [1.5, 0.2, 2.1]
    vehicle = axes(truth.T, "forward", "left", "up") @ np.linalg.inv(T_vehicle_camera)
    rows = []
    for i, (frame, T) in enumerate(zip(bent(truth, BROWN), vehicle, strict=True)):
        path = save(root / "frame.png", frame)
        rows.append((1_552_440_195_362_591 + 100_000 * i, 2, path.read_bytes(), T.ravel().tolist()))
        rows.append((rows[-1][0], 1, b"another camera", np.eye(4).ravel().tolist()))
    (root / "frame.png").unlink()
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    time, name, image, pose = zip(*rows, strict=True)
    segment, matrix = "10023947602400723454_1120_000_1140_000", pa.list_(pa.float64(), 16)
    for tag in ("camera_image", "camera_calibration"):
        (root / "training" / tag).mkdir(parents=True)
    pictures = {
        "key.segment_context_name": [segment] * len(rows), "key.frame_timestamp_micros": time, "key.camera_name": name,
        "[CameraImageComponent].image": pa.array(image, pa.binary()),
        "[CameraImageComponent].pose.transform": pa.array(pose, matrix),
    }  # fmt: skip
    pq.write_table(pa.table(pictures), root / "training" / "camera_image" / f"{segment}.parquet")
    lens = dict(zip(("f_u", "f_v", "c_u", "c_v"), truth.intrinsics, strict=True))
    lens |= dict(zip(("k1", "k2", "p1", "p2", "k3"), BROWN, strict=True))
    calibration = {"key.segment_context_name": [segment] * 2, "key.camera_name": [1, 2]}
    calibration |= {f"[CameraCalibrationComponent].intrinsic.{k}": [9.0, v] for k, v in lens.items()}
    calibration |= {
        "[CameraCalibrationComponent].width": [1, width], "[CameraCalibrationComponent].height": [1, height],
        "[CameraCalibrationComponent].extrinsic.transform":
            pa.array([np.eye(4).ravel().tolist(), T_vehicle_camera.ravel().tolist()], matrix),
    }  # fmt: skip
    pq.write_table(pa.table(calibration), root / "training" / "camera_calibration" / f"{segment}.parquet")
    write_waymo_laser(root / "training", segment, truth, vehicle, sorted({t for t, *_ in rows}))


def write_waymo_laser(root: Path, segment: str, truth: Truth, vehicle: np.ndarray, times: Sequence[int]) -> None:
    """Every pixel of the truth is a return of the top laser. Its beams are fixed, so each has a pose of the vehicle of
    its own: turned a little from the true one, and shifted to where the beam hits. Row 3 has no labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(component: str, columns: dict[str, Any]) -> None:
        (root / component).mkdir()
        table = pa.table({"key.segment_context_name": [segment] * len(next(iter(columns.values()))), **columns})
        pq.write_table(table, root / component / f"{segment}.parquet")

    rng, (height, width), matrix = np.random.default_rng(1), truth.size, pa.list_(pa.float64(), 16)
    hangs = np.eye(4)  # the laser on the roof
    hangs[:3, :3], hangs[:3, 3] = Rotation.from_euler("zyx", [2.6, 0.03, -0.02]).as_matrix(), [1.4, -0.1, 2.2]
    rising = np.sort(rng.uniform(-0.4, 0.1, height))
    inclination = rising[::-1, None]  # the first row looks highest
    azimuth = np.pi - (np.arange(width) + 0.5) / width * 2 * np.pi - 2.6  # the columns begin behind the vehicle
    beams = [np.cos(inclination) * np.cos(azimuth), np.cos(inclination) * np.sin(azimuth), np.sin(inclination)]
    beams = np.stack(np.broadcast_arrays(*beams), -1)
    pictures, poses = [], []
    for i in range(len(times)):
        ranges = np.where(truth.depth[i] > 0, rng.uniform(4, 40, truth.size), 0)
        turn = Rotation.from_matrix(vehicle[i][:3, :3]) * Rotation.from_rotvec(rng.normal(0, 0.02, (height * width, 3)))
        hits = (beams * ranges[..., None]) @ hangs[:3, :3].T + hangs[:3, 3]
        shift = world_points(truth, i) - turn.apply(hits.reshape(-1, 3)).reshape(height, width, 3)
        yaw, pitch, roll = turn.as_euler("ZYX").T.reshape(3, height, width)
        no_labels = np.where(np.arange(height) == 3, 1, -1)[:, None] + 0 * ranges
        pictures.append(np.stack([ranges, 0 * ranges + 0.3, 0 * ranges + 0.1, no_labels], -1))
        poses.append(np.concatenate([np.stack([roll, pitch, yaw], -1), shift], -1))
    keys = {"key.frame_timestamp_micros": times, "key.laser_name": pa.array([1] * len(times), pa.int8())}
    for component, kind, arrays in (("lidar", "LiDAR", pictures), ("lidar_pose", "LiDARPose", poses)):
        prefix = f"[{kind}Component].range_image_return1"
        values = pa.array([a.astype(np.float32).ravel() for a in arrays], pa.list_(pa.float32()))
        shapes = pa.array([a.shape for a in arrays], pa.list_(pa.int32(), 3))
        write(component, {**keys, f"{prefix}.values": values, f"{prefix}.shape": shapes})
    write("lidar_calibration", {
        "key.laser_name": [2, 1],
        "[LiDARCalibrationComponent].extrinsic.transform": pa.array([np.eye(4).ravel(), hangs.ravel()], matrix),
        "[LiDARCalibrationComponent].beam_inclination.values": [None, rising.tolist()],
    })  # fmt: skip
    write("vehicle_pose", {
        "key.frame_timestamp_micros": times,
        "[VehiclePoseComponent].world_from_vehicle.transform": pa.array([T.ravel() for T in vehicle], matrix),
    })  # fmt: skip
    boxes, heading = [], 0.6
    for frame, speed in ((MOVES, 1.5), (0, 0.01), (1, None)):
        turn = vehicle[frame][:3, :3] @ Rotation.from_euler("z", heading).as_matrix()
        centre, size = box_of_patch(truth, frame, turn)
        centre = np.linalg.inv(vehicle[frame])[:3] @ [*centre, 1]
        boxes.append([*centre, *size, speed, 0.0, 0.0, heading])
    names = [f"{p}.{a}" for p in ("box.center", "box.size", "speed") for a in "xyz"] + ["box.heading"]
    columns = {f"[LiDARBoxComponent].{n}": [box[k] for box in boxes] for k, n in enumerate(names)}
    write("lidar_box", {"key.frame_timestamp_micros": [times[MOVES], times[0], times[1]], **columns})


def write_co3d(root: Path, truth: Truth, form: str = "ndc_isotropic") -> None:
    """Row vectors: x_camera = x_world R + T, with x to the left and y up."""
    height, width = truth.size
    sequence, adjust = "110_13051_23361", 0.5
    fx, fy, cx, cy = truth.intrinsics
    half = (width / 2, height / 2)
    sx, sy = half if form == "ndc_norm_image_bounds" else (min(half), min(half))
    lens = {"focal_length": [fx / sx, fy / sy], "principal_point": [(half[0] - cx) / sx, (half[1] - cy) / sy],
            "intrinsics_format": form}  # fmt: skip
    entries = []
    for i, M in enumerate(np.linalg.inv(axes(truth.T, "left", "up", "forward"))):
        place = f"apple/{sequence}"
        name = f"frame{2 * i + 1:06d}"
        save(root / place / "images" / f"{name}.jpg", truth.frames[i])
        bits = (truth.depth[i] / adjust).astype(np.float16).view(np.uint16)
        save(root / place / "depths" / f"{name}.jpg.geometric.png", bits)
        mask = np.full(truth.depth[i].shape, 255, np.uint8)
        mask[:5] = 0
        save(root / place / "depth_masks" / f"{name}.png", mask)
        entries.append({
            "sequence_name": sequence, "frame_number": i, "frame_timestamp": i / 10,
            "image": {"path": f"{place}/images/{name}.jpg", "size": [height, width]},
            "depth": {"path": f"{place}/depths/{name}.jpg.geometric.png", "scale_adjustment": adjust,
                      "mask_path": f"{place}/depth_masks/{name}.png"},
            "viewpoint": {"R": M[:3, :3].T.tolist(), "T": M[:3, 3].tolist(), **lens},
        })  # fmt: skip
    write_cloud(root / "apple" / sequence / "pointcloud.ply", truth, binary=True)
    with gzip.open(root / "apple" / "frame_annotations.jgz", "wt") as file:
        json.dump(entries[::-1], file)


def write_mvimgnet(root: Path, truth: Truth) -> None:
    height, width = truth.size
    folder, (f, _, cx, cy) = root / "7" / "1b00a2f3", truth.intrinsics
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    simple_radial = 2
    lens = struct.pack("<iiQQ4d", 1, simple_radial, width, height, f, cx, cy, RADIAL[0])
    (model / "cameras.bin").write_bytes(struct.pack("<Q", 1) + lens)
    images = b""
    coefficients = (RADIAL[0], 0, 0, 0, 0)
    for i, (frame, M) in enumerate(zip(bent(truth, coefficients), truth.w2c, strict=True)):
        save(folder / "images" / f"{i + 1:03d}.jpg", frame)
        x, y, z, w = Rotation.from_matrix(M[:3, :3]).as_quat()
        image = struct.pack("<i7di", 90 - i, w, x, y, z, *M[:3, 3], 1) + f"{i + 1:03d}.jpg".encode() + b"\0"
        images = image + struct.pack("<Qddq", 1, 2.5, 3.5, -1) + images
    save(folder / "images" / "099.jpg", truth.frames[0])  # COLMAP could not place it
    (model / "images.bin").write_bytes(struct.pack("<Q", len(truth.T)) + images)
    points, colours = some_points(truth)
    data = struct.pack("<Q", len(points))
    for i, (point, colour) in enumerate(zip(points, colours, strict=True)):  # in i % 3 pictures
        track = struct.pack("<" + "ii" * (i % 3), *range(2 * (i % 3)))
        data += struct.pack("<Q3d3BdQ", i, *point, *map(int, colour), 0.4, i % 3) + track
    (model / "points3D.bin").write_bytes(data)


def write_colmap(root: Path, truth: Truth) -> None:
    height, width = truth.size
    folder, (fx, fy, cx, cy) = root / "garden", truth.intrinsics
    k1, k2, p1, p2, _ = BROWN
    text(folder / "sparse" / "0" / "cameras.txt", [f"3 OPENCV {width} {height} {row(fx, fy, cx, cy, k1, k2, p1, p2)}"])
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"]
    for i, (frame, M) in enumerate(zip(bent(truth, BROWN), truth.w2c, strict=True)):
        save(folder / "images" / f"IMG_{i}.png", frame)
        x, y, z, w = Rotation.from_matrix(M[:3, :3]).as_quat()
        lines += [f"{i + 1} {row(w, x, y, z, M[:3, 3])} 3 IMG_{i}.png", ""]
    text(folder / "sparse" / "0" / "images.txt", lines)
    lines = ["# POINT3D_ID X Y Z R G B ERROR TRACK"]
    for i, (point, colour) in enumerate(zip(*some_points(truth), strict=True)):
        lines.append(f"{i} {row(point)} {' '.join(map(str, colour))} 0.4" + " 1 7" * (i % 3))
    text(folder / "sparse" / "0" / "points3D.txt", lines)


def write_vkitti2(root: Path, truth: Truth) -> None:
    """Camera 1 is another; a box in the picture's corner moves in frame 1."""
    height, width = truth.size
    folder, frames = root / "Scene01" / "clone", root / "Scene01" / "clone" / "frames"
    poses, lenses, other = [], [], np.eye(4)
    for i, M in enumerate(truth.w2c):
        poses += [row(i, 0, M), row(i, 1, other)]
        lenses += [row(i, 0, truth.intrinsics), row(i, 1, 1, 1, 1, 1)]
        save(frames / "rgb" / "Camera_0" / f"rgb_{i:05d}.jpg", truth.frames[i])
        depth = np.where(truth.depth[i] > 0, truth.depth[i], 655.35)
        save(frames / "depth" / "Camera_0" / f"depth_{i:05d}.png", (depth * 100).round().astype(np.uint16))
        track = np.zeros((height, width), np.uint8)
        track[-8:, -8:] = 5  # the number of the track plus one
        mask = Image.fromarray(track, "P")
        mask.putpalette(list(np.random.default_rng(0).bytes(768)))
        path = frames / "instanceSegmentation" / "Camera_0" / f"instancegt_{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    r = " ".join(f"r{i + 1},{j + 1}" if j < 3 else f"t{i + 1}" for i in range(3) for j in range(4))
    text(folder / "extrinsic.txt", [f"frame cameraID {r} 0 0 0 1", *poses])
    text(folder / "intrinsic.txt", ["frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]", *lenses])
    box = f"{width - 8} {width - 1} {height - 8} {height - 1}"
    header = "frame cameraID trackID left right top bottom number_pixels truncation_ratio occupancy_ratio isMoving"
    text(folder / "bbox.txt", [header, f"1 0 4 {box} 64 0 1 True", f"2 0 4 {box} 64 0 1 False"])


def write_wildrgbd(root: Path, truth: Truth) -> None:
    height, width = truth.size
    folder = root / "apple" / "scenes" / "scenes_001"
    text(root / "apple" / "types.json", [json.dumps({"scenes_001": "single", "scenes_002": "hand"})])
    text(root / "apple" / "scenes" / "scenes_002" / "cam_poses.txt", [row(i, T) for i, T in enumerate(truth.T)])
    text(folder / "cam_poses.txt", [row(i, T) for i, T in enumerate(truth.T)])
    text(folder / "metadata", [json.dumps({"w": width, "h": height, "K": truth.K.T.ravel().tolist()})])
    for i in range(len(truth.T)):
        save(folder / "rgb" / f"{i:05d}.png", truth.frames[i])
        depth = np.where(truth.depth[i] < 60, truth.depth[i] * 1000, 0)
        save(folder / "depth" / f"{i:05d}.png", depth.round().astype(np.uint16))


def write_standard(root: Path, truth: Truth) -> None:
    height, width = truth.size
    folder, frames = root / "plaza", []
    for i, T in enumerate(truth.T):
        save(folder / "images" / f"frame{i:05d}.png", truth.frames[i])
        save(folder / "depth" / f"frame{i:05d}.png", (truth.depth[i] * (500 + i)).round().astype(np.uint16))
        lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), truth.intrinsics, strict=True))
        frames.append({"w": width, "h": height, **lens, "file_path": f"/elsewhere/frame{i:05d}.png",
                       "transform_matrix": T.tolist(), "depth_per_unit": 500 + i})  # fmt: skip
    text(folder / "transforms.json", [json.dumps({"metric": True, "frames": frames})])
    text(folder / "captions.txt", [truth.caption, "", "The same again."])
    write_cloud(folder / "points.ply", truth, binary=True)


def write_nerfstudio(root: Path, truth: Truth) -> None:
    height, width = truth.size
    fx, fy, cx, cy = truth.intrinsics
    data: dict[str, Any] = {"camera_angle_x": 2 * np.arctan(width / 2 / fx), "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy,
                            "w": width, "h": height, "k1": RADIAL[0], "k2": RADIAL[1], "frames": []}  # fmt: skip
    straight, lens, depth = truth.frames, bent(truth, RADIAL), bent_depth(truth, RADIAL)
    assert not np.array_equal(straight, lens)
    for i, M in enumerate(axes(truth.T, "right", "up", "back")):
        save(root / "images" / f"frame_{i}.jpg", lens[i])
        save(root / "depths" / f"frame_{i}.png", (depth[i] * 1000).round().astype(np.uint16))
        data["frames"].append({"file_path": f"./images/frame_{i}.jpg", "depth_file_path": f"depths/frame_{i}.png",
                               "transform_matrix": M.tolist()})  # fmt: skip
    write_cloud(root / "sparse_pc.ply", truth)
    text(root / "transforms.json", [json.dumps({**data, "ply_file_path": "sparse_pc.ply"})])


@dataclass(frozen=True)
class Layout:
    """write: into an empty folder. depth, points: whether the dataset has them. metric: else its unit is of its own
    choice. lens: the scene, through a lens that the dataset can describe."""

    write: Callable[[Path, Truth], None]
    depth: bool
    metric: bool
    lens: Callable[[], Truth] = lens_free
    points: bool = False


def write_clips(root: Path, truth: Truth) -> None:
    tensors = {
        "frames": torch.from_numpy(truth.frames),
        "depth": torch.from_numpy(truth.depth).half(),
        "T_world_camera": torch.from_numpy(np.linalg.inv(truth.T[0]) @ truth.T).float(),
        "K_px": torch.from_numpy(truth.K).float().repeat(len(truth.T), 1, 1),
    }
    metadata = {"captions": json.dumps([truth.caption]), "made": "{}"}
    root.mkdir(exist_ok=True)
    save_file({k: v[None].contiguous() for k, v in tensors.items()}, root / "clips-000000.safetensors", metadata)


LAYOUTS = {
    "re10k": Layout(write_realestate, depth=False, metric=False),
    "acid": Layout(write_realestate, depth=False, metric=False),
    "dl3dv": Layout(write_dl3dv, depth=False, metric=False),
    "tartanair": Layout(write_tartanair, depth=True, metric=True, lens=lens_fixed),
    "kitti360": Layout(write_kitti360, depth=True, metric=True),
    "waymo": Layout(write_waymo, depth=True, metric=True),
    "co3d": Layout(write_co3d, depth=True, metric=False, points=True),
    "mvimgnet": Layout(write_mvimgnet, depth=False, metric=False, lens=lens_square, points=True),
    "vkitti2": Layout(write_vkitti2, depth=True, metric=True),
    "wildrgbd": Layout(write_wildrgbd, depth=True, metric=True),
    "standard": Layout(write_standard, depth=True, metric=True, points=True),
    "nerfstudio": Layout(write_nerfstudio, depth=True, metric=False, points=True),
    "colmap": Layout(write_colmap, depth=False, metric=False, points=True),
    "clips": Layout(write_clips, depth=True, metric=True),
}
