"""Loading a model for the geometry of photos: VGGT in its own public layout, or a depth-estimation model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from gen3r.checkpoints.load import load_vggt, resolve_model
from gen3r.checkpoints.weights import read_json, weight_files
from gen3r.errors import InputError
from gen3r.models.depth_estimation import ACCEPTED, DepthEstimator, depth_kind
from gen3r.models.geometry import GeometryModel, VGGTGeometry
from gen3r.models.vggt import GeometryPrediction

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_UNUSED = "fusion_stage.layers.0.residual_layer1."  # DPT's checkpoints lack it, and nothing runs it


def find_geometry(model: str | Path) -> Path:
    """The folder of a model for geometry; a Hub id is downloaded, without pickles. No tensor is read.

    Raises:
        InputError: it is neither a VGGT nor a depth-estimation model that is known, or it has no safetensors.
    """
    folder = resolve_model(model, "the folder of a VGGT or of a depth-estimation model,")
    known = _model_type(folder) is not None
    files = weight_files(folder) if any(folder.glob("*.safetensors*")) else []
    vggt = any(name.startswith("aggregator.") for file in files for name in _tensor_names(folder / file))
    if not files or not (known or vggt):
        raise InputError(f"{folder} has no geometry model in safetensors; give a VGGT alone, or {ACCEPTED}")
    if known:
        depth_kind(_depth_config(folder))
    return folder


def load_geometry(
    model: str | Path, reference: Callable[[Tensor], GeometryPrediction], torch_dtype: torch.dtype | None = None
) -> GeometryModel:
    """A model for geometry from its folder or Hub id.

    reference: the pipeline's own prediction of frames, for what a depth-estimation model leaves open. torch_dtype:
        of the weights; None means bfloat16 for VGGT, whose heads stay in float32, and float32 for the others.

    Raises:
        InputError: as `find_geometry`; or a tensor is missing, misshapen or damaged.
    """
    folder = find_geometry(model)
    if _model_type(folder) is None:
        return VGGTGeometry(load_vggt(folder, torch_dtype or torch.bfloat16))
    config = _depth_config(folder)
    bars = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        network, about = AutoModelForDepthEstimation.from_pretrained(
            folder, config=config, dtype=torch_dtype or torch.float32, use_safetensors=True, output_loading_info=True,
            **_LOCAL,
        )  # fmt: skip
        processor = None if config.model_type == "depth_pro" else AutoImageProcessor.from_pretrained(folder, **_LOCAL)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"{folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    finally:
        if bars:
            enable_progress_bar()
    missing = sorted(name for name in about["missing_keys"] if _UNUSED not in name)
    if missing:
        raise InputError(f"{folder} lacks the tensor {missing[0]} ({len(missing)} in all); fetch the model again")
    return DepthEstimator(network.eval().requires_grad_(False), processor, reference)


def _model_type(folder: Path) -> str | None:
    """transformers' name of a model's class; VGGT's own config.json has none."""
    path = folder / "config.json"
    return read_json(path).get("model_type") if path.exists() else None


def _depth_config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, **_LOCAL)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} is no model that transformers knows; give VGGT, {ACCEPTED}") from error


def _tensor_names(file: Path) -> list[str]:
    try:
        with safe_open(str(file), framework="pt") as handle:
            return list(handle.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is damaged ({error}); fetch it again") from error
