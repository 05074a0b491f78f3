"""`gen3r data encode`: the latent cache that the diffusion stage trains on."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen3r.cli.common import (
    ModelOptions,
    enough_memory,
    pick_device,
    pick_dtype,
    say,
    whole_files_stay,
)
from gen3r.cli.data_common import add_source_arguments, open_reader
from gen3r.errors import InputError
from gen3r.options import add_options, given_options, option, parse_size, read_options
from gen3r.training.latent_cache.options import EncodeOptions

if TYPE_CHECKING:
    from gen3r.data.records import ClipSource
    from gen3r.models.components import Components

_HELP = """\
Runs clips through a model's frozen components and stores the results, so that training of the diffusion transformer
needs none of them:
  appearance-*.safetensors  means of the autoencoder's latents, latents of the conditioning frames, first frame
  geometry-*.safetensors    means of the adapter's latents of VGGT's tokens, cameras
  warped-*.safetensors      only for transformers with unseen_frames="warped" (nano): latents of the warped views
  embeddings-*.safetensors  with --embeddings: embeddings of the caption and of the first frame
SRC holds clip shards (gen3r data synthesize), a dataset as it was downloaded, or several datasets in sub-folders of
their names (re10k, dl3dv, ...), from which clips are drawn.
Every file is marked with hashes of the models and clips that made it, and training refuses a stale one.
A command that was stopped goes on; several processes share the work with --shard and --num-shards."""
_EXAMPLES = """\
examples:
  gen3r data encode runs/mine/train runs/mine/latents --model nano
  gen3r data encode downloads/wildrgbd latents --model models/published --embeddings --clips 20000
  for i in 0 1; do OMP_NUM_THREADS=1 gen3r data encode clips latents --shard $i --num-shards 2 & done; wait

then:
  gen3r train diffusion --folder runs/mine --start nano     reads runs/mine/latents"""


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """How clips are drawn from a dataset. Clip shards have decided all but `strict` already."""

    frames: int | None = option(None, "frames per clip (default: the model's)", metavar="N")
    size: tuple[int, int] | None = option(
        None, "height and width (default: the model's)", metavar="N|HxW", parse=parse_size
    )
    stride: int = option(2, "frames are 1 to N apart (default: 2)", metavar="N")
    seed: int = option(0, "which clips are drawn (default: 0)", metavar="N")
    strict: bool = option(False, "stop at a scene that cannot be read")

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, as {self.seed} is")


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "encode", help="clips to the latents that the diffusion stage trains on", description=_HELP, epilog=_EXAMPLES
    )
    add_source_arguments(parser)
    parser.add_argument("target", type=Path, metavar="DST", help="folder for the latents")
    parser.add_argument(
        "--embeddings", action="store_true",
        help="embeddings of text and images too, for models whose encoders stay frozen; nano trains its own",
    )  # fmt: skip
    add_options(parser, EncodeOptions)
    add_options(parser.add_argument_group("clips of a dataset"), DrawOptions, size={"nargs": None})
    add_options(parser.add_argument_group("model"), ModelOptions, "model", "device", "dtype")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Encodes."""
    vars(args).update(vars(read_options(args, ModelOptions)))
    options = read_options(args, EncodeOptions)
    if not args.source.is_dir():
        raise InputError(f"no folder at {args.source}")
    if args.target.is_file():
        raise InputError(f"{args.target} is a file; choose a folder")
    from gen3r.checkpoints.load import model_defaults, transformer_config

    defaults = model_defaults(args.model)
    clips = _clips(args, options.clips, defaults)
    from gen3r.training.latent_cache.encode import encode_clips
    from gen3r.training.latent_cache.shards import KINDS, kinds_of

    kinds = kinds_of(transformer_config(args.model)) + ["embeddings"] * args.embeddings
    with enough_memory(), whole_files_stay(args.target):
        components = _load(args, {name for kind in kinds for name in KINDS[kind]})
        encode_clips(kinds, components, clips, args.target, defaults["text_length"], options, _command(args))
    print(args.target)


def _clips(args: argparse.Namespace, count: int | None, defaults: dict[str, Any]) -> "ClipSource":
    """The shards in SRC, or clips drawn from the dataset there."""
    from gen3r.data.shards import ClipShards

    draw = read_options(args, DrawOptions)
    if any(args.source.glob("clips-*.safetensors")):
        decided = ["dataset"] * (args.dataset != "auto") + ["scene"] * bool(args.scene)
        if decided := decided + [name for name in given_options(args, DrawOptions) if name != "strict"]:
            raise InputError(f"{args.source} holds clips that are drawn already; leave out --{decided[0]}")
        return ClipShards(args.source)
    from gen3r.data.clips import ClipSampler
    from gen3r.data.readers import open_mixture
    from gen3r.data.sampled_clips import SampledClips

    readers = open_mixture(args.source, draw.strict) if args.dataset == "auto" else {}
    if not readers:
        reader = open_reader(args.source, args.dataset, draw.strict)
        readers = {reader.name: reader}
    height, width = draw.size or (defaults["height"], defaults["width"])
    frames = defaults["num_frames"] if draw.frames is None else draw.frames
    sampler = ClipSampler(frames=frames, height=height, width=width, max_stride=draw.stride)
    datasets = {name: reader.select(args.scene or ()) for name, reader in readers.items()}
    return SampledClips(datasets, sampler, count, draw.seed, draw.strict)


def _load(args: argparse.Namespace, names: set[str]) -> "Components":
    """The model's components of these names, on the device; models of the package in float32, as training has them."""
    import torch

    from gen3r.checkpoints import load_components, resolve_model
    from gen3r.locations import in_package

    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    if args.dtype is None and in_package(resolve_model(args.model)):
        dtype = torch.float32
    say(f"loading {args.model} on {device} ...")
    components = load_components(args.model, dtype, names, args.variant)
    for module in components.modules().values():
        module.to(device)
    return components


def _command(args: argparse.Namespace) -> str:
    """The command that makes the whole cache again."""
    words: list[Any] = ["gen3r", "data", "encode", args.source, args.target, "--model", args.model]
    words += ["--variant", args.variant] if args.variant else []
    words += ["--dataset", args.dataset] if args.dataset != "auto" else []
    for scene in args.scene or ():
        words += ["--scene", scene]
    words += ["--embeddings"] if args.embeddings else []
    for name, value in {**given_options(args, EncodeOptions), **given_options(args, DrawOptions)}.items():
        if name == "size":
            words += ["--size", "{}x{}".format(*value)]
        elif name in ("clips", "two_views_every", "frames", "stride", "seed"):
            words += ["--" + name.replace("_", "-"), value]
    return shlex.join(map(str, [*words, "--overwrite"]))
