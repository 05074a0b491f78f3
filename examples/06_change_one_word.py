"""Scenes from text alone, all from the same noise: what does one word change?

    python examples/06_change_one_word.py [--colours 5] [--out outputs/06.png]

nano's pictures from text alone are blurred; the colour of the ground follows the word.
"""

import argparse
from pathlib import Path

import torch

from gen3r import Gen3RPipeline
from gen3r.media.drawing import labelled, stacked, strip

PROMPTS = {
    "a room with white plain walls and a {} wooden floor, with a blue sofa": ("white", "beige", "brown", "grey"),
    "a plaza with a {} tiled ground, grey buildings and a green tree": ("beige", "brown", "grey", "red", "green"),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--colours", type=int, default=5, help="at most so many scenes per row")
parser.add_argument("--out", type=Path, default=Path("outputs/06.png"))
args = parser.parse_args()

pipeline = Gen3RPipeline.from_pretrained("nano")
rows = []
for prompt, colours in PROMPTS.items():
    shown = colours[: args.colours]
    prompts = [prompt.format(colour) for colour in shown]
    # One generator per sample: each starts from the same noise, in any batch.
    scenes = pipeline(prompt=prompts, generator=[torch.Generator().manual_seed(3) for _ in prompts])
    middle_frames = torch.stack([scene.frames[len(scene.frames) // 2] for scene in scenes])
    rows.append(labelled(prompt.format(", ".join(shown)), strip(middle_frames)))

args.out.parent.mkdir(parents=True, exist_ok=True)
stacked(rows).save(args.out)
print(args.out)
