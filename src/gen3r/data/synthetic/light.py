"""What a place is lit by: lamps, and by time of day and weather the sun, the sky, the ambient light and the air."""

from dataclasses import dataclass

import numpy as np

from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.textures import Rng

LAMPLIGHT = np.array([1.0, 0.8, 0.52])


@dataclass(frozen=True)
class Source:
    """A lamp at a place [3], or the sun in a direction [3], of a colour [3].

    radius: of the lamp in metres, or of the sun as seen, in radians; 0 throws hard shadows.
    """

    at: Array
    colour: Array
    sun: bool = False
    radius: float = 0.0


@dataclass(frozen=True)
class Light:
    """Lamps and the sun, the ambient light [3] from above and below, the sky and the air.

    The sky is a gradient from `horizon` to `zenith` with clouds of that brightness or, in its place, a photo [h, w, 3]
    turned by an angle. Fog, an extinction a metre, has the colour of the horizon; rain is 0 to 1.
    """

    sources: tuple[Source, ...]
    above: Array
    below: Array
    horizon: Array
    zenith: Array
    clouds: float = 0.0
    cloud: float = 0.95
    photo: Array | None = None
    turn: float = 0.0
    fog: float = 0.0
    rain: float = 0.0


@dataclass(frozen=True)
class Time:
    """Least and most elevation of the sun, or the moon, in degrees; its strength; the ambient light; colours above."""

    elevation: tuple[float, float]
    sun: float
    ambient: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    overcast: float  # how bright a closed sky is


@dataclass(frozen=True)
class Weather:
    """How much of the sky is closed, what is left of the sun and how wide it looks [rad], and the air."""

    closed: float
    sun: float
    radius: float
    clouds: tuple[float, float]
    fog: tuple[float, float] = (0.0, 0.002)  # extinction a metre
    rain: float = 0.0


TIMES = {
    "morning": Time((12, 30), 0.85, 0.5, (0.42, 0.6, 0.82), (0.95, 0.85, 0.7), 0.7),
    "noon": Time((50, 75), 0.9, 0.52, (0.28, 0.48, 0.82), (0.8, 0.86, 0.93), 0.8),
    "afternoon": Time((25, 48), 0.9, 0.5, (0.32, 0.52, 0.82), (0.88, 0.86, 0.82), 0.75),
    "dusk": Time((4, 12), 0.75, 0.34, (0.22, 0.25, 0.48), (0.95, 0.55, 0.32), 0.4),
    "night": Time((35, 60), 0.12, 0.13, (0.012, 0.018, 0.05), (0.05, 0.06, 0.1), 0.06),
}
WEATHERS = {
    "clear": Weather(0.0, 1.0, 0.012, (0.0, 0.25)),
    "cloudy": Weather(0.5, 0.5, 0.06, (0.5, 1.0)),
    "fog": Weather(0.9, 0.12, 0.4, (0.0, 0.0), (0.025, 0.08)),
    "rain": Weather(0.85, 0.12, 0.3, (0.0, 0.3), (0.004, 0.015), 1.0),
}


def outdoors(rng: Rng, time: str, weather: str, lamps: list[Source]) -> Light:
    """Sun or moon, with `lamps` that burn at dusk and at night, the sky, and the air."""
    t, w = TIMES[time], WEATHERS[weather]
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(*t.elevation))
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    closed = t.overcast * np.array([0.96, 0.98, 1.03])
    clear = np.array([t.zenith, t.horizon]) * rng.uniform(0.9, 1.1, (2, 1))
    zenith, horizon = clear + w.closed * (closed - clear)
    above = 0.4 * zenith + 0.6 * horizon
    above = t.ambient * (0.6 + 0.4 * above / above.mean())
    low, high = np.array([1.0, 0.55, 0.28]), np.array([1.0, 0.96, 0.88])  # orange when it is low; the moon is blue
    colour = [0.7, 0.8, 1.0] if time == "night" else low + (high - low) * min(1.0, elevation / np.deg2rad(32))
    sun = Source(direction, t.sun * w.sun * np.array(colour), sun=True, radius=w.radius)
    return Light(
        (sun, *(lamps if time in ("dusk", "night") else ())), above, 0.55 * above, horizon, zenith,
        clouds=rng.uniform(*w.clouds), cloud=t.overcast, fog=rng.uniform(*w.fog), rain=w.rain,
    )  # fmt: skip


def daylight(time: str) -> Array:
    """The colour [3] and strength of what comes through a window."""
    t = TIMES[time]
    return (0.5 * np.array(t.zenith) + 0.7 * np.array(t.horizon)) * min(1.0, 2 * t.ambient)
