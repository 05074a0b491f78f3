"""Time and memory of the published size with random weights: plain, and with each feature for speed and memory.

    python benchmarks/published.py [--device cuda] [--frames 49 97] [--minutes 8] [--out runs/published.csv] [--tiny]
        [--only NAME ...]

Each row makes a scene from a photo and a named path. `encode`, `step` and `decode` are its stages; `whole` is their sum
for all steps of the model, where a row has not run them all. `peak` is the most memory, of the device or of this
process. `change` is the root mean square of what a row changes in the latents of `plain`, over that of the latents.
A row that fails gives its error. A row that does not fit into the minutes that are left is skipped. --tiny runs tiny
models, on any machine.
"""

import argparse
import csv
import gc
import itertools
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend
from diffusers.utils import logging
from torch import Tensor
from transformers import ByT5Tokenizer

from gen3r.models import presets
from gen3r.pipeline import Gen3RPipeline

STEPS = 4  # of a row that does not need all of the model's
BUILDING = 5.0  # seconds in which a pipeline is there


@dataclass(frozen=True)
class Scenario:
    """A row: what is done to a pipeline before it generates.

    frames: of the clip. steps: None measures a few, and counts the rest. host: weights start in the memory of the
    host. warm: a run before the one that counts. cost: how often the plain row's time it may take. fast: as in a
    request.
    """

    name: str
    prepare: Callable[[Gen3RPipeline, torch.device], None] | None
    frames: int
    steps: int | None = None
    host: bool = False
    warm: bool = False
    cost: float = 1.0
    fast: bool = False


@dataclass(frozen=True)
class Row:
    """What came out: seconds, GiB, and the change of the latents; or why not."""

    scenario: str
    frames: int
    steps: int
    encode: float | None = None
    step: float | None = None
    decode: float | None = None
    whole: float | None = None
    peak: float | None = None
    change: float | None = None
    note: str = ""


