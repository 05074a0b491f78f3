"""What a place is lit by."""

from dataclasses import dataclass

from gen3r.data.synthetic.meshes import Array


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
class Lights:
    """Lamps or a sun, and the ambient light [3] from above and below."""

    sources: tuple[Source, ...]
    ambient_up: Array
    ambient_down: Array


@dataclass(frozen=True)
class Sky:
    """A vertical gradient from `horizon` to `zenith` with clouds; indoors it is never seen."""

    horizon: Array
    zenith: Array
    clouds: float
    cloud: float = 0.95  # how bright clouds are
    photo: Array | None = None  # [h, w, 3]: a photo of the sky in its place
    turn: float = 0.0  # of the photo about the vertical [rad]
