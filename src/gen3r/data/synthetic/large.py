"""A clip of the large world: place, light, movers, camera, images, record and caption from one seed."""

from dataclasses import replace

import numpy as np
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.synthetic.captions import caption
from gen3r.data.synthetic.decorator import COLOURS
from gen3r.data.synthetic.lights import Lights, Sky
from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.movers import Mover, clear_path, draw_mover
from gen3r.data.synthetic.options import INDOORS, LargeOptions
from gen3r.data.synthetic.pictures import Pictures, pictures
from gen3r.data.synthetic.places import PLACES, Layout
from gen3r.data.synthetic.render import Renderer
from gen3r.data.synthetic.shots import camera_path
from gen3r.data.synthetic.soft_renderer import EXPOSURE, Rendered, SoftRenderer
from gen3r.data.synthetic.splits import SplitDecorator
from gen3r.data.synthetic.textures import Atlas, Rng
from gen3r.data.synthetic.time_and_weather import TIMES, WEATHERS, Air, outdoors

FIELD_OF_VIEW = (30.0, 90.0)  # degrees, over the longer side
PLACE_SHARES = (0.34, 0.1, 0.2, 0.16, 0.2)
TIME_SHARES = (0.25, 0.28, 0.3, 0.1, 0.07)
WEATHER_SHARES = (0.45, 0.4, 0.08, 0.07)
PHOTO_SKIES = 0.75  # by day, in clear and cloudy weather, where there are pictures
PATHS = 12  # that are tried in a world before another is built
LEAST = 0.0015  # of all pixels: what is smaller is not spoken of


def draw_conditions(rng: Rng, options: LargeOptions) -> tuple[str, str, str | None]:
    """A place, a time, and a weather if it is outdoors."""
    shares = np.array(PLACE_SHARES) * [options.weather is None or p not in INDOORS for p in PLACES]
    place = options.place or str(rng.choice(list(PLACES), p=shares / shares.sum()))
    time = options.time or str(rng.choice(list(TIMES), p=TIME_SHARES))
    weather = options.weather or str(rng.choice(list(WEATHERS), p=WEATHER_SHARES))
    return place, time, None if place in INDOORS else weather


def render_large_clip(
    rng: Rng,
    shape: tuple[int, int, int],
    split: str,
    options: LargeOptions,
    shown: Array | slice = slice(None),
) -> Clip:
    """One clip, or the `shown` ones of its frames alone; `gen3r.data.synthetic.render_clip` says what is in it."""
    frames, height, width = shape
    photos = pictures(options.textures) if options.textures and split == "train" else None
    place, time, weather = draw_conditions(rng, options)
    fov = np.deg2rad(np.exp(rng.uniform(*np.log(FIELD_OF_VIEW))))
    fov_y = 2 * np.arctan(np.tan(fov / 2) * height / max(height, width))
    while True:
        d = SplitDecorator(rng, split, time == "night", photos)
        layout = PLACES[place](d, time)
        look = (Atlas(d.textures), *_light(rng, layout, time, weather, photos))
        reach = 3.0 if layout.ambient is None else 1.2
        renderer = SoftRenderer(d.builder, *look, reach)
        found = _camera(rng, layout, d, renderer, fov_y, frames)
        if found is not None:
            break
    shot, poses = found
    things = len(d.things)
    movers = _movers(d, layout, place, renderer, poses, fov_y) if options.movers else []
    if movers:
        parts = [part for mover in movers for part in mover.parts]
        renderer.set_in_motion(d.builder, Atlas(d.textures), parts)
    renderer.expose(poses, fov_y, EXPOSURE[time])
    rain = list(np.array(rng.spawn(frames), object)[shown])
    poses = poses[shown]
    made = renderer.render_clip(poses, fov_y, height, width, rain)
    seen = made.seen > LEAST * made.depth.size
    record = {
        "place": place, "time": time, "weather": weather,
        "surfaces": [
            {"part": part, "colour": colour} | ({"texture": texture} if texture else {})
            for part, (colour, texture) in layout.surfaces.items()
        ],
        "objects": _objects(d, made, things), "movers": [
            {"name": m.name, "colour": m.colour} for i, m in enumerate(movers) if seen[things + i]
        ],
        "camera": shot, "field_of_view": round(float(np.rad2deg(fov)), 1), "main_colours": _main_colours(made.frames),
        "textures": sorted(d.used_textures),
    }  # fmt: skip
    if layout.landscape:
        record["landscape"] = layout.landscape
    depth, moving = torch.from_numpy(made.depth), torch.from_numpy(made.moving)
    cameras = Cameras.from_fov(torch.from_numpy(poses).float(), float(fov_y), height, width)
    return Clip(
        torch.from_numpy(made.frames), depth.where(~moving, 0.0), cameras, caption(rng, record), record,
        depth.where(moving, 0.0) if options.movers else None,
    )  # fmt: skip