def random_pipeline(
    config: presets.ModelConfig, device: torch.device, dtype: torch.dtype, host: bool = False
) -> Gen3RPipeline:
    """A pipeline of random weights, the same ones each time, made on the device; with `host`, they lie on the host."""
    place = torch.device("cpu") if host else device
    with init_empty_weights(include_buffers=False):
        components = presets.build_components(config)
    generator = torch.Generator(device).manual_seed(0)
    for module in components.modules().values():
        exact = tuple(f"{name}." for name in getattr(module, "_keep_in_fp32_modules", None) or ())
        for name, empty in list(module.named_parameters()):
            kind = torch.float32 if exact and name.startswith(exact) else dtype
            value = torch.zeros(empty.shape, device=device, dtype=kind)
            if name.endswith("gamma") or (empty.ndim == 1 and name.endswith("weight")):
                value.fill_(1)
            elif empty.ndim > 1:
                value.normal_(std=empty[0].numel() ** -0.5, generator=generator)
            set_module_tensor_to_device(module, name, place, value=value, dtype=kind)
        module.eval().requires_grad_(False).to(place)
    head = components.vggt.camera_head.pose_branch.fc2
    head.weight.mul_(0.1)
    head.bias[-2:] = 0.25  # a field of view that is one, after four rounds
    components.text_encoder.tie_weights()
    components.tokenizer = ByT5Tokenizer()
    pipe = Gen3RPipeline(**vars(components))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def scenarios(frames: list[int], steps: int, compile_backend: str) -> Iterator[Scenario]:
    """The rows, the most important ones first. frames: of the clips; the first length has every row."""
    first, *longer = frames

    def backend(name: str) -> Callable[[Gen3RPipeline, torch.device], None]:
        def prepare(pipe: Gen3RPipeline, device: torch.device) -> None:
            for module in (pipe.transformer, pipe.vggt):
                module.set_attention_backend(name)

        return prepare

    def compiled(pipe: Gen3RPipeline, device: torch.device) -> None:
        for module in (pipe.transformer, pipe.vggt):
            module.compile_repeated_blocks(backend=compile_backend, fullgraph=True)

    def cache(config: Callable[[Gen3RPipeline], Any]) -> Callable[[Gen3RPipeline, torch.device], None]:
        return lambda pipe, device: pipe.transformer.enable_cache(config(pipe))

    def blocks(pipe: Gen3RPipeline, device: torch.device) -> None:
        stream = device.type == "cuda"
        pipe.enable_group_offload(device, offload_type="block_level", num_blocks_per_group=1, use_stream=stream)

    def layers(pipe: Gen3RPipeline, device: torch.device) -> None:
        pipe.enable_group_offload(device, offload_type="leaf_level", use_stream=device.type == "cuda")

    def eight_bits(pipe: Gen3RPipeline, device: torch.device) -> None:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        for module in (pipe.transformer, pipe.text_encoder, pipe.image_encoder):
            quantize_(module, Int8WeightOnlyConfig())

    def models(pipe: Gen3RPipeline, device: torch.device) -> None:
        pipe.enable_model_cpu_offload(device=str(device) if device.index is not None else f"{device}:0")

    yield Scenario("plain", None, first, warm=True, cost=2)
    for more in longer:
        yield Scenario("plain", None, more)
    yield Scenario("compiled blocks", compiled, first, warm=True, cost=3)
    for name in AttentionBackendName:
        if "hub" not in name.value and "varlen" not in name.value:  # downloaded; for sequences of unequal length
            yield Scenario(f"attention {name.value}", backend(name.value), first)
    yield Scenario("float8 weights", lambda pipe, device: pipe.enable_layerwise_casting(), first)
    yield Scenario("8-bit weights", eight_bits, first)
    yield Scenario("offload of models", models, first, host=True, cost=3)
    yield Scenario("offload of blocks", blocks, first, host=True, cost=3)
    yield Scenario("offload of layers", layers, first, host=True, cost=4)
    yield Scenario("VAE in tiles", lambda pipe, device: pipe.vae.enable_tiling(), first)
    yield Scenario(
        "FirstBlockCache 0.05", cache(lambda pipe: diffusers.FirstBlockCacheConfig(threshold=0.05)), first, steps
    )
    calibrate = diffusers.MagCacheConfig(num_inference_steps=steps, calibrate=True)
    yield Scenario("MagCache, calibration", cache(lambda pipe: calibrate), first, steps)
    for length in frames:
        yield Scenario("fast", None, length, steps, fast=True)
    for more in longer:
        yield Scenario("offload of blocks", blocks, more, host=True, cost=3)
        yield Scenario("compiled blocks", compiled, more, warm=True, cost=3)


class Clock:
    """The times of a call: its start, its first step, and the end of each step."""

    def __init__(self, pipe: Gen3RPipeline, device: torch.device) -> None:
        self.device = device
        self.handle = pipe.transformer.register_forward_pre_hook(self.begin)
        self.times = [self.now()]

    def begin(self, *_: Any) -> None:
        """Notes the start of the first step."""
        self.handle.remove()
        self.times.append(self.now())

    def now(self) -> float:
        """The time when all work of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __call__(self, pipe: Gen3RPipeline, step: int, t: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Notes the end of a step."""
        self.times.append(self.now())
        return {}


def reset_peak(device: torch.device) -> None:
    """Begins to look for the most memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # then the peak is that of all rows so far
        return


def peak_gib(device: torch.device) -> float:
    """The most memory of the device, or of this process, since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def measure(pipe: Gen3RPipeline, scenario: Scenario, device: torch.device) -> tuple[Row, Tensor]:
    """A row and its latents."""
    frames, own = scenario.frames, pipe.defaults["num_inference_steps"]
    steps = scenario.steps or STEPS
    height, width = pipe.defaults["height"], pipe.defaults["width"]
    photo = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))

    def run() -> tuple[Tensor, list[float]]:
        clock = Clock(pipe, device)
        latents = pipe(
            photo, "a room", "orbit_left", num_frames=frames, num_inference_steps=steps, fast=scenario.fast,
            output_size=0, generator=torch.Generator().manual_seed(0), output_type="latent",
            callback_on_step_end=clock,
        )  # fmt: skip
        assert isinstance(latents, Tensor)
        pipe.decode(latents)
        return latents.cpu(), [*clock.times, clock.now()]

    if scenario.warm:
        run()
    reset_peak(device)
    latents, times = run()
    encode, *every, decode = (b - a for a, b in itertools.pairwise(times))
    step = statistics.median(every[1:])
    whole = encode + (sum(every) if scenario.steps else own * step) + decode
    return Row(scenario.name, frames, steps, encode, step, decode, whole, peak_gib(device)), latents


