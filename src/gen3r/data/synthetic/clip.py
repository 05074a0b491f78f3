"""Clips of the procedural worlds by seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip, take_frames
from gen3r.data.synthetic.large import render_large_clip
from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.options import SPLITS, LargeOptions, WorldName
from gen3r.data.synthetic.paths import camera_path
from gen3r.data.synthetic.pictures import pictures
from gen3r.data.synthetic.render import Renderer
from gen3r.data.synthetic.textures import Rng
from gen3r.data.synthetic.worlds import plaza, room
from gen3r.errors import InputError


def render_clip(
    seed: int,
    frames: int = 17,
    height: int = 112,
    width: int = 112,
    split: str = "train",
    world: WorldName = "small",
    options: LargeOptions | None = None,
) -> Clip:
    """The clip of a seed: the same seed, split, size and world give the same clip, and the splits share no scene.

    The small world: half of the seeds are rooms, half are plazas; the vertical field of view is 45 to 70 degrees. It
    is what nano is trained and scored on, and stays as it is to the bit.

    The large world: rooms, corridors, streets, plazas and open terrain at any time of day and in any weather, as
    `options` say; 35 to 100 degrees over the longer side. Its splits share no texture, object or pair of colours
    either (`gen3r.data.synthetic.splits`). Clips have `attributes`, and with movers `moving_depth`.

    Raises:
        InputError: no such split or world, or options for the small world.
    """
    if split not in SPLITS or world not in ("small", "large"):
        raise InputError(f"the splits are train and test, the worlds small and large; there is no {split}, {world}")
    if world == "large":
        rng = np.random.default_rng([SPLITS[split], seed, 1])
        return render_large_clip(rng, (frames, height, width), split, options or LargeOptions())
    if options is not None:
        raise InputError("place, time, weather and movers are the large world's; choose world large")
    return _small_clip(np.random.default_rng([SPLITS[split], seed]), frames, height, width)


@dataclass(frozen=True)
class OnlineClips:
    """Clips of the large world's training split, drawn when they are asked for: a `ClipSource` without end.

    shape: frames, height and width of a clip. textures: a folder of photos, as in `LargeOptions`. Clip n has the seed
    `FIRST` + n.
    """

    shape: tuple[int, int, int]
    textures: Path | None = None

    def __post_init__(self) -> None:
        if self.textures:
            pictures(self.textures)  # or it is refused before anything else is done

    zero_is_sky = True
    FIRST = 1 << 30  # far from the seeds that folders of clips hold

    def fingerprint(self, numbers: range) -> str:
        """What these clips are, in words."""
        return f"large world, {self.shape}, {self.textures}, {numbers}"

    def at_size(self, height: int, width: int) -> Self:
        """The same scenes in another size."""
        return replace(self, shape=(self.shape[0], height, width))

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, number: int) -> Clip:
        return self._draw(number)

    def take(self, numbers: Sequence[int], index: Tensor) -> dict[str, Any]:
        """As `take_frames`; no other frames than these are rendered, and captions name what these show."""
        clips = [self._draw(number, shown.numpy()) for number, shown in zip(numbers, index, strict=True)]
        return take_frames(clips, torch.arange(index.shape[1]).expand_as(index))

    def _draw(self, number: int, shown: Array | slice = slice(None)) -> Clip:
        rng = np.random.default_rng([SPLITS["train"], self.FIRST + number, 1])
        return render_large_clip(rng, self.shape, "train", LargeOptions(textures=self.textures), shown)


def _small_clip(rng: Rng, frames: int, height: int, width: int, shown: Array | slice = slice(None)) -> Clip:
    """A clip, or the `shown` ones of its frames alone."""
    while True:
        world = (room if rng.random() < 0.5 else plaza)(rng)
        renderer = Renderer(world.builder, world.atlas, world.lights, world.sky)
        fov = np.deg2rad(rng.uniform(45, 70))
        for _ in range(4):
            poses = camera_path(rng, world.walk, world.look, frames)
            if renderer.is_free(poses, fov):
                poses = poses[shown]
                images, depth = renderer.render(poses, fov, height, width)
                cameras = Cameras.from_fov(torch.from_numpy(poses).float(), float(fov), height, width)
                return Clip(torch.from_numpy(images), torch.from_numpy(depth), cameras, world.caption)
