"""The two autoencoders and their Gaussians."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from gen3r.models.adapter import GeometryAdapter
from gen3r.models.gaussian import DiagonalGaussian
from gen3r.models.presets import tiny
from gen3r.models.video_vae import VideoVAE


def test_kl_is_that_of_torch() -> None:
    a, b = (DiagonalGaussian(torch.randn(3, 4), torch.randn(3, 4)) for _ in range(2))
    normal = [torch.distributions.Normal(g.mean, (0.5 * g.logvar).exp()) for g in (a, b)]
    torch.testing.assert_close(a.kl_to(b), torch.distributions.kl_divergence(*normal))
    assert a.kl_to(a).abs().max() < 1e-6


def test_samples_follow_the_generator() -> None:
    g = DiagonalGaussian(torch.full((20000,), 3.0), torch.full((20000,), 2 * 0.5**0.5))
    first, second = (g.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.mean().item() == pytest.approx(3, abs=0.05)
    assert first.std().item() == pytest.approx(torch.exp(torch.tensor(0.5**0.5)).item(), rel=0.02)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 56, 56), (5, 56, 112), (9, 112, 56)])
def test_video_vae_shapes(frames: int, height: int, width: int) -> None:
    vae = VideoVAE(**tiny().vae)
    posterior = vae.encode_video(torch.rand(2, 3, frames, height, width) * 2 - 1)
    assert posterior.mean.shape == (2, 16, 1 + (frames - 1) // 4, height // 8, width // 8)
    decoded = vae.decode_latents(posterior.mean)
    assert decoded.shape == (2, 3, frames, height, width)
    decoded.sum().backward()
    silent = {n for n, p in vae.decoder.named_parameters() if p.grad is None}
    assert silent == (set() if frames > 1 else {n for n in silent if "time_conv" in n})


def test_video_vae_never_looks_ahead_and_normalises() -> None:
    config = {**tiny().vae, "latents_mean": [1.0] * 16, "latents_std": [2.0] * 16}
    torch.manual_seed(0)
    vae, video = VideoVAE(**config).eval(), torch.rand(1, 3, 9, 56, 56)
    later = video.clone()
    later[:, :, 5:] = 0
    with torch.no_grad():
        before, after = vae.encode_video(video), vae.encode_video(later)
        torch.testing.assert_close(before.mean[:, :, :2], after.mean[:, :, :2])
        raw = vae.encode(video).latent_dist.mean
        torch.testing.assert_close(before.mean, (raw - 1) / 2)
        clamped = AutoencoderKLWan._decode(vae, raw).sample
        torch.testing.assert_close(vae.decode_latents(before.mean).clamp(-1, 1), clamped, atol=1e-5, rtol=1e-4)


def test_tiling_and_slicing_reach_decode_latents() -> None:
    torch.manual_seed(0)
    vae, latents = VideoVAE(**tiny().vae).eval(), torch.randn(2, 16, 2, 14, 14)
    with torch.no_grad():
        whole = vae.decode_latents(latents)
        vae.enable_slicing()
        torch.testing.assert_close(vae.decode_latents(latents), whole, atol=1e-4, rtol=1e-3)
        vae.enable_tiling(64, 64, 48, 48)
        tiled = vae.decode_latents(latents[:1])
        torch.testing.assert_close(tiled, vae.tiled_decode(latents[:1]).sample)
    assert tiled.shape == whole[:1].shape
    assert not torch.equal(tiled, whole[:1])


@pytest.mark.parametrize(("frames", "grid"), [(1, (4, 4)), (5, (8, 4)), (9, (4, 8))])
def test_adapter_shapes(frames: int, grid: tuple[int, int]) -> None:
    adapter = GeometryAdapter(**tiny().geo_adapter)
    posterior = adapter.encode(torch.randn(2, 320, frames, *grid))
    h, w = grid
    assert posterior.mean.shape == (2, 16, 1 + (frames - 1) // 4, 7 * h // 4, 7 * w // 4)
    decoded = adapter.decode(posterior.mean)
    assert decoded.shape == (2, 320, frames, h, w)
    decoded.sum().backward()
    assert adapter.conv_tokens_in.weight.grad is not None


def test_adapter_streams_in_time() -> None:
    torch.manual_seed(0)
    adapter, tokens = GeometryAdapter(**tiny().geo_adapter).eval(), torch.randn(1, 320, 9, 4, 4)
    with torch.no_grad():
        whole, start = adapter.encode(tokens).mean, adapter.encode(tokens[:, :, :5]).mean
    torch.testing.assert_close(whole[:, :, :2], start)


def test_adapter_refuses_other_grids() -> None:
    adapter = GeometryAdapter(**tiny().geo_adapter)
    for shape in ((4, 4, 4), (5, 3, 4)):
        with pytest.raises(ValueError, match="4k"):
            adapter.encode(torch.randn(1, 320, *shape))