def run_all(args: argparse.Namespace) -> Iterator[Row]:
    """Every row, as soon as it is there."""
    deadline = time.perf_counter() + 60 * args.minutes
    device, config = torch.device(args.device), presets.published()
    if args.tiny:
        config = replace(presets.tiny(), num_inference_steps=24)
    dtype = torch.float32 if args.tiny else torch.bfloat16
    frames, steps = args.frames or ([5, 9] if args.tiny else [49, 97]), 5 if args.tiny else args.steps
    plain: dict[int, tuple[Row, Tensor]] = {}
    for scenario in scenarios(frames, steps, "inductor" if device.type == "cuda" else "eager"):
        if args.only and not scenario.name.startswith(tuple(args.only)):
            continue
        empty = {"scenario": scenario.name, "frames": scenario.frames, "steps": scenario.steps or STEPS}
        left = deadline - time.perf_counter()
        usual, latents_then = plain.get(scenario.frames, (None, None))
        expected = 0.0
        if usual is not None:
            assert usual.encode is not None
            assert usual.step is not None
            assert usual.decode is not None
            once = usual.encode + (scenario.steps or STEPS) * usual.step + usual.decode
            expected = BUILDING + scenario.cost * once
        if expected > left or left < 0:
            yield Row(**empty, note=f"skipped: {max(left, 0):.0f} s are left")
            continue
        try:
            with at_most(min(left, 60 + 4 * expected) if expected else left), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row, latents = run_one(scenario, config, device, dtype)
        except Exception as error:  # of any kind: what does not work here is a result
            text = " ".join(str(error).split())
            note = "not installed" if "missing package" in text else f"{type(error).__name__}: {text}"
            yield Row(**empty, note=note[:160])
            continue
        if scenario.name == "plain":
            plain[scenario.frames] = row, latents
        elif latents_then is not None and not scenario.steps:
            change = (latents - latents_then).square().mean().sqrt() / latents_then.square().mean().sqrt()
            row = replace(row, change=float(change))
        yield row


def run_one(
    scenario: Scenario, config: presets.ModelConfig, device: torch.device, dtype: torch.dtype
) -> tuple[Row, Tensor]:
    """A row and its latents, of a new pipeline; nothing of it stays on the device."""
    pipe = random_pipeline(config, device, dtype, scenario.host)
    try:
        with attention_backend():  # what a row chooses would stay for all models
            if scenario.prepare:
                scenario.prepare(pipe, device)
            return measure(pipe, scenario, device)
    finally:
        del pipe
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError where the work inside takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    """Measures; writes CSV row by row, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, nargs="+", help="(default: 49 97)")
    parser.add_argument("--steps", type=int, default=20, help="of rows that need a whole schedule")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("runs/published.csv"))
    parser.add_argument("--only", nargs="+", help="rows whose names begin so")
    parser.add_argument("--tiny", action="store_true", help="tiny models")
    args = parser.parse_args(argv)
    logging.set_verbosity_error()
    name = torch.cuda.get_device_name() if args.device.startswith("cuda") else args.device
    print(f"{name}, torch {torch.__version__}, diffusers {diffusers.__version__}")
    columns = [f.name for f in fields(Row)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    with args.out.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for row in run_all(args):
            values = {k: f"{v:.3g}" if isinstance(v, float) else "" if v is None else v for k, v in vars(row).items()}
            table.writerow(values)
            file.flush()
            print("| " + " | ".join(str(v) for v in values.values()) + " |", flush=True)
    print(f"written to {args.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
