"""Every lens that the formats know, against pycolmap or written out, and pictures straightened by it."""

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch

from gen3r.cameras.formats import read_posed_images
from gen3r.cameras.formats.colmap import MODELS
from gen3r.cameras.formats.nerfstudio import parse_transforms
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError

HEIGHT, WIDTH = 96, 128
EYE = np.eye(4).tolist()
SPECIAL = {"FOV": (0.9,), "SIMPLE_DIVISION": (-0.15,), "DIVISION": (0.1,), "EUCM": (0.6, 1.2)}


def places() -> torch.Tensor:
    """An image [H, W, 3] whose pixels say where they are: column, row and nothing, as numbers between pixels need."""
    row, column = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    return torch.stack([column, row, torch.zeros_like(row)], -1)


def rays(lens: Lens) -> np.ndarray:
    """The rays [H, W, 3] of the pinhole's pixels."""
    fx, fy, cx, cy = lens.intrinsics
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    return np.stack([(column - cx) / fx, (row - cy) / fy, np.ones((HEIGHT, WIDTH))], -1)


def assert_straightens(lens: Lens, wanted: np.ndarray) -> None:
    """The straight image shows in every pixel what lies at `wanted` [H, W, 2] in the bent one, to 0.1 pixels."""
    inside = ((wanted > 0.5) & (wanted < [WIDTH - 0.5, HEIGHT - 0.5])).all(-1)
    assert inside.sum() > 1000
    found = lens.undistort(places())[..., :2].numpy()
    assert np.abs(found - wanted)[inside].max() < 0.1


