"""Processor time of nano in this version and in another: a warm scene, and a cold command.

    git worktree add /tmp/other COMMIT
    python benchmarks/compare_versions.py /tmp/other/src [--repeats 5]

Both versions take turns on the same machine, so that its load hits them alike. Figures are the processor time of a
process, with its threads, and medians. A warm scene is `pipe(photo)` for a photo of 112 x 112, and the files of
`save_scene`. A cold command is `gen3r generate`, from the start of the interpreter to its end.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("load", "scene", "files", "command")


def work(folder: Path) -> None:
    """A process of one version: a scene for each line that it reads; prints the seconds of its stages."""
    began = time.process_time()
    import torch

    from gen3r import Gen3RPipeline, Scene, save_scene

    pipe = Gen3RPipeline.from_pretrained("nano")
    pipe.set_progress_bar_config(disable=True)
    print(json.dumps({"load": time.process_time() - began}), flush=True)
    photo = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    photo = torch.nn.functional.interpolate(photo[None], (112, 112), mode="bicubic").clamp(0, 1)[0]
    for _ in sys.stdin:
        began = time.process_time()
        [scene] = pipe(photo, "a room", cameras="orbit_left", generator=torch.Generator().manual_seed(0))
        made = time.process_time()
        assert isinstance(scene, Scene)
        save_scene(scene, folder / "warm", overwrite=True)
        print(json.dumps({"scene": made - began, "files": time.process_time() - made}), flush=True)


def command(source: Path, photo: Path, folder: Path) -> dict[str, float]:
    """The seconds of a cold command."""
    call = [sys.executable, "-m", "gen3r.cli.main", "generate", str(photo), "--camera", "orbit_left"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*call, "--out", str(folder / "cold"), "--overwrite"], env=environment(source), check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"command": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def environment(source: Path) -> dict[str, str]:
    """The environment of a process of the version in a folder."""
    return os.environ | {"PYTHONPATH": str(source)}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the folder src of the other version")
    parser.add_argument("--repeats", type=int, default=5, help="of each; one more of the warm scene does not count")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.other)
        return
    sources = {"other": args.other, "this": Path(__file__).parents[1] / "src"}
    figures: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in STAGES} for name in sources}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: Path(temporary) / name for name in sources}
        workers = {
            name: subprocess.Popen(
                [sys.executable, __file__, str(folders[name]), "--work"], env=environment(source), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for name, source in sources.items()
        }  # fmt: skip
        for repeat in range(-1, args.repeats):
            for name, worker in workers.items():
                assert worker.stdin is not None
                assert worker.stdout is not None
                if repeat < 0:
                    _note(figures[name], json.loads(worker.stdout.readline()))
                worker.stdin.write("\n")
                worker.stdin.flush()
                times = json.loads(worker.stdout.readline())
                if repeat >= 0:
                    _note(figures[name], times)
        for worker in workers.values():
            worker.communicate()
        photo = Path(temporary) / "photo.png"
        make = "from PIL import Image; Image.radial_gradient('L').resize((112, 112)).convert('RGB').save({!r})"
        subprocess.run([sys.executable, "-c", make.format(str(photo))], check=True)
        for _ in range(args.repeats):
            for name, source in sources.items():
                _note(figures[name], command(source, photo, folders[name]))
    print(f"{'stage':<10}{'other [s]':>10}{'this [s]':>10}{'ratio':>7}")
    for stage in STAGES:
        other, this = (statistics.median(figures[name][stage]) for name in ("other", "this"))
        print(f"{stage:<10}{other:>10.2f}{this:>10.2f}{this / other:>7.2f}")


def _note(figures: dict[str, list[float]], times: dict[str, float]) -> None:
    for stage, seconds in times.items():
        figures[stage].append(seconds)


if __name__ == "__main__":
    main()
