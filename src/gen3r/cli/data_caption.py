"""`gen3r data caption`: captions for datasets that have none."""

import argparse
from dataclasses import dataclass

from gen3r.cli.common import ModelOptions, enough_memory, pick_device, say
from gen3r.cli.data_common import SourceOptions, add_action, each_scene
from gen3r.errors import InputError
from gen3r.options import add_options, option, read_options

_DESCRIPTION = """\
Lets a model describe the images of each scene. The captions are kept in the dataset's folder, under .gen3r/captions,
and come with its scenes from then on: in training, convert and show. A command that was stopped goes on."""
_EXAMPLES = """\
examples:
  gen3r data caption downloads/wildrgbd --model Salesforce/blip-image-captioning-large
  gen3r data caption downloads/re10k --model models/a-vision-language-model --frames 3 --device cuda"""


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(SourceOptions):
    model: str = option(
        help="of transformers' task image-text-to-text: a Hub id such as owner/name, or a folder", metavar="MODEL"
    )
    prompt: str | None = option(
        None, "a question, or the beginning of the caption (default: by the model)", metavar="TEXT"
    )
    frames: int = option(1, "images of each scene (default: 1)", metavar="N", positive=True)


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = add_action(
        actions, "caption", CaptionOptions, run, help="captions for scenes, written by a model of transformers",
        description=_DESCRIPTION, epilog=_EXAMPLES,
    )  # fmt: skip
    add_options(parser, ModelOptions, "device")


def run(args: argparse.Namespace) -> None:
    """Loads the model, captions, and says what was left out."""
    options = read_options(args, CaptionOptions)
    reader = options.open()
    from gen3r.data.captioner import TransformersCaptioner
    from gen3r.data.captions import FOLDER, write_captions

    scenes, folder = reader.scenes, options.source / FOLDER
    device = pick_device(read_options(args, ModelOptions).device)
    say(f"loading {options.model} on {device} ...")
    with enough_memory():
        captioner = TransformersCaptioner(options.model, options.prompt, str(device))
    results = write_captions(reader, scenes, captioner, options.model, captioner.prompt, options.frames)
    done, counts = each_scene(results, len(scenes), folder)
    print(f"{folder}: {sum(not r.error and not r.there for r in done)} scenes captioned, {counts}")
    if all(result.error for result in done):
        raise InputError(f"no scene of {options.source} can be read; see gen3r data check")
