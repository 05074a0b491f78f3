"""`gen3r data encode`: the latent cache that the diffusion stage trains on."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen3r.cli.common import (
    ModelOptions,
    enough_memory,
    parse_size,
    pick_device,
    pick_dtype,
    say,
    whole_files_stay,
)
from gen3r.cli.data_common import add_source_arguments, at_least_one, open_reader
from gen3r.errors import InputError
from gen3r.options import add_options, read_options
from gen3r.training.recipes import TWO_VIEWS_EVERY

if TYPE_CHECKING:
    from gen3r.data.records import ClipSource

_HELP = """\
Runs clips through a model's frozen parts and stores what comes out, so that training the diffusion transformer
needs none of them:
  appearance-*.safetensors  the autoencoder's posterior (mean, log-variance), condition latents, first frame, cameras
  geometry-*.safetensors    the posterior of the adapter on VGGT's tokens
  rendered-*.safetensors    for a transformer that is told it, as nano's: what given frames show from the other cameras
  contexts-*.safetensors    with --contexts: what the text and image encoders say of caption and first frame
SRC holds clip shards (gen3r data synthesize), a dataset as it was downloaded, or several in sub-folders of their
names (re10k, dl3dv, ...), from which clips are drawn.
Every shard is marked with hashes of the models and clips that made it, and training refuses one that is stale.
A command that was stopped goes on; several processes share the work with --part and --parts."""
_EXAMPLES = """\
examples:
  gen3r data encode runs/mine/train runs/mine/latents --model nano
  gen3r data encode downloads/wildrgbd latents --model models/published --contexts --clips 20000
  for i in 0 1; do OMP_NUM_THREADS=1 gen3r data encode clips latents --part $i --parts 2 & done; wait

then:
  gen3r train diffusion --folder runs/mine --start nano     reads runs/mine/latents"""
_OF_DATASETS = ("dataset", "frames", "size", "stride", "seed", "scene")  # options that clip shards have decided already


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "encode", help="clips to the latents that the diffusion stage trains on", description=_HELP, epilog=_EXAMPLES
    )
    add_source_arguments(parser)
    parser.add_argument("target", type=Path, metavar="DST", help="folder for the latents")
    parser.add_argument("--clips", type=int, metavar="N", help="how many (default: all; of a dataset, one a scene)")
    parser.add_argument(
        "--contexts", action="store_true",
        help="text and image features too, for models whose encoders stay frozen; nano trains its own along",
    )  # fmt: skip
    parser.add_argument(
        "--two-views-every", type=int, default=TWO_VIEWS_EVERY, metavar="N",
        help="every N-th clip is conditioned on its first and last frame, the rest on the first (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--part", type=int, default=0, metavar="I", help="this process's number, from 0")
    parser.add_argument("--parts", type=int, default=1, metavar="N", help="how many processes share the work")
    parser.add_argument("--overwrite", action="store_true", help="replace shards that other models or clips made")
    drawn = parser.add_argument_group("clips of a dataset")
    drawn.add_argument("--frames", type=int, metavar="N", help="frames a clip (default: the model's)")
    drawn.add_argument("--size", type=parse_size, metavar="N|HxW", help="height and width (default: the model's)")
    drawn.add_argument("--stride", type=int, metavar="N", help="frames are 1 to N apart (default: 2)")
    drawn.add_argument("--seed", type=int, metavar="N", help="which clips are drawn (default: 0)")
    drawn.add_argument("--strict", action="store_true", help="stop at a scene that cannot be read")
    add_options(parser.add_argument_group("model"), ModelOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Encodes."""
    vars(args).update(vars(read_options(args, ModelOptions)))
    at_least_one(args, "clips", "parts", "frames", "stride", "two_views_every")
    if args.target.is_file():
        raise InputError(f"{args.target} is a file; choose a folder")
    from gen3r.checkpoints.load import model_defaults, transformer_config

    defaults = model_defaults(args.model)
    clips = _clips(args, defaults)
    from gen3r.training.latent_cache.encode import clip_encoder, encode_clips
    from gen3r.training.latent_cache.shards import KINDS, kinds_of

    kinds = kinds_of(transformer_config(args.model)) + ["contexts"] * args.contexts
    with enough_memory(), whole_files_stay(args.target):
        parts = _load(args, [name for kind in kinds for name in KINDS[kind]])
        encoders = [clip_encoder(kind, parts, defaults["text_length"], args.two_views_every) for kind in kinds]
        encode_clips(encoders, clips, args.target, args.clips, args.part, args.parts, _command(args), args.overwrite)
    print(args.target)


def _clips(args: argparse.Namespace, defaults: dict[str, Any]) -> "ClipSource":
    """The shards in SRC, or clips drawn from the dataset there."""
    from gen3r.data.shards import ClipShards

    if any(args.source.glob("clips-*.safetensors")):
        if given := [name for name in _OF_DATASETS if getattr(args, name) not in (None, "auto")]:
            raise InputError(f"{args.source} holds clips that are drawn already; leave out --{given[0]}")
        return ClipShards(args.source)
    from gen3r.data.clips import ClipSampler
    from gen3r.data.readers import open_mixture
    from gen3r.data.sampled_clips import SampledClips

    readers = open_mixture(args.source, args.strict) if args.dataset == "auto" else {}
    if not readers:
        reader = open_reader(args.source, args.dataset, args.strict)
        readers = {reader.name: reader}
    height, width = args.size or (defaults["height"], defaults["width"])
    sampler = ClipSampler(
        frames=args.frames or defaults["num_frames"], height=height, width=width, max_stride=args.stride or 2
    )
    datasets = {name: reader.select(args.scene or ()) for name, reader in readers.items()}
    return SampledClips(datasets, sampler, args.clips, args.seed or 0, args.strict)


def _load(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """The model's components of these names, on the device; models of the package in float32, as training has them."""
    import torch
    from torch import nn

    from gen3r.checkpoints import load_components, resolve_model
    from gen3r.checkpoints.load import PACKAGED

    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    if args.dtype is None and resolve_model(args.model).parent == PACKAGED:
        dtype = torch.float32
    say(f"loading {args.model} on {device} ...")
    parts = vars(load_components(args.model, dtype, names))
    return {name: parts[name].to(device) if isinstance(parts[name], nn.Module) else parts[name] for name in names}


def _command(args: argparse.Namespace) -> str:
    """The command that makes the whole cache again."""
    words = ["gen3r", "data", "encode", args.source, args.target, "--model", args.model]
    for name in ("dataset", "clips", "frames", "stride", "seed"):
        if getattr(args, name) not in (None, "auto"):
            words += [f"--{name}", getattr(args, name)]
    words += ["--size", "{}x{}".format(*args.size)] if args.size else []
    for scene in args.scene or ():
        words += ["--scene", scene]
    words += ["--contexts"] if args.contexts else []
    words += ["--two-views-every", args.two_views_every] if args.two_views_every != TWO_VIEWS_EVERY else []
    return shlex.join(map(str, [*words, "--overwrite"]))
