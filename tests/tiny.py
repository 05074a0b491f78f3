"""Tiny, untrained models of the real classes, for tests."""

import torch
from transformers import ByT5Tokenizer

from gen3r.models.presets import build_components, build_scheduler, tiny
from gen3r.pipeline import Gen3RPipeline


def tiny_pipeline(seed: int = 0) -> Gen3RPipeline:
    """A pipeline of random tiny models; the same seed gives the same one. Its text is read byte by byte."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = tiny()
        modules = build_components(config)
        modules["vggt"].init_weights()  # pyright: ignore[reportCallIssue]
    for module in modules.values():
        module.eval().requires_grad_(False)
    pipe = Gen3RPipeline(
        **modules,
        tokenizer=ByT5Tokenizer(),
        scheduler=build_scheduler(config),
        defaults=config.defaults,  # pyright: ignore[reportArgumentType]
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
