"""Models that see the geometry of photos in place of the pipeline's own VGGT."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gen3r.cameras.conventions import decode_pose
from gen3r.checkpoints.geometry import load_geometry
from gen3r.errors import InputError
from gen3r.media.images import resize
from gen3r.models.depth_estimation import (
    DepthEstimator,
    depth_from_relative,
    depth_kind,
    depth_pro_side,
    depth_ratio,
    zoedepth_margin,
)
from gen3r.models.geometry import VGGTGeometry, patch_size, resize_maps
from gen3r.models.vggt import VGGT, GeometryPrediction
from tests.depth_models import MODELS, SIDE, save_depth_model, save_vggt
from tests.tiny import tiny_pipeline

RELATIVE = [name for name, (*_, kind) in MODELS.items() if kind == "relative"]
METRIC = [name for name, (*_, kind) in MODELS.items() if kind == "metric"]


def photos(count: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Smooth random photos [1, n, 3, H, W] in whole 255ths, as files hold them."""
    noise = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return (255 * smooth).round()[None] / 255


def reference(frames: Tensor) -> GeometryPrediction:
    return tiny_pipeline().predict_geometry(resize(frames, 56, 56))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("depth")
    for name in MODELS:
        save_depth_model(name, root / name)
    return root


def estimator(folder: Path, name: str) -> DepthEstimator:
    model = load_geometry(folder / name, reference)
    assert isinstance(model, DepthEstimator)
    return model


class TestRelativeDepth:
    @given(st.floats(0.1, 50), st.floats(-2, 5), st.floats(1.6, 4.5), st.integers(0, 9))
    def test_scale_and_shift_are_recovered(self, scale: float, shift: float, far: float, seed: int):
        """The true depth up to its unit, with a far end at 1.6 to 4.5 median depths."""
        generator = torch.Generator().manual_seed(seed)
        inverse = torch.rand(20, 30, generator=generator)
        median = inverse.median()
        inverse = 1 + (inverse - median) / (median - inverse.flatten().quantile(0.01)) * (1 - 1 / far)
        depth = depth_from_relative(scale * inverse + shift, 1 / inverse)
        assert torch.allclose(depth, 1 / inverse, rtol=2e-3)

    @given(st.integers(0, 9), st.floats(0.1, 10))
    def test_whatever_the_reference_the_order_stays_and_depth_is_positive(self, seed: int, unit: float):
        generator = torch.Generator().manual_seed(seed)
        relative, noise = torch.rand(2, 20, 30, generator=generator)
        depth = depth_from_relative(relative, unit * (0.1 + noise))
        assert (depth > 0).all()
        order = relative.flatten().argsort()
        assert (depth.flatten()[order].diff() <= 1e-6 * depth.max()).all()
        assert depth.median() == pytest.approx(float((unit * (0.1 + noise)).median()), rel=0.02)
        assert depth.max() / depth.median() == pytest.approx(3.25, abs=1.8)

    def test_a_constant_gives_a_flat_wall(self):
        depth = depth_from_relative(torch.full((4, 5), 3.0), torch.full((4, 5), 2.0))
        assert torch.allclose(depth, torch.full((4, 5), 2.0))


def test_the_ratio_of_depths_resists_outliers():
    depth = torch.rand(30, 40, generator=torch.Generator().manual_seed(0)) + 0.5
    wrong = depth.clone()
    wrong[:, :12] = 100  # a sky
    assert depth_ratio(2.5 * depth, depth) == pytest.approx(2.5)
    assert depth_ratio(2.5 * depth, wrong) == pytest.approx(2.5)
    assert depth_ratio(2.5 * wrong, depth) == pytest.approx(2.5)