def parameters(model, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    focal = [110.0] if model.one_focal else [105.0, 115.0]
    values = SPECIAL.get(model.name) or rng.normal(0, 0.02, len(model.coefficients))
    return [*focal, 66.0, 45.0, *(float(value) for value in values)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_colmap_lenses_are_those_of_pycolmap(model, tmp_path: Path) -> None:
    numbers = parameters(model, len(model.name))
    theirs = pycolmap.Camera(model=model.name, width=WIDTH, height=HEIGHT, params=numbers)
    (tmp_path / "cameras.txt").write_text(f"1 {model.name} {WIDTH} {HEIGHT} {' '.join(map(str, numbers))}\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.png\n\n")
    images = read_posed_images(tmp_path)
    (lens,) = images.lenses
    wanted = theirs.img_from_cam(rays(lens).reshape(-1, 3)).reshape(HEIGHT, WIDTH, 2)
    assert (images.lens_of_each is None) == (model.name in ("SIMPLE_PINHOLE", "PINHOLE"))
    assert_straightens(lens, wanted)


def test_binary_models_have_the_same_numbers(tmp_path: Path) -> None:
    """pycolmap writes all models into one file; a panorama is refused by name."""
    model = pycolmap.Reconstruction()
    kinds = [kind.name for kind in MODELS]
    for number, kind in enumerate(MODELS, start=1):
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(model=kind.name, width=WIDTH, height=HEIGHT, params=parameters(kind, 3), camera_id=number)
        )
        image = pycolmap.Image(name=f"{number}.png", camera_id=number, image_id=number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    model.write_binary(tmp_path)
    images = read_posed_images(tmp_path)
    assert [lens.name for lens in images.lenses] == kinds
    for kind, lens in zip(MODELS, images.lenses, strict=True):
        numbers = parameters(kind, 3)
        assert [value for _, value in lens.coefficients] == numbers[len(numbers) - len(kind.coefficients) :]
    (tmp_path / "cameras.bin").unlink()
    (tmp_path / "cameras.txt").write_text("1 EQUIRECTANGULAR 128 64 128 64\n")
    (tmp_path / "images.bin").unlink()
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.png\n")
    with pytest.raises(InputError, match="EQUIRECTANGULAR is not supported"):
        read_posed_images(tmp_path)


def nerfstudio_lens(**values) -> Lens:
    data = {"w": WIDTH, "h": HEIGHT, "fl_x": 105, "fl_y": 115, "cx": 66, "cy": 45, **values}
    (lens,) = parse_transforms({**data, "frames": [{"transform_matrix": EYE}]}).lenses
    return lens


@pytest.mark.parametrize("model", ["OPENCV", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", None])
def test_nerfstudio_bends_by_every_coefficient_there_is(model: str | None) -> None:
    """Whatever the model is called; k4 is the fourth power of r^2, not a divisor as COLMAP's."""
    k = {"k1": 0.05, "k2": -0.03, "k3": 0.04, "k4": 0.1, "p1": 0.01, "p2": -0.008}
    lens = nerfstudio_lens(**k, **({} if model is None else {"camera_model": model}))
    x, y, _ = np.moveaxis(rays(lens), -1, 0)
    r2 = x**2 + y**2
    radial = 1 + k["k1"] * r2 + k["k2"] * r2**2 + k["k3"] * r2**3 + k["k4"] * r2**4
    u = x * radial + 2 * k["p1"] * x * y + k["p2"] * (r2 + 2 * x**2)
    v = y * radial + 2 * k["p2"] * x * y + k["p1"] * (r2 + 2 * y**2)
    assert_straightens(lens, np.stack([u * 105 + 66, v * 115 + 45], -1))


@pytest.mark.parametrize("named", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
def test_nerfstudio_fisheyes_are_opencvs(named: dict) -> None:
    values = [0.03, -0.02, 0.01, 0.005]
    lens = nerfstudio_lens(**dict(zip(("k1", "k2", "k3", "k4"), values, strict=True)), **named)
    theirs = pycolmap.Camera(model="OPENCV_FISHEYE", width=WIDTH, height=HEIGHT, params=[105, 115, 66, 45, *values])
    assert_straightens(lens, theirs.img_from_cam(rays(lens).reshape(-1, 3)).reshape(HEIGHT, WIDTH, 2))


@pytest.mark.parametrize("model", ["EQUIRECTANGULAR", "ORTHOPHOTO", "FISHEYE624", "VR180_L", "OMNIDIRECTIONALSTEREO_R"])
def test_other_models_of_nerfstudio_are_refused_by_name(model: str) -> None:
    with pytest.raises(InputError, match=f"{model} is not supported"):
        nerfstudio_lens(camera_model=model)


def test_depth_is_not_mixed_and_is_unknown_beyond_the_edge() -> None:
    lens = nerfstudio_lens(k1=0.3)  # the straight image's corners lie outside of the bent one
    depth = torch.where(places()[..., :1] < 60, 1.0, 9.0)
    straight = lens.undistort(depth, "nearest")
    assert set(straight.unique().tolist()) == {0.0, 1.0, 9.0}
    assert straight[0, 0] == 0


def test_an_image_of_another_size_is_refused_not_resized() -> None:
    with pytest.raises(InputError, match="an image is 48 x 64, its camera's 96 x 128"):
        nerfstudio_lens(k1=0.1).undistort(torch.zeros(48, 64, 3))


def test_a_lens_follows_the_size_of_its_image() -> None:
    """Half the size: the same places, at half the numbers."""
    whole = nerfstudio_lens(k1=0.1, p1=0.01)
    half = whole.at((HEIGHT // 2, WIDTH // 2))
    x, y = 0.3, -0.2
    fx, fy, cx, cy = np.array(half.intrinsics) * 2
    assert (fx, fy, cx, cy) == whole.intrinsics
    assert half.distort(np.array(x), np.array(y)) == whole.distort(np.array(x), np.array(y))


def test_a_path_takes_no_fisheye_for_a_pinhole(tmp_path: Path) -> None:
    data = {"w": 64, "h": 48, "fl_x": 40, "camera_model": "OPENCV_FISHEYE", "frames": [{"transform_matrix": EYE}]}
    (tmp_path / "t.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="OPENCV_FISHEYE has no pinhole's angle"):
        read_posed_images(tmp_path / "t.json").cameras()
