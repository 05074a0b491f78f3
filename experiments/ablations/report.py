"""The report of an ablation: a table in Markdown, and the curves of losses."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.ablations.runner import Result
from experiments.ablations.variants import ADAPTER, BOTH, DIFFUSION, VARIANTS
from gen3r.files import whole_file, write_text

# Title, stage, and what the variants of a section train.
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


def read_results(folder: Path) -> list[Result]:
    """The results in a folder, in the order of `VARIANTS`."""
    found = [Result(**json.loads(path.read_text())) for path in sorted(folder.glob("*-[0-9]*.json"))]
    return sorted(found, key=lambda r: (list(VARIANTS).index(r.variant), r.seed))


def write_report(folder: Path) -> list[Path]:
    """Writes results.md and the curves of every section that has results; returns their paths."""
    results = read_results(folder)
    settings = json.loads((folder / "settings.json").read_text())
    paths, text = [], [_heading(settings, results)]
    for name, (title, stage, trained) in SECTIONS.items():
        rows = [r for r in results if VARIANTS[r.variant].trains in trained]
        if rows:
            paths.append(folder / f"{name}.png")
            with whole_file(paths[-1]) as partial:
                figure(rows, stage).savefig(partial, dpi=120)
            text.append(f"## {title}\n\n{table(rows, stage)}\n\n![Losses of {title.lower()}]({name}.png)\n")
    write_text("\n".join(text), folder / "results.md")
    return [folder / "results.md", *paths]


def _heading(settings: dict, results: Sequence[Result]) -> str:
    seeds = sorted({r.seed for r in results})
    return (
        f"# Results of the ablations\n\nFrozen models of {settings['start']}, {settings['steps']} steps per stage, "
        f"{settings['clips']} clips, {settings['scenes']} held-out scenes, seeds {', '.join(map(str, seeds))}. "
        "Means, and standard deviations over seeds if there are several. Losses are means over the last quarter of the "
        "steps. Seconds are those of training on the machine of the run.\n"
    )


def table(results: Sequence[Result], stage: str) -> str:
    """A row per variant: last losses and scores of the stage, trained parameters, seconds."""
    columns = [f"{name} loss" if name != "kl" else "KL" for name in CURVES[stage]]
    columns += [*SCORES[stage], "parameters [M]", "seconds"]
    lines = ["| " + " | ".join(["variant", "", *columns]) + " |", "|---" * (len(columns) + 2) + "|"]
    for name in dict.fromkeys(r.variant for r in results):
        rows = [r for r in results if r.variant == name]
        cells = [_cell([v for r in rows if (v := _last(r, stage, curve)) is not None]) for curve in CURVES[stage]]
        cells += [_cell([r.scores[score] for r in rows]) for score in SCORES[stage]]
        cells += [f"{rows[0].parameters[stage] / 1e6:.2f}", f"{mean(r.seconds[stage] for r in rows):.0f}"]
        lines.append("| " + " | ".join([name, VARIANTS[name].change, *cells]) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    """Mean and standard deviation; a dash without values."""
    if not values:
        return "-"
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{mean(values):.4g}{spread}"


def _last(result: Result, stage: str, curve: str) -> float | None:
    lines = result.curves[stage]
    return mean(line[curve] for line in lines[-math.ceil(len(lines) / 4) :]) if curve in lines[0] else None


def figure(results: Sequence[Result], stage: str) -> Figure:
    """The losses of the stage over steps, means over seeds, a plot per loss with a logarithmic axis."""
    drawn = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(drawn)
    names = list(dict.fromkeys(r.variant for r in results))
    for axes, curve in zip(drawn.subplots(1, len(CURVES[stage])), CURVES[stage], strict=True):
        for name in names:
            steps, values = _mean_curve([r for r in results if r.variant == name], stage, curve)
            axes.plot(steps, values, label=name)
        axes.set(title=curve, xlabel="step", yscale="log")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return drawn


def _mean_curve(results: Sequence[Result], stage: str, curve: str) -> tuple[list[float], list[float]]:
    """Steps, and means over the seeds that have a value there."""
    values: dict[float, list[float]] = {}
    for line in (line for r in results for line in r.curves[stage] if curve in line):
        values.setdefault(line["step"], []).append(line[curve])
    return sorted(values), [mean(values[step]) for step in sorted(values)]