class TestDepthEstimators:
    @pytest.mark.parametrize("name", MODELS)
    def test_each_kind_is_known_and_complete(self, folder: Path, name: str):
        model = estimator(folder, name)
        assert model.kind == MODELS[name][2]
        frames = photos(2, 70, 98)
        got = model.predict(frames)
        assert got.depth.shape == got.depth_confidence.shape == (1, 2, 70, 98)
        assert got.depth.isfinite().all()
        assert (got.depth > 0).all()
        assert got.depth.std() > 1e-4
        own = reference(frames)
        assert torch.equal(got.pose_enc[-1, ..., :7], own.pose_enc[-1, ..., :7])
        assert (got.metres_per_unit is None) == (model.kind == "relative")

    @pytest.mark.parametrize("name", RELATIVE)
    def test_relative_models_say_near_with_high_numbers(self, folder: Path, name: str):
        model, frames = estimator(folder, name), photos(1)
        raw, fov = model.estimate(frames[0, 0], SIDE, SIDE)
        depth = model.predict(frames).depth[0, 0]
        assert fov is None
        assert (
            torch.equal(raw.flatten().argsort()[:5], (-depth).flatten().argsort()[:5]) or (raw == raw.min()).sum() > 5
        )
        assert torch.corrcoef(torch.stack([raw.flatten(), 1 / depth.flatten()]))[0, 1] > 0.99

    @pytest.mark.parametrize("name", METRIC)
    def test_metric_models_keep_their_metres(self, folder: Path, name: str):
        """All frames share one unit, that of the cameras."""
        model, frames = estimator(folder, name), photos(2)
        raw = torch.stack([model.estimate(frame, *frame.shape[-2:])[0] for frame in frames[0]]).clamp_min(1e-4)
        got = model.predict(frames)
        assert got.metres_per_unit is not None
        assert torch.allclose(got.metres_per_unit[0] * got.depth[0], raw, rtol=1e-4)
        own = resize_maps(reference(frames), SIDE, SIDE)
        assert depth_ratio(got.depth, own.depth) == pytest.approx(1, rel=1e-4)

    @pytest.mark.parametrize(
        ("name", "side"), [("depth anything", SIDE), ("metric depth anything", SIDE), ("midas", 64)]
    )
    def test_the_output_is_that_of_transformers(self, folder: Path, name: str, side: int):
        model, frame = estimator(folder, name), photos(1, side, side)[0, 0]
        array = (255 * frame).round().byte().permute(1, 2, 0).numpy()
        outputs = model.model(**model.processor(images=array, return_tensors="pt"))
        [theirs] = model.processor.post_process_depth_estimation(outputs, target_sizes=[(side, side)])
        assert torch.allclose(model.estimate(frame, *frame.shape[-2:])[0], theirs["predicted_depth"], atol=1e-5)

    def test_depth_pro_gives_metres_and_the_focal_length(self, folder: Path):
        model = estimator(folder, "depth pro")
        side = depth_pro_side(model.model.config)
        frames = photos(2, side, side)
        outputs = model.model(pixel_values=2 * frames[0] - 1)
        got = model.predict(frames)
        fov = outputs.field_of_view.clamp(1, 179).deg2rad()
        assert torch.allclose(got.pose_enc[0, 0, :, 7:], fov[:, None].expand(-1, 2), rtol=1e-4)
        focal = side / 2 / torch.tan(fov / 2)
        [inverse] = torch.nn.functional.interpolate(outputs.predicted_depth[None], (side, side), mode="bilinear")
        metres = 1 / (inverse * (side / focal)[:, None, None]).clamp(1e-4, 1e4)
        assert got.metres_per_unit is not None
        assert torch.allclose(got.metres_per_unit[0] * got.depth[0], metres, rtol=1e-3)

    def test_depth_pros_pixels_are_square(self, folder: Path):
        got = estimator(folder, "depth pro").predict(photos(1, 42, 84))
        _, K = decode_pose(got.pose_enc[-1], 42, 84)
        assert torch.allclose(K[..., 0, 0], K[..., 1, 1], rtol=1e-4)

    def test_zoedepths_margin_is_that_of_its_processor(self):
        processor = MODELS["zoedepth"][1]
        padded = processor.pad_image(np.zeros((3, 50, 90), np.float32))
        assert padded.shape[1:] == (50 + 2 * zoedepth_margin(50), 90 + 2 * zoedepth_margin(90))

    def test_an_unknown_kind_is_refused(self):
        from transformers import PromptDepthAnythingConfig

        with pytest.raises(InputError, match="prompt_depth_anything"):
            depth_kind(PromptDepthAnythingConfig())


class TestVGGT:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> tuple[Path, VGGT]:
        return tmp_path / "vggt", save_vggt(tmp_path / "vggt")

    def test_it_is_loaded_whole_without_its_track_head(self, saved: tuple[Path, VGGT]):
        folder, vggt = saved
        model = load_geometry(folder, reference, torch.float32)
        assert isinstance(model, VGGTGeometry)
        frames = photos(3, 56, 84)
        expected = vggt(frames)
        got = model.predict(frames)
        assert torch.allclose(got.depth, expected.depth, rtol=1e-5)
        assert torch.equal(got.pose_enc, expected.pose_enc)

    def test_bfloat16_is_the_default_and_heads_stay_exact(self, saved: tuple[Path, VGGT]):
        model = load_geometry(saved[0], reference)
        assert isinstance(model, VGGTGeometry)
        types = {name.split(".")[0]: p.dtype for name, p in model.vggt.named_parameters()}
        assert types == {
            "aggregator": torch.bfloat16, "camera_head": torch.float32, "point_head": torch.float32,
            "depth_head": torch.float32,
        }  # fmt: skip
        got, exact = model.predict(photos(2)), saved[1](photos(2))
        assert got.depth.dtype == torch.float32
        assert torch.allclose(got.depth, exact.depth, rtol=0.05)

    def test_a_photo_of_any_size_is_seen_whole(self, saved: tuple[Path, VGGT]):
        model, vggt = load_geometry(saved[0], reference, torch.float32), saved[1]
        frames = photos(1, 100, 150)
        got, expected = model.predict(frames), vggt(resize(frames, 98, 154))
        assert got.depth.shape == (1, 1, 98, 154)
        assert torch.allclose(got.depth, expected.depth, rtol=1e-5)
        assert torch.allclose(got.pose_enc, expected.pose_enc, atol=1e-6)

    @pytest.mark.parametrize(
        ("size", "expected"),
        [((518, 518), (518, 518)), ((1080, 1920), (294, 518)), ((280, 392), (280, 392)), ((3, 9000), (14, 518))],
    )
    def test_the_size_that_it_looks_at(self, size: tuple[int, int], expected: tuple[int, int]):
        assert patch_size(*size) == expected


def test_maps_change_their_size_and_keep_their_edges():
    depth = torch.ones(1, 1, 8, 8)
    depth[..., 4:] = 3
    prediction = GeometryPrediction(depth, torch.ones_like(depth), torch.zeros(1, 1, 1, 9))
    small = resize_maps(prediction, 4, 4)
    assert small.depth.unique().tolist() == [1, 3]
    large = resize_maps(prediction, 16, 16)
    assert large.depth[0, 0, 0].tolist() == pytest.approx([1] * 7 + [1.5, 2.5] + [3] * 7, abs=0.51)
    assert resize_maps(prediction, 8, 8) is prediction
    assert math.isclose(float(large.depth.mean()), 2, rel_tol=0.01)
