"""`gen3r data convert`: any dataset to the standard form."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.cli.common import add_model_arguments, enough_memory, load_pipeline, say, whole_files_stay
from gen3r.cli.data_common import DATASETS, add_scene_argument, at_least_one, chosen_scenes, open_reader
from gen3r.errors import InputError

if TYPE_CHECKING:
    from gen3r.data.standard import Converted
    from gen3r.media.sequence import ImageSequence
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene

_EXAMPLES = """\
examples:
  gen3r data convert wildrgbd downloads/wildrgbd data/wildrgbd --workers 8
  gen3r data convert dl3dv downloads/dl3dv data/dl3dv --tars
  gen3r data convert filmed my-videos data/mine --model nano"""
MOST_FRAMES = 49  # of a video that cameras are estimated for


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "convert",
        help="a dataset to the standard form that training reads",
        description="Writes every scene as images/, transforms.json (OpenCV axes), captions.txt and, where the\n"
        "dataset has it, depth/. A command that was stopped goes on; a scene is written whole or not at all.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("dataset", choices=DATASETS, metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of the dataset, as it was downloaded")
    parser.add_argument("target", type=Path, metavar="DST", help="folder for the scenes")
    add_scene_argument(parser)
    parser.add_argument("--pictures", choices=("png", "jpg"), help="(default: png; jpg in shards)")
    parser.add_argument("--no-depth", action="store_true", help="leave depth out")
    parser.add_argument("--tars", action="store_true", help="tar shards for streaming; needs gen3r[data]")
    parser.add_argument("--strict", action="store_true", help="stop at the first file that cannot be read")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Converts, and says what was left out."""
    at_least_one(args, "workers")
    if args.target.is_file():
        raise InputError(f"{args.target} is a file; choose a folder")
    reader = open_reader(args.source, args.dataset, args.strict)
    scenes = chosen_scenes(reader, args.scene)
    from tqdm import tqdm

    from gen3r.data.readers.filmed import Filmed
    from gen3r.data.standard import convert
    from gen3r.data.tars import convert_to_tars

    if isinstance(reader, Filmed) and not all(reader.cameras_file(s).is_file() for s in scenes):
        reader.estimate = Estimator(load_pipeline(args))
        args.workers = 1  # the model is in this process
    form = args.pictures or ("jpg" if args.tars else "png")
    write = convert_to_tars if args.tars else convert
    done: list[Converted] = []
    results = write(reader, scenes, args.target, form, not args.no_depth, args.workers, args.strict)
    with whole_files_stay(args.target):
        for result in tqdm(results, total=len(scenes), desc="scenes", unit="scene"):
            done.append(result)
            if result.error:
                say(f"warning: {result.scene} skipped ({sum(bool(r.error) for r in done)} so far): {result.error}")
    written, there = [r for r in done if r.written], sum(r.there for r in done)
    skipped, left_out = len(done) - len(written) - there, sum(r.left_out for r in done)
    print(
        f"{args.target}: {len(written)} scenes with {sum(r.written for r in written)} frames written, "
        f"{there} were there, {skipped} skipped, {left_out} frames left out"
    )
    if len(written) + there == 0:
        raise InputError(f"no scene of {args.source} could be converted; see gen3r data check")


class Estimator:
    """VGGT's view of pictures."""

    def __init__(self, pipe: "Gen3RPipeline") -> None:
        self.pipe = pipe

    def __call__(self, pictures: "ImageSequence") -> "Scene":
        from gen3r.media.images import evenly_spaced

        height, width = self.pipe.defaults["height"], self.pipe.defaults["width"]
        indices = evenly_spaced(pictures.count, min(pictures.count, MOST_FRAMES))
        with enough_memory():
            return self.pipe.reconstruct(pictures.read(indices, height, width), height, width)
