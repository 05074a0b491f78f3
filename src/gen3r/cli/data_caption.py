"""`gen3r data caption`: captions for datasets that have none."""

import argparse

from gen3r.cli.common import ModelOptions, enough_memory, pick_device, say, whole_files_stay
from gen3r.cli.data_common import add_source_arguments, at_least_one, chosen_scenes, open_reader
from gen3r.errors import InputError
from gen3r.options import add_options

_EXAMPLES = """\
examples:
  gen3r data caption downloads/wildrgbd --model Salesforce/blip-image-captioning-large
  gen3r data caption downloads/re10k --model models/a-vision-language-model --frames 3 --device cuda"""


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "caption",
        help="captions for scenes, written by a model of transformers",
        description="Lets a model say what the pictures of each scene show. The captions are kept in the dataset's\n"
        "folder, under .gen3r/captions, and come with its scenes from then on: in training, convert and show. A\n"
        "command that was stopped goes on.",
        epilog=_EXAMPLES,
    )
    add_source_arguments(parser)
    parser.add_argument(
        "--model", required=True, metavar="MODEL",
        help="of transformers' task image-text-to-text: a Hub id such as owner/name, or a folder",
    )  # fmt: skip
    parser.add_argument("--prompt", metavar="TEXT", help="what to ask it, or to go on from (default: by the model)")
    parser.add_argument("--frames", type=int, default=1, metavar="N", help="pictures of each scene (default: 1)")
    add_options(parser, ModelOptions, "device")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Loads the model, captions, and says what was left out."""
    at_least_one(args, "frames")
    reader = open_reader(args.source, args.dataset)
    scenes = chosen_scenes(reader, args.scene)
    from tqdm import tqdm

    from gen3r.data.captioner import TransformersCaptioner
    from gen3r.data.captions import FOLDER, Captioned, write_captions

    device = pick_device(getattr(args, "device", "auto"))
    say(f"loading {args.model} on {device} ...")
    with enough_memory():
        captioner = TransformersCaptioner(args.model, args.prompt, str(device))
    done: list[Captioned] = []
    results = write_captions(reader, scenes, captioner, args.model, captioner.prompt, args.frames)
    with whole_files_stay(args.source / FOLDER):
        for result in tqdm(results, total=len(scenes), desc="scenes", unit="scene"):
            done.append(result)
            if result.error:
                say(f"warning: {result.scene} skipped ({sum(bool(r.error) for r in done)} so far): {result.error}")
    skipped, there = sum(bool(r.error) for r in done), sum(r.there for r in done)
    print(
        f"{args.source / FOLDER}: {len(done) - skipped - there} scenes captioned, {there} were there, {skipped} skipped"
    )
    if skipped == len(done):
        raise InputError(f"no scene of {args.source} can be read; see gen3r data check")
