"""Tiny, untrained models of the real classes, for tests."""

import torch
from torch import Tensor
from transformers import ByT5Tokenizer

from gen3r.models.presets import build_components, tiny
from gen3r.pipeline import Gen3RPipeline


def tiny_pipeline(seed: int = 0) -> Gen3RPipeline:
    """A pipeline of random tiny models; the same seed gives the same one. Its text is read byte by byte."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = tiny()
        components = build_components(config)
        components.vggt.init_weights()
    for module in components.modules().values():
        module.eval().requires_grad_(False)
    components.tokenizer = ByT5Tokenizer()
    pipe = Gen3RPipeline(**vars(components))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents_of(pipe: Gen3RPipeline) -> Tensor:
    """What a pipeline makes of some words and one seed."""
    pipe.set_progress_bar_config(disable=True)
    made = pipe(prompt="a room", generator=torch.Generator().manual_seed(0), output_type="latent")
    assert isinstance(made, Tensor)
    return made
