"""The names of camera paths. Importing this loads nothing heavy, so `--help` can list them."""

from typing import Literal

FREE, BETWEEN = "free", "between"  # paths that only the pipeline knows
Easing = Literal["linear", "ease"]
_D, _A = "x scene depth", "degrees"

# Name -> usual extent, its unit, and what the path does.
PATHS: dict[str, tuple[float, str, str]] = {
    "dolly_in": (0.4, _D, "move forward"),
    "dolly_out": (0.4, _D, "move backward"),
    "truck_left": (0.3, _D, "move left, looking straight on"),
    "truck_right": (0.3, _D, "move right, looking straight on"),
    "pedestal_up": (0.15, _D, "rise, looking straight on"),
    "pedestal_down": (0.15, _D, "sink, looking straight on"),
    "pan_left": (15, _A, "turn left in place"),
    "pan_right": (15, _A, "turn right in place"),
    "tilt_up": (10, _A, "turn up in place"),
    "tilt_down": (10, _A, "turn down in place"),
    "orbit_left": (10, _A, "circle the scene to the left, looking at it"),
    "orbit_right": (10, _A, "circle the scene to the right, looking at it"),
    "spiral": (0.15, _D, "one widening turn, looking at the scene"),
    "still": (0, _A, "do not move"),
    "zoom_in": (0.8, _D, "the published zoom in: move forward"),
    "zoom_out": (0.8, _D, "the published zoom out: move backward"),
    "arc_left": (15, _A, "the published arc left: turn in place, despite its name"),
    "arc_right": (15, _A, "the published arc right: turn in place, despite its name"),
    "translate_up": (15, _A, "the published translate up: turn in place, despite its name"),
    "translate_down": (15, _A, "the published translate down: turn in place, despite its name"),
}
