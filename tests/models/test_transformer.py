"""The transformer and its conditioning."""

import copy

import pytest
import torch

from gen3r.errors import InputError
from gen3r.models.conditioning import camera_condition, control_latents, free_cameras, known_latents
from gen3r.models.presets import tiny
from gen3r.models.transformer import RESIDUAL, Gen3RTransformer, SharedColumnRope, precondition_around_warp
from gen3r.models.video_vae import VideoVAE
from tests.poses import random_cameras


@pytest.fixture(scope="module")
def transformer() -> Gen3RTransformer:
    torch.manual_seed(0)
    model = Gen3RTransformer(**tiny().transformer)
    model.init_weights()
    torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    torch.nn.init.normal_(model.camera_branch.residual.conv2.weight, std=0.1)
    return model


def inputs(h: int = 4, w: int = 6) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    shapes = [(2, 16, 2, h, 2 * w), (2,), (2, 7, 16), (2, 5, 16), (2, 20, 2, h, 2 * w), (2, 24, 2, 8 * h, 16 * w)]
    made = [torch.randn(s, generator=g) for s in shapes]
    made[1] = torch.tensor([1000.0, 20.0])
    return made


def test_shape_and_gradients(transformer: Gen3RTransformer) -> None:
    velocity = transformer(*inputs())
    assert velocity.shape == (2, 16, 2, 4, 12)
    velocity.square().sum().backward()
    assert [n for n, p in transformer.named_parameters() if p.grad is None] == []
    transformer.zero_grad()


def test_clips_longer_or_larger_than_the_positions_are_refused() -> None:
    rope = SharedColumnRope(16, (1, 2, 2), 8)
    cos, _ = rope(torch.zeros(1, 4, 8, 16, 32))
    assert cos.shape[1] == 8 * 8 * 16
    for shape in ((9, 2, 4), (1, 18, 4), (1, 2, 36)):
        with pytest.raises(InputError, match="8 positions along each axis; make at most 29 frames, of at most 128 pix"):
            rope(torch.zeros(1, 4, *shape))


def test_gradient_checkpointing_changes_nothing(transformer: Gen3RTransformer) -> None:
    plain = transformer(*inputs())
    transformer.enable_gradient_checkpointing()
    torch.testing.assert_close(transformer(*inputs()), plain)
    transformer.disable_gradient_checkpointing()


def test_both_halves_share_their_columns(transformer: Gen3RTransformer) -> None:
    """With the halves exchanged in every input the output is exchanged too: nothing but content tells them apart."""
    transformer = copy.deepcopy(transformer)
    for name, parameter in transformer.camera_branch.named_parameters():
        if name.endswith("bias"):  # its 3x3 convolutions see the picture's edge; silent, nothing else does
            torch.nn.init.zeros_(parameter)
    given = inputs()
    given[5] = torch.zeros_like(given[5])
    swapped = [x.roll(x.shape[-1] // 2, -1) if x.ndim == 5 else x for x in given]
    with torch.no_grad():
        ours, theirs = transformer(*given), transformer(*swapped)
    torch.testing.assert_close(ours.roll(6, -1), theirs, atol=1e-4, rtol=1e-4)


def test_columns_within_a_half_differ(transformer: Gen3RTransformer) -> None:
    cos, _ = transformer.rope(torch.zeros(1, 16, 2, 4, 12))
    columns = cos.view(2, 2, 6, -1)[0, 0]
    assert torch.equal(columns[:3], columns[3:])
    assert (columns[0] - columns[1]).abs().max() > 1e-3


@pytest.mark.parametrize("changed", range(2, 6))
def test_every_condition_is_heard(transformer: Gen3RTransformer, changed: int) -> None:
    given = inputs()
    with torch.no_grad():
        before = transformer(*given)
        given[changed] = -given[changed]
        assert (transformer(*given) - before).abs().max() > 1e-4


def test_control_latents_mark_the_given_frames() -> None:
    torch.manual_seed(0)
    vae, frames = VideoVAE(**tiny().vae), torch.rand(1, 9, 3, 56, 56)
    given = torch.zeros(1, 9, dtype=torch.bool)
    given[:, [0, 8]] = True
    control = control_latents(vae, frames, given)
    assert control.shape == (1, 20, 3, 7, 14)
    assert control[..., 7:].abs().max() == 0
    mask = control[0, 16:, :, 0, 0]
    assert mask.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]]
    hidden = frames.clone()
    hidden[:, 1:8] = 0.5
    torch.testing.assert_close(control_latents(vae, hidden, given), control)
    assert (control_latents(vae, torch.rand_like(frames), given) - control).abs().max() > 1e-4