def _light(
    rng: Rng, layout: Layout, time: str, weather: str | None, photos: Pictures | None
) -> tuple[Lights, Sky, Air]:
    weather = weather or str(rng.choice(["clear", "cloudy"]))
    lights, sky, air = outdoors(rng, time, weather, layout.lamps)
    if layout.ambient is not None:  # and perhaps the sun through a window
        sun = lights.sources[:1] if layout.lamps and rng.random() < 0.4 else ()
        lights = Lights((*layout.lamps, *sun), layout.ambient, 0.8 * layout.ambient)
    if photos and weather in ("clear", "cloudy") and time not in ("dusk", "night") and rng.random() < PHOTO_SKIES:
        sky = replace(sky, photo=photos.sky(rng), turn=rng.uniform(0, 2 * np.pi))
    return lights, sky, air if layout.ambient is None else Air()


def _camera(
    rng: Rng, layout: Layout, d: SplitDecorator, still: Renderer, fov: float, frames: int
) -> tuple[str, Array] | None:
    """A motion and its poses that go through nothing and see enough, or None."""
    for _ in range(PATHS):
        shot = str(rng.choice(layout.shots))
        poses = camera_path(rng, shot, layout, d.things, frames)
        near, most = (0.12, 0.8) if shot == "close" else (0.3, 0.7)
        if still.is_free(poses, fov, 0.3, near) and still.largest_share(poses, fov) < most:
            return shot, poses
    return None


def _movers(d: SplitDecorator, layout: Layout, place: str, still: Renderer, poses: Array, fov: float) -> list[Mover]:
    """One to three that meet nothing, each other and the camera included, and that the camera sees."""
    wanted, made = int(d.rng.integers(1, 4)), []
    for _ in range(40):
        if len(made) == wanted:
            break
        drawn = clear_path(d.rng, layout, place, still, poses, fov, [m.path for m in made])
        if drawn is not None:
            made.append(draw_mover(d, *drawn))
    return made


def _objects(d: SplitDecorator, made: Rendered, things: int) -> list[dict[str, str]]:
    """The objects that are seen, the largest first, each kind and colour once."""
    order = [i for i in np.argsort(-made.seen[:things], kind="stable") if made.seen[i] > LEAST * made.depth.size]
    return [{"name": n, "colour": c} for n, c in dict.fromkeys((d.things[i].name, d.things[i].colour) for i in order)]


def _main_colours(frames: Array) -> list[str]:
    """Up to three colour names that most pixels are nearest to."""
    pixels = frames.reshape(-1, 3)[:: max(1, frames.size // 3 // 4096)] / 255
    names = np.array(list(COLOURS))
    nearest = np.linalg.norm(pixels[:, None] - np.array(list(COLOURS.values())), axis=-1).argmin(1)
    count = np.bincount(nearest, minlength=len(names))
    return [str(names[i]) for i in np.argsort(-count, kind="stable")[:3] if count[i] > 0.08 * len(pixels)]
