"""Other skies: seen alike from every frame, and nothing else changes."""

import numpy as np
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.synthetic.skies import blend_sky, draw_skies, open_horizon
from gen3r.geometry.points import unproject


def test_only_the_sky_gets_another_colour() -> None:
    frames = torch.randint(0, 256, (2, 3, 3, 8, 8), dtype=torch.uint8)
    depth = torch.ones(2, 3, 8, 8)
    depth[:, :, :4] = 0
    skies = torch.tensor([[1.0, 0.6, 0.2], [0.0, 0.0, 0.0]])[:, None, :, None, None].expand(2, 3, 3, 8, 8)
    changed = blend_sky(frames, depth, skies, torch.tensor([1.0, 0.0]))
    assert torch.equal(changed[1], frames[1])
    assert torch.equal(changed[0, :, :, 5:], frames[0, :, :, 5:])
    assert (changed[0, :, :, :3] == torch.tensor([255, 153, 51])[:, None, None]).all()
    half = blend_sky(frames, depth, skies, torch.tensor([0.5, 0.0]))[0, :, :, :3].float()
    middle = (frames[0, :, :, :3].float() + changed[0, :, :, :3]) / 2
    assert (half - middle).abs().max() <= 0.5


def test_an_open_horizon_takes_what_is_far_from_all_frames() -> None:
    cameras = Cameras.from_fov(torch.eye(4).repeat(2, 1, 1), 1.0, 8, 8)
    T = cameras.T_world_camera.clone()
    T[1, 2, 3] = 1.0  # the second frame is one unit nearer
    depth = torch.tensor([2.0, 3, 4, 5, 6, 7, 8, 0]).view(8, 1).expand(2, 8, 8).clone()
    depth[1] -= (depth[1] > 0).float()
    path = T[None], cameras.K_px[None]
    far = (unproject(depth, T, cameras.K_px)).norm(dim=-1)
    opened = open_horizon(depth[None], *path, torch.tensor([0.5]))[0]
    limit = far[0][depth[0] > 0].quantile(0.5)
    assert torch.equal(opened, torch.where(far > limit, 0, depth))
    assert 0.4 < (opened[0] > 0).sum() / (depth[0] > 0).sum() < 0.6
    assert torch.equal(open_horizon(depth[None], *path, torch.tensor([1.0]))[0], depth)
    indoors = depth[None].clamp_min(1)
    assert torch.equal(open_horizon(indoors, *path, torch.tensor([0.5])), indoors)


def test_a_sky_is_the_same_from_every_frame() -> None:
    direction = torch.nn.functional.normalize(torch.randn(6, 1, 3, 8, 10), dim=2)
    skies = draw_skies(np.random.default_rng(0), torch.cat([direction, direction.flip(-1)], dim=1))
    assert torch.allclose(skies[:, 0], skies[:, 1].flip(-1), atol=1e-6)
    assert 0 <= skies.min() < skies.max() <= 1
    across = skies[:, 0].flatten(2).std(-1).mean(-1)
    assert across.max() > 10 * across.min()  # some are all of one colour, some are not