def test_renders_stand_in_frames_that_are_not_given_and_the_mask_beside_says_where() -> None:
    torch.manual_seed(0)
    vae, frames = VideoVAE(**tiny().vae), torch.rand(1, 5, 3, 56, 56)
    given = torch.tensor([[True, False, False, False, False]])
    known = torch.ones(1, 5, 56, 56, dtype=torch.bool)
    known[:, 2, :, 28:] = False
    geometry = torch.randn(1, 16, 2, 7, 7)
    control = control_latents(vae, frames, given, geometry, known)
    with torch.no_grad():
        latents = vae.encode_video((2 * frames - 1).transpose(1, 2)).mean
    torch.testing.assert_close(control[:, :16], torch.cat([latents, geometry], dim=-1))
    assert control[0, 16:, :, 0, 0].tolist() == [[1, 0], [1, 0], [1, 0], [1, 0]]
    assert (control[0, 16:, 0, :, 7:] == 1).all()
    assert control[0, 16:, 1, 0, 7:].tolist() == [[1] * 7, [1, 1, 1, 0.5, 0, 0, 0], [1] * 7, [1] * 7]
    held, where = known_latents(control)
    assert torch.equal(held, control[:, :16])
    assert torch.equal(where.nonzero()[:, 2].unique(), torch.tensor([0]))  # the first latent, of the left half alone
    assert where.sum() == 7 * 7


def test_camera_condition_ignores_the_world_and_doubles_the_width() -> None:
    cameras = random_cameras(4, 5, 16, 24)
    T, K = cameras.T_world_camera[None], cameras.K_px[None]
    rays = camera_condition(T, K, 16, 24)
    assert rays.shape == (1, 24, 2, 16, 48)
    assert torch.equal(rays[..., :24], rays[..., 24:])
    moved = random_cameras(9, 1).T_world_camera[0] @ T
    torch.testing.assert_close(camera_condition(moved, K, 16, 24), rays, atol=1e-4, rtol=1e-4)
    assert rays[0, :12, 0].abs().max() < 1e-5  # the first camera sits at the origin: no moment
    free = free_cameras(1, 5, 16, 24, rays.device)
    assert free.shape == rays.shape
    assert not free.any()


@pytest.mark.parametrize("sigma", [0.02, 0.3, 0.8, 1.0])
def test_around_warped_views_the_velocity_is_the_best_linear_estimate(sigma: float) -> None:
    """The rest has unit variance, and does not correlate with the latents that the estimate is made from."""
    g = torch.Generator().manual_seed(0)
    warped, residual, noise = (torch.randn(1, 16, 4, 40, 80, generator=g) for _ in range(3))
    sample = warped + RESIDUAL * residual
    latents = (1 - sigma) * sample + sigma * noise
    control = torch.cat([warped, torch.ones_like(warped[:, :4])], dim=1)
    timestep = torch.tensor([1000 * sigma])
    estimate = precondition_around_warp(torch.zeros_like(warped), latents, timestep, control)
    unit = precondition_around_warp(torch.ones_like(warped), latents, timestep, control) - estimate
    rest = (noise - sample - estimate) / unit
    assert rest.std().item() == pytest.approx(1, abs=0.01)
    assert abs((rest * (latents - (1 - sigma) * warped)).mean().item()) < 0.01


def test_without_warped_views_the_velocity_is_the_output_of_the_network() -> None:
    latents, _, _, _, control, _ = inputs()
    control[:, 16:] = 0
    control[0, 16:, 1, :, 6:] = 0.5  # the geometry half's mask counts for both halves
    control[:, 16:, :, :, :6] = 1  # the appearance half's marks conditioning frames, and does not count
    network = torch.randn_like(latents)
    velocity = precondition_around_warp(network, latents, torch.tensor([300.0, 700.0]), control)
    assert torch.equal(velocity[1], network[1])
    assert torch.equal(velocity[0, :, 0], network[0, :, 0])
    assert ((velocity - network)[0, :, 1].abs() > 0).float().mean() > 0.99


def test_a_transformer_of_warped_views_is_preconditioned_around_them(transformer: Gen3RTransformer) -> None:
    other = Gen3RTransformer(**tiny().transformer, unseen_frames="warped")
    other.load_state_dict(transformer.state_dict())
    given = inputs()
    with torch.no_grad():
        network = transformer(*given)
        assert torch.equal(other(*given), precondition_around_warp(network, given[0], given[1], given[4]))
