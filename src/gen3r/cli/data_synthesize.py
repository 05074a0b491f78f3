"""`gen3r data synthesize`: clips of the procedural world."""

import argparse
from pathlib import Path

from gen3r.cli.common import whole_files_stay
from gen3r.cli.data_common import at_least_one
from gen3r.errors import InputError

# The keys of gen3r.data.synthetic's tables, which load too much for a help text.
PLACES = ("room", "corridor", "street", "plaza", "terrain")
TIMES = ("morning", "noon", "afternoon", "dusk", "night")
WEATHERS = ("clear", "cloudy", "fog", "rain")


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    make = actions.add_parser(
        "synthesize",
        help="render posed RGB-D clips of a procedural world",
        description="Renders clips with exact depth, cameras and captions into shards. A seed a clip: the same\n"
        "command gives the same clips, and one that was stopped goes on. Needs the extra gen3r[world].",
        epilog="examples:\n  gen3r data synthesize 2048 runs/nano/train\n"
        "  gen3r data synthesize 512 runs/wide --world large --movers\n"
        "  gen3r data synthesize 512 runs/wider --world large --movers --seed 512\n"
        "  gen3r data synthesize 64 runs/rainy --world large --place street --time night --weather rain",
    )
    make.add_argument("count", type=int, metavar="N", help="how many clips")
    make.add_argument("folder", type=Path, metavar="DST", help="folder for the shards")
    make.add_argument("--split", choices=("train", "test"), default="train", help="the splits share no scene")
    make.add_argument(
        "--world", choices=("small", "large"), default="small",
        help="small: rooms and plazas, which nano is trained on; large: rooms, corridors, streets, plazas and open "
        "terrain, at any time of day and in any weather (default: small)",
    )  # fmt: skip
    make.add_argument("--seed", type=int, default=0, help="of the first clip; the next has the next (default: 0)")
    for name, known in (("place", PLACES), ("time", TIMES), ("weather", WEATHERS)):
        make.add_argument(f"--{name}", choices=known, help="large world: only this one (default: any)")
    make.add_argument("--movers", action="store_true", help="large world: things move, and depth is 0 where they do")
    make.add_argument(
        "--skies", type=float, default=0.0, metavar="SHARE",
        help="small world: that share of the clips, 0 to 1, get another sky if they have one, with haze and clouds; "
        "half of these also lose what is far, so that sky goes down to the horizon (default: 0)",
    )  # fmt: skip
    make.add_argument("--frames", type=int, default=17, help="frames a clip (default: 17)")
    make.add_argument("--size", type=int, default=112, help="height and width in pixels (default: 112)")
    make.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    make.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Renders."""
    if args.count < 1:
        raise InputError(f"the number of clips must be at least 1, not {args.count}")
    if args.seed < 0:
        raise InputError(f"--seed must not be negative, as {args.seed} is")
    at_least_one(args, "frames", "size", "workers")
    asked = args.place or args.time or args.weather or args.movers
    if args.world == "small" and asked:
        raise InputError("--place, --time, --weather and --movers are the large world's; add --world large")
    if not 0 <= args.skies <= 1:
        raise InputError(f"--skies is a share of the clips, from 0 to 1, not {args.skies:g}")
    if args.world == "large" and args.skies:
        raise InputError("--skies is the small world's; the large one draws its own, see --time and --weather")
    from gen3r.data.shards import synthesize
    from gen3r.data.synthetic import LargeOptions

    options = (
        LargeOptions(place=args.place, time=args.time, weather=args.weather, movers=args.movers) if asked else None
    )
    with whole_files_stay(args.folder):
        synthesize(
            args.folder, args.count, args.split, args.frames, args.size, args.workers, args.world, options, args.seed,
            args.skies,
        )  # fmt: skip
