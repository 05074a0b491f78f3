"""Names and options of the procedural world. Importing this is light, for the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from gen3r.errors import InputError
from gen3r.options import option

SPLITS = {"train": 0, "test": 1}
Place = Literal["room", "corridor", "street", "plaza", "terrain"]
Time = Literal["morning", "noon", "afternoon", "dusk", "night"]
Weather = Literal["clear", "cloudy", "fog", "rain"]
INDOORS = ("room", "corridor")


@dataclass(frozen=True, kw_only=True)
class WorldOptions:
    """What is asked of the world; None leaves it to chance. movers: one to three dynamic objects.

    textures: a folder of photos (.jpg, .png, or .zip files of them) for textures and skies of training scenes.

    Raises:
        InputError: there is no such place, time or weather; weather in a room or a corridor.
    """

    place: Place | None = option(None, "only this place (default: any)")
    time: Time | None = option(None, "only this time of day (default: any)")
    weather: Weather | None = option(None, "only this weather (default: any)")
    movers: bool = option(False, "add dynamic objects, where depth is 0")
    textures: Path | None = option(
        None,
        "folder of photos (.jpg, .png, or .zip files of them) for textures and skies of training scenes; check that "
        "their licence allows it (default: a few photos that Python packages ship)",
        metavar="FOLDER",
    )

    def __post_init__(self) -> None:
        for name, kind in (("place", Place), ("time", Time), ("weather", Weather)):
            value = getattr(self, name)
            if value is not None and value not in get_args(kind):
                raise InputError(f"{name} must be one of {', '.join(get_args(kind))}, not {value}")
        if self.weather and self.place in INDOORS:
            raise InputError(f"there is no weather in a {self.place}; leave out the weather or choose another place")
