"""Scenes from words alone, from the same noise: what one word changes.

python examples/06_change_one_word.py [OUT.png]
"""

import sys
from pathlib import Path

import torch

from gen3r import Gen3RPipeline
from gen3r.media.drawing import labelled, stacked, strip

out = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/06.png")

PLACES = {
    "a room with white plain walls and a {} wooden floor, with a blue sofa": ("white", "beige", "brown", "grey"),
    "a plaza with a {} tiled ground, grey buildings and a green tree": ("beige", "brown", "grey", "red", "green"),
}

pipeline = Gen3RPipeline.from_pretrained("nano")
rows = []
for place, colours in PLACES.items():
    prompts = [place.format(colour) for colour in colours]
    # One generator a sample: each begins from the same noise, whatever the batch.
    scenes = pipeline(prompt=prompts, generator=[torch.Generator().manual_seed(3) for _ in prompts])
    middle = torch.stack([scene.frames[len(scene.frames) // 2] for scene in scenes])
    rows.append(labelled(place.format(", ".join(colours)), strip(middle)))

out.parent.mkdir(parents=True, exist_ok=True)
stacked(rows).save(out)
print(out)
