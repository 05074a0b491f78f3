"""What each ingredient of `fast` costs and loses, on nano as a model of many guided steps: a Pareto table.

    python benchmarks/fast_sampling.py [--scenes 4] [--steps 50] [--guidance 3] [--out runs/fast_sampling.csv]

nano samples in 4 steps without guidance. Here it takes as many as the published model, on the whole schedule, from the
first frame and the true path of held-out procedural scenes. `work` is the share of the blocks that run, over that of
the first row. `PSNR to first` compares frames with those of the first row, from the same noise. The other scores are
against the scene; depth and cameras come from the geometry latents.
"""

import argparse
import csv
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, FlowMatchEulerDiscreteScheduler, MagCacheConfig, TaylorSeerCacheConfig

from gen3r.data.records import Clip
from gen3r.evaluation.metrics import absolute_relative, camera_auc, psnr
from gen3r.evaluation.protocol import held_out_clips
from gen3r.geometry.normalise import normalise_scene
from gen3r.models.fast_sampling import fast_scheduler
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request
from gen3r.scene import Scene

CALIBRATION_SEED = 1000  # of the scene for MagCache's ratios


@dataclass(frozen=True)
class Method:
    """A row: steps, of Euler or UniPC, the share of them with guidance, and a cache."""

    name: str
    steps: int
    unipc: bool = True
    guided: float = 1.0
    cache: Callable[[list[float]], Any] | None = None


def methods(steps: int) -> list[Method]:
    """The rows; the first is what the others are compared with."""

    def mag(threshold: float, most: int) -> Callable[[list[float]], Any]:
        return lambda ratios: MagCacheConfig(
            threshold=threshold, max_skip_steps=most, num_inference_steps=20, mag_ratios=ratios
        )

    def first(threshold: float) -> Callable[[list[float]], Any]:
        return lambda ratios: FirstBlockCacheConfig(threshold=threshold)

    taylor = TaylorSeerCacheConfig(cache_interval=2, use_lite_mode=True)
    return [
        Method(f"Euler, {steps} steps", steps, unipc=False),
        *(Method(f"Euler, {n} steps", n, unipc=False) for n in (20, 12)),
        *(Method(f"UniPC, {n} steps", n) for n in (20, 16, 12)),
        *(Method(f"UniPC, 20 steps, {share:.0%} guided", 20, guided=share) for share in (0.75, 0.5, 0.25)),
        *(Method(f"UniPC, 20 steps, FirstBlockCache {t}", 20, cache=first(t)) for t in (0.05, 0.1, 0.2)),
        *(Method(f"UniPC, 20 steps, MagCache {t}, {n}", 20, cache=mag(t, n)) for t, n in ((0.03, 1), (0.06, 2))),
        Method("UniPC, 20 steps, TaylorSeer", 20, cache=lambda _: taylor),
        Method("UniPC, 20 steps, 50% guided, FirstBlockCache 0.1", 20, guided=0.5, cache=first(0.1)),
        Method("UniPC, 20 steps, 50% guided, MagCache 0.06, 2", 20, guided=0.5, cache=mag(0.06, 2)),
    ]  # fmt: skip


def undistilled(steps: int, guidance: float) -> Gen3RPipeline:
    """nano as a model of many guided steps on the whole schedule."""
    pipe = Gen3RPipeline.from_pretrained("nano")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=pipe.scheduler.config["shift"])
    defaults = pipe.defaults | {"num_inference_steps": steps, "guidance_scale": guidance}
    pipe = Gen3RPipeline(**pipe.components | {"scheduler": scheduler}, defaults=defaults)
    pipe.mixed_precision = True
    pipe.set_progress_bar_config(disable=True)
    return pipe


def request_of(clip: Clip, **options: Any) -> Request:
    """The clip from its first frame along its true path."""
    _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    path = replace(clip.cameras, T_world_camera=poses)
    return Request(
        images=clip.images[:1], prompt=clip.caption, cameras=path, output_size=0, geometry_from="latents", **options
    )


def generate(pipe: Gen3RPipeline, clip: Clip, method: Method, ratios: list[float], seed: int) -> tuple[Scene, int]:
    """A scene, and how many samples went through how many blocks for it."""
    work = 0

    def note(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal work
        work += len(inputs[0])

    hooks = [block.attn1.to_q.register_forward_pre_hook(note) for block in pipe.transformer.blocks]  # pyright: ignore
    own, pipe.scheduler = pipe.scheduler, fast_scheduler(pipe.scheduler) if method.unipc else pipe.scheduler
    if method.cache:
        pipe.transformer.enable_cache(method.cache(ratios))
    request = request_of(clip, num_inference_steps=method.steps, guided_share=method.guided)
    [scene] = pipe(request, generator=torch.Generator().manual_seed(seed))
    if method.cache:
        pipe.transformer.disable_cache()
    pipe.scheduler = own
    for hook in hooks:
        hook.remove()
    assert isinstance(scene, Scene)
    return scene, work


def main() -> None:
    """Measures; prints the table as soon as each scene is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=Path("runs/fast_sampling.csv"))
    args = parser.parse_args()
    pipe = undistilled(args.steps, args.guidance)
    size = pipe.defaults["num_frames"], pipe.defaults["height"], pipe.defaults["width"]
    *clips, other = held_out_clips(args.scenes + 1, *size)
    ratios = pipe.calibrate(request_of(other), torch.Generator().manual_seed(CALIBRATION_SEED))
    print("MagCache ratios:", [round(x, 3) for x in ratios], flush=True)
    figures: dict[str, list[dict[str, float]]] = {}
    for seed, clip in enumerate(clips):
        first = None
        for method in methods(args.steps):
            scene, work = generate(pipe, clip, method, ratios, seed)
            first = first or (scene, work)
            figures.setdefault(method.name, []).append({
                "work": work / first[1],
                "PSNR to first": psnr(scene.images, first[0].images) if scene is not first[0] else float("nan"),
                "PSNR": psnr(scene.images, clip.images),
                "AbsRel": absolute_relative(scene.depth, clip.depth, clip.depth > 0),
                "AUC@30": camera_auc(scene.cameras.T_world_camera, clip.cameras.T_world_camera),
            })  # fmt: skip
        print_table(figures, args.out)


def print_table(figures: dict[str, list[dict[str, float]]], out: Path) -> None:
    """Means over the scenes so far, to a file and as a table."""
    rows = {
        name: {key: statistics.fmean(x[key] for x in scenes) for key in scenes[0]} for name, scenes in figures.items()
    }
    columns = list(next(iter(rows.values())))
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["method", "scenes", *columns])
        table.writerows([name, len(figures[name]), *row.values()] for name, row in rows.items())
    print(
        f"\n| {len(next(iter(figures.values())))} scenes | "
        + " | ".join(columns)
        + " |\n"
        + "|---" * (1 + len(columns))
        + "|"
    )
    for name, row in rows.items():
        digits = {"PSNR": 2, "PSNR to first": 1, "work": 2}
        print(f"| {name} | " + " | ".join(f"{row[c]:.{digits.get(c, 3)}f}" for c in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
