"""The adapter stage: what pulls the latents, what it runs, and when."""

from copy import deepcopy
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from gen3r.data.shards import ClipShards
from gen3r.models.components import Components
from gen3r.models.vggt import VGGT
from gen3r.training.stages.adapter import SHIFT_WEIGHT, AdapterStage
from gen3r.training.stages.config import AdapterConfig
from tests.tiny import tiny_pipeline
from tests.training.stages import tiny_stage


def test_making_the_stage_runs_no_model(training_data: Path) -> None:
    components, clips = Components(**tiny_pipeline().components), ClipShards(training_data / "clips")
    with mock.patch.object(VGGT, "tokens", side_effect=AssertionError("VGGT runs")):
        AdapterStage(components, clips, AdapterConfig(frames=(5,)))


def test_the_alignment_pulls_by_its_weight(training_data: Path) -> None:
    stage = tiny_stage("adapter", training_data)
    batch = stage.make_batch(np.random.default_rng(0), 5)
    losses = {}
    for weight in (0.0, 0.1):
        torch.manual_seed(0)
        with mock.patch.object(stage, "alignment_weight", lambda kl, total, weight=weight: weight):
            loss, report = stage(batch)
        losses[weight] = loss.item()
    assert losses[0.1] - losses[0.0] == pytest.approx(0.1 * report["kl"].item(), rel=1e-3)


def test_an_adapter_is_drawn_to_the_latents_of_the_one_before(training_data: Path) -> None:
    components, clips = Components(**tiny_pipeline().components), ClipShards(training_data / "clips")
    vggt, adapter = components.vggt, components.geo_adapter
    before = deepcopy((vggt, adapter))
    spread = torch.linspace(0.5, 2, 16)
    before[1].register_to_config(latents_mean=(0.3,) * 16, latents_std=tuple(spread.tolist()))
    adapter.register_to_config(latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16)  # not measured before it is trained
    stage = AdapterStage(components, clips, AdapterConfig(frames=(5,)), before)
    batch = stage.make_batch(np.random.default_rng(0), 5)

    def trained() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        return stage(batch)

    assert trained()[1]["shift"] < 1e-10
    with torch.no_grad():
        adapter.quant_conv.bias[:16] += 0.1
    loss, report = trained()
    loss.backward()
    assert report["shift"].item() == pytest.approx((0.1 / spread).square().mean().item(), rel=1e-4)
    assert {n.split(".")[0] for n, p in stage.named_parameters() if p.grad is not None} == {"geo_adapter"}
    stage.before = nn.ModuleList()
    assert loss.item() - trained()[0].item() == pytest.approx(SHIFT_WEIGHT * report["shift"].item(), rel=1e-3)
