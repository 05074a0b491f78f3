"""`gen3r data convert`: any dataset to the standard form."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gen3r.cli.common import ModelOptions, enough_memory, load_pipeline
from gen3r.cli.data_common import SourceOptions, add_action, each_scene
from gen3r.data.readers import READERS
from gen3r.errors import InputError
from gen3r.options import add_options, option, read_options

if TYPE_CHECKING:
    from gen3r.media.sequence import ImageSequence
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene

_DESCRIPTION = """\
Writes every scene as images/, transforms.json (OpenCV axes), captions.txt and, where the dataset has it, depth/.
A command that was stopped goes on; a scene is written whole or not at all."""
_EXAMPLES = """\
examples:
  gen3r data convert wildrgbd downloads/wildrgbd data/wildrgbd --workers 8
  gen3r data convert videos my-videos data/mine --model nano"""
MAX_FRAMES = 49  # of a video whose cameras are estimated


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(SourceOptions):
    dataset: str = option(help=", ".join(READERS), metavar="DATASET", choices=tuple(READERS), positional=True)
    target: Path = option(help="folder for the scenes", metavar="DST", positional=True)
    pictures: Literal["png", "jpg"] = option("png", "(default: png)")
    no_depth: bool = option(False, "leave depth out")
    strict: bool = option(False, "stop at the first file that cannot be read")
    workers: int = option(1, "processes (default: 1)", metavar="N", positive=True)

    def __post_init__(self) -> None:
        if self.target.is_file():
            raise InputError(f"{self.target} is a file; choose a folder")


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = add_action(
        actions, "convert", ConvertOptions, run, help="a dataset to the standard form that training reads",
        description=_DESCRIPTION, epilog=_EXAMPLES,
    )  # fmt: skip
    add_options(parser.add_argument_group("model"), ModelOptions)


def run(args: argparse.Namespace) -> None:
    """Converts, and says what was left out."""
    options = read_options(args, ConvertOptions)
    reader, workers = options.open(options.strict), options.workers
    from gen3r.data.standard import convert

    if any(reader.lacks_cameras(scene) for scene in reader.scenes):
        pipe = load_pipeline(read_options(args, ModelOptions))
        reader, workers = reader.with_estimator(Estimator(pipe)), 1  # the model is in this process
    scenes, target = reader.scenes, options.target
    results = convert(reader, scenes, target, options.pictures, not options.no_depth, workers, options.strict)
    done, counts = each_scene(results, len(scenes), target)
    written = [result for result in done if result.written]
    print(
        f"{target}: {len(written)} scenes with {sum(r.written for r in written)} frames written, {counts}, "
        f"{sum(result.left_out for result in done)} frames left out"
    )
    if all(result.error for result in done):
        raise InputError(f"no scene of {options.source} could be converted; see gen3r data check")


class Estimator:
    """Estimates cameras and depth of images with VGGT, refined where the images can be matched."""

    def __init__(self, pipe: "Gen3RPipeline") -> None:
        self.pipe = pipe

    def __call__(self, pictures: "ImageSequence") -> "Scene":
        from gen3r.geometry.refinement import matched_size
        from gen3r.models.geometry import fitting_size, usual_pixels

        frames = min(pictures.count, MAX_FRAMES)
        size = fitting_size(*pictures.first_size(), usual_pixels(self.pipe.defaults, frames))
        with enough_memory():
            return self.pipe.reconstruct(pictures.sample(frames, *matched_size(*size)), *size)
