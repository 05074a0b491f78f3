"""A clip of the procedural world: place, light, movers, camera, images, record and caption from one seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.data.photos import photos_in
from gen3r.data.records import Clip, take_frames
from gen3r.data.synthetic.captions import caption
from gen3r.data.synthetic.decorator import Decorator
from gen3r.data.synthetic.light import TIMES, WEATHERS, Light, outdoors
from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.movers import draw_movers
from gen3r.data.synthetic.options import INDOORS, SPLITS, WorldOptions
from gen3r.data.synthetic.places import PLACES, Layout
from gen3r.data.synthetic.render import EXPOSURE, Rendered, Renderer
from gen3r.data.synthetic.shots import camera_path
from gen3r.data.synthetic.textures import Atlas, Rng
from gen3r.errors import InputError

FIELD_OF_VIEW = (30.0, 90.0)  # degrees, over the longer side
PLACE_SHARES = (0.34, 0.1, 0.2, 0.16, 0.2)
TIME_SHARES = (0.25, 0.28, 0.3, 0.1, 0.07)
WEATHER_SHARES = (0.45, 0.4, 0.08, 0.07)
PHOTO_SKIES = 0.75  # by day, in clear and cloudy weather, with a folder of photos
PATHS = 12  # that are tried in a world before another is built
LEAST = 0.0015  # of all pixels: what is smaller is not spoken of


def render_clip(
    seed: int,
    frames: int = 17,
    height: int = 112,
    width: int = 112,
    split: str = "train",
    options: WorldOptions | None = None,
) -> Clip:
    """The clip of a seed: the same seed, split, size and options give the same clip, and the splits share no scene.

    Rooms, corridors, streets, plazas and open terrain at any time of day and in any weather, as `options` say; 30 to
    90 degrees over the longer side. The splits share no kind of texture, photo or object either. Clips have
    `attributes`, and with movers `moving_depth`. Depth is 0 in the sky and where objects move.

    Raises:
        InputError: there is no such split.
    """
    if split not in SPLITS:
        raise InputError(f"the splits are {' and '.join(SPLITS)}; there is no {split}")
    return _draw(seed, (frames, height, width), split, options or WorldOptions())


@dataclass(frozen=True)
class OnlineClips:
    """Clips of the training split, drawn when they are asked for: a `ClipSource` without end.

    shape: frames, height and width of a clip. textures: a folder of photos, as in `WorldOptions`. Clip n has the seed
    `FIRST` + n.

    Raises:
        InputError: there are no photos in the folder.
    """

    shape: tuple[int, int, int]
    textures: Path | None = None

    zero_is_sky = True
    FIRST = 1 << 30  # far from the seeds that folders of clips hold

    def __post_init__(self) -> None:
        if self.textures:
            photos_in(self.textures)

    def fingerprint(self, numbers: range) -> str:
        """What these clips are, in words."""
        return f"procedural world, {self.shape}, {self.textures}, {numbers}"

    def at_size(self, height: int, width: int) -> Self:
        """The same scenes in another size."""
        return replace(self, shape=(self.shape[0], height, width))

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, number: int) -> Clip:
        return _draw(self.FIRST + number, self.shape, "train", WorldOptions(textures=self.textures))

    def take(self, numbers: Sequence[int], index: Tensor) -> dict[str, Any]:
        """As `take_frames`; no other frames than these are rendered, and captions name what these show."""
        options = WorldOptions(textures=self.textures)
        pairs = zip(numbers, index.numpy(), strict=True)
        clips = [_draw(self.FIRST + number, self.shape, "train", options, shown) for number, shown in pairs]
        return take_frames(clips, torch.arange(index.shape[1]).expand_as(index))


def _draw(
    seed: int, shape: tuple[int, int, int], split: str, options: WorldOptions, shown: Array | slice = slice(None)
) -> Clip:
    """A clip, or the `shown` ones of its frames alone, without movers."""
    rng, (frames, height, width) = np.random.default_rng([SPLITS[split], seed, 1]), shape
    place, time, weather = _conditions(rng, options)
    fov = np.exp(rng.uniform(*np.log(FIELD_OF_VIEW)))
    fov_y = 2 * np.arctan(np.tan(np.deg2rad(fov) / 2) * height / max(height, width))
    found = None
    while found is None:
        d = Decorator(rng, split, time == "night", options.textures)
        layout = PLACES[place](d, time)
        light = _light(d, layout, time, weather, photo=options.textures is not None)
        renderer = Renderer(d.builder, Atlas(d.textures), light, 3.0 if layout.ambient is None else 1.2)
        found = _camera(rng, layout, d, renderer, fov_y, frames)
    shot, poses = found
    things = len(d.things)
    movers = draw_movers(d, layout, place, renderer, poses, fov_y) if options.movers else []
    if movers:
        renderer.atlas = Atlas(d.textures)
        renderer.set_in_motion(d.builder, movers)
    renderer.expose(poses, fov_y, EXPOSURE[time])
    rain = np.array(rng.spawn(frames), object)
    made = renderer.render_clip(poses[shown], fov_y, height, width, list(rain[shown]))
    record: dict[str, Any] = {
        "place": place, "time": time, "weather": weather,
        "surfaces": [{"part": part, "colour": colour} | ({"texture": texture} if texture else {})
                     for part, (texture, colour) in layout.surfaces.items()],
        "objects": _seen(d, made, range(things)), "movers": _seen(d, made, range(things, len(d.things))),
        "camera": shot, "field_of_view": round(float(fov), 1), "textures": sorted(set(d.kinds)),
    } | ({"landscape": layout.landscape} if layout.landscape else {})  # fmt: skip
    depth, moving = torch.from_numpy(made.depth), torch.from_numpy(made.moving)
    cameras = Cameras.from_fov(torch.from_numpy(poses[shown]).float(), float(fov_y), height, width)
    return Clip(
        torch.from_numpy(made.frames), depth.where(~moving, 0.0), cameras, caption(rng, record), record,
        depth.where(moving, 0.0) if options.movers else None,
    )  # fmt: skip


def _conditions(rng: Rng, options: WorldOptions) -> tuple[str, str, str | None]:
    """A place, a time, and a weather if it is outdoors."""
    shares = np.array(PLACE_SHARES) * [options.weather is None or p not in INDOORS for p in PLACES]
    place = options.place or str(rng.choice(list(PLACES), p=shares / shares.sum()))
    time = options.time or str(rng.choice(list(TIMES), p=TIME_SHARES))
    weather = options.weather or str(rng.choice(list(WEATHERS), p=WEATHER_SHARES))
    return place, time, None if place in INDOORS else weather


def _light(d: Decorator, layout: Layout, time: str, weather: str | None, photo: bool) -> Light:
    """Outdoors the sky's and the sun's; indoors the lamps' and perhaps the sun's, and the sky that windows show."""
    rng = d.rng
    light = outdoors(rng, time, weather or str(rng.choice(["clear", "cloudy"])), layout.lamps)
    if layout.ambient is not None:
        sun = light.sources[:1] if layout.lamps and rng.random() < 0.4 else ()
        light = replace(
            light, sources=(*layout.lamps, *sun), above=layout.ambient, below=0.8 * layout.ambient, fog=0.0, rain=0.0
        )
    if photo and not d.held_out and weather not in ("fog", "rain") and time not in ("dusk", "night"):
        sky = d.photos.sky(rng) if rng.random() < PHOTO_SKIES else None
        if sky is not None:
            light = replace(light, photo=sky, turn=rng.uniform(0, 2 * np.pi), horizon=sky[-1].mean(0))
    return light


def _camera(
    rng: Rng, layout: Layout, d: Decorator, still: Renderer, fov: float, frames: int
) -> tuple[str, Array] | None:
    """A motion and its poses that go through nothing and see enough, or None."""
    for _ in range(PATHS):
        shot = str(rng.choice(layout.shots))
        poses = camera_path(rng, shot, layout, d.things, frames)
        if still.is_free(poses, fov, **({"near": 0.12, "most": 0.8} if shot == "close" else {})):
            return shot, poses
    return None


def _seen(d: Decorator, made: Rendered, numbers: range) -> list[dict[str, str]]:
    """The things of these numbers that are seen, the largest first, each kind and colour once."""
    order = sorted((i for i in numbers if made.seen[i] > LEAST * made.depth.size), key=lambda i: -made.seen[i])
    return [{"name": n, "colour": c} for n, c in dict.fromkeys((d.things[i].name, d.things[i].colour) for i in order)]
