"""Clips of the procedural world on one sheet: a frame of each, eight per row.

    python examples/05_world_sheet.py [--clips 64] [--size 112] [--split train] [--movers] [--textures FOLDER]
        [--out world.png]

`docs/images/world.png` is made by `--movers` with the other options at their defaults.
"""

import argparse
from pathlib import Path

from PIL import Image

from gen3r.data.synthetic import WorldOptions, render_clip

COLUMNS, GAP = 8, 2


def main() -> None:
    """Renders the clips and draws the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--movers", action="store_true", help="add dynamic objects")
    parser.add_argument("--textures", type=Path, help="folder of photos")
    parser.add_argument("--out", type=Path, default=Path("world.png"))
    args = parser.parse_args()

    step = args.size + GAP
    sheet = Image.new("RGB", (min(args.clips, COLUMNS) * step - GAP, -(-args.clips // COLUMNS) * step - GAP))
    for seed in range(args.clips):
        # The seed alone decides what is rendered.
        options = WorldOptions(movers=args.movers, textures=args.textures)
        clip = render_clip(seed, 5, args.size, args.size, args.split, options)
        sheet.paste(Image.fromarray(clip.frames[2].numpy()), (seed % COLUMNS * step, seed // COLUMNS * step))
        print(seed, clip.caption)
    sheet.save(args.out, optimize=True)
    print(args.out)


if __name__ == "__main__":
    main()
