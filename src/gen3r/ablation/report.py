"""What the results say: a table in Markdown, and curves."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import torch
from PIL import Image, ImageDraw, ImageFont

from gen3r.ablation.runner import Result
from gen3r.ablation.variants import ADAPTER, BOTH, DIFFUSION, VARIANTS
from gen3r.files import whole_file
from gen3r.media.drawing import (
    BACKGROUND,
    CLOUD_BACKGROUND,
    GAP,
    INK,
    LABEL,
    WIDTH,
    apply_colour_map,
    labelled,
    side_by_side,
    stacked,
)

# Title, the stage, and the stages that its variants train.
SECTIONS = {
    "adapter": ("The adapter", "adapter", (BOTH, ADAPTER)),
    "alignment": ("Diffusion on adapters of each KL weight", "diffusion", (BOTH,)),
    "denoiser": ("Diffusion on the starting model's adapter", "diffusion", (DIFFUSION,)),
}
CURVES = {"adapter": ("tokens", "kl"), "diffusion": ("appearance", "geometry")}
SCORES = {
    "adapter": ("adapter adds AbsRel", "adapter AUC@30"),
    "diffusion": ("one view PSNR", "one view AbsRel", "one view AUC@30"),
}
PLOT_HEIGHT = 360
NAMES_WIDTH = 190  # of a curve's name, right of it


def read_results(folder: Path) -> list[Result]:
    """The results in an ablation's folder, in the order of `VARIANTS`."""
    found = [Result(**json.loads(path.read_text())) for path in sorted(folder.glob("*-[0-9]*.json"))]
    return sorted(found, key=lambda r: (list(VARIANTS).index(r.variant), r.seed))


def write_report(folder: Path, out: Path) -> list[Path]:
    """Writes results.md and the curves of every section that has results; returns their paths."""
    results = read_results(folder)
    settings = json.loads((folder / "settings.json").read_text())
    paths, text = [], [_heading(settings, results)]
    for name, (title, stage, trained) in SECTIONS.items():
        rows = [r for r in results if VARIANTS[r.variant].stages in trained]
        if not rows:
            continue
        paths.append(out / f"{name}.png")
        with whole_file(paths[-1]) as partial:
            curves(rows, stage).save(partial)
        text.append(f"## {title}\n\n{table(rows, stage)}\n\n![Losses of {title.lower()}]({name}.png)\n")
    with whole_file(out / "results.md") as partial:
        partial.write_text("\n".join(text))
    return [out / "results.md", *paths]


def _heading(settings: dict, results: Sequence[Result]) -> str:
    seeds = sorted({r.seed for r in results})
    return (
        f"# Results of `gen3r train ablate`\n\nFrozen models of {settings['start']}, {settings['steps']} steps a "
        f"stage, {settings['clips']} clips, {settings['scenes']} held-out scenes, seeds {', '.join(map(str, seeds))}. "
        "Means, and the standard deviation over seeds where there are several. Losses are means over the last quarter "
        "of the steps. Seconds are those of training on the machine that ran it.\n"
    )


def table(results: Sequence[Result], stage: str) -> str:
    """A row a variant: the stage's last losses, its scores, trained parameters and seconds."""
    columns = [f"{name} loss" if name != "kl" else "KL" for name in CURVES[stage]]
    columns += [*SCORES[stage], "parameters [M]", "seconds"]
    lines = ["| " + " | ".join(["variant", "", *columns]) + " |", "|---" * (len(columns) + 2) + "|"]
    for name in dict.fromkeys(r.variant for r in results):
        rows = [r for r in results if r.variant == name]
        cells = [_cell([v for r in rows if (v := _last(r, stage, curve)) is not None]) for curve in CURVES[stage]]
        cells += [_cell([r.scores[score] for r in rows]) for score in SCORES[stage]]
        cells += [f"{rows[0].parameters[stage] / 1e6:.2f}", f"{mean(r.seconds[stage] for r in rows):.0f}"]
        lines.append("| " + " | ".join([name, VARIANTS[name].what, *cells]) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    """A mean and its spread; a dash where nothing was measured."""
    if not values:
        return "-"
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{mean(values):.4g}{spread}"


def _last(result: Result, stage: str, curve: str) -> float | None:
    lines = result.curves[stage]
    return mean(line[curve] for line in lines[-math.ceil(len(lines) / 4) :]) if curve in lines[0] else None


def curves(results: Sequence[Result], stage: str) -> Image.Image:
    """The stage's losses on the way, means over seeds, one picture a loss, on logarithmic axes."""
    names = list(dict.fromkeys(r.variant for r in results))
    level = torch.linspace(0.25, 1, len(names))
    colours = {name: tuple(colour) for name, colour in zip(names, apply_colour_map(level).tolist(), strict=True)}
    pictures = []
    for curve in CURVES[stage]:
        lines = {name: _mean_curve([r for r in results if r.variant == name], stage, curve) for name in names}
        drawn = {name: line for name, line in lines.items() if line}
        if drawn:
            pictures.append(labelled(f"{curve}, by steps", _plot(drawn, colours)))
    return stacked([side_by_side(pictures)])


def _mean_curve(results: Sequence[Result], stage: str, curve: str) -> list[tuple[float, float]]:
    """Steps and means over the seeds that were measured there."""
    values: dict[float, list[float]] = {}
    for line in (line for r in results for line in r.curves[stage] if curve in line):
        values.setdefault(line["step"], []).append(line[curve])
    return [(step, mean(found)) for step, found in sorted(values.items())]


def _plot(lines: dict[str, list[tuple[float, float]]], colours: dict[str, tuple[int, ...]]) -> Image.Image:
    """Lines over steps with a logarithmic axis, each named at its end."""
    width, height = (WIDTH - 3 * GAP) // 2, PLOT_HEIGHT
    picture = Image.new("RGB", (width, height), BACKGROUND)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    left, right, top, bottom = 56, width - NAMES_WIDTH, GAP, height - LABEL
    draw.rectangle((left, top, right, bottom), CLOUD_BACKGROUND)
    values = [max(v, 1e-9) for line in lines.values() for _, v in line]
    low, high = math.log(min(values)), math.log(max(values))
    high = max(high, low + 1e-3)
    last = max(1.0, max(step for line in lines.values() for step, _ in line))

    def place(step: float, value: float) -> tuple[float, float]:
        share = (math.log(max(value, 1e-9)) - low) / (high - low)
        return left + (right - left) * step / last, bottom - (bottom - top) * share

    for part in (0, 1 / 3, 2 / 3, 1):
        value = math.exp(low + part * (high - low))
        draw.text((left - 4, place(0, value)[1]), f"{value:.3g}", INK, font, anchor="rm")
        draw.text((left + part * (right - left), bottom + 4), f"{part * last:.0f}", INK, font, anchor="mt")
    points = {name: [place(*point) for point in line] for name, line in lines.items()}
    lowest = sorted(lines, key=lambda name: -points[name][-1][1])
    above = height + 6.0
    for name in lowest:
        draw.line(points[name], colours[name], width=2)
        above = min(above - 14, points[name][-1][1])  # names that would lie on each other move up
        draw.text((right + 6, above), name, colours[name], font, anchor="lm")
    return picture
