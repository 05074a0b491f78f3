"""Small depth at the size of its photo."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.geometry.depth_upsampling import EDGE_COLOUR, LEAST, sharpen_steps, smooth_by_edges, upsample_depth


def disc(size: int) -> tuple[Tensor, Tensor]:
    """A photo [3, size, size] of an orange disc before a blue wall, and its depth: 1 and 3."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    near = x.square() + y.square() < 0.3
    photo = torch.where(
        near, torch.tensor([0.9, 0.5, 0.1])[:, None, None], torch.tensor([0.1, 0.2, 0.8])[:, None, None]
    )
    return photo, torch.where(near, 1.0, 3.0)


def test_edges_follow_the_photo() -> None:
    photo, truth = disc(128)
    small = F.interpolate(truth[None, None], (16, 16), mode="area")[0, 0]
    found = upsample_depth(small, photo, 100.0)
    assert ((found < 1.3) | (found > 2.6)).all()
    assert ((found / truth).log().abs() < 0.2).float().mean() > 0.93  # the front has grown by two pixels
    assert ((found < 2)[truth == 1]).all()


def test_depth_of_the_photos_size_stays() -> None:
    photo, truth = disc(32)
    assert torch.equal(upsample_depth(truth, photo, 100.0), truth)


def test_a_plane_stays_a_plane() -> None:
    rows = torch.linspace(1, 2, 24)
    found = upsample_depth(rows[:, None].repeat(1, 24), torch.full((3, 96, 96), 0.5), 100.0)
    exact = F.interpolate(rows[None, None], 96, mode="linear")[0, 0]
    assert ((found / exact[:, None]).log().abs())[16:-16].max() < 0.02


def test_smoothing_solves_its_equation() -> None:
    values, guide = (torch.rand(n, 6, 7, generator=torch.Generator().manual_seed(n)) for n in (1, 3))
    x = smooth_by_edges(values[0], guide, 2.0).double().requires_grad_()
    energy = (x - values[0]).square().sum()
    for axis in (0, 1):
        weight = torch.exp(-guide.diff(dim=axis + 1).abs().sum(0) / EDGE_COLOUR) + LEAST
        energy = energy + 2.0 * (weight * x.diff(dim=axis).square()).sum()
    energy.backward()  # the solution is where it has no slope
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-4


def test_a_ramp_between_two_surfaces_becomes_a_step_behind_the_front_one() -> None:
    ramp = torch.cat([torch.zeros(10), torch.tensor([10.0, 20.0, 30.0]), torch.full((10,), 40.0)])
    steps = sharpen_steps(ramp.expand(1, 1, 12, -1))[0, 0, 6]
    assert set(steps.tolist()) == {0.0, 40.0}
    assert (steps.diff() >= 0).all()
    assert steps[10] == 40
    gentle = torch.arange(23.0).expand(1, 1, 12, -1)
    assert torch.equal(sharpen_steps(gentle), gentle)
