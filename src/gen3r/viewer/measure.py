"""The distance between two points that a person picks, and the unit that it makes known."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from gen3r.errors import InputError
from gen3r.viewer.shown import ShownScene

if TYPE_CHECKING:
    import viser

COLOUR = (255, 210, 60)
MARK = 0.006  # of the scene's median distance: the radius of a mark


@dataclass
class Ruler:
    """Two picked points of one scene, drawn as a line. The third pick starts anew."""

    server: "viser.ViserServer"
    shown: ShownScene
    picked: list[tuple[int, Tensor]] = field(default_factory=list)

    def pick(self, origin: np.ndarray, direction: np.ndarray) -> bool:
        """Adds the point that a ray of the server's world meets; False where it meets none."""
        found = self.shown.pick(origin, direction)
        if found is None:
            return False
        self.picked = [*(self.picked if len(self.picked) < 2 else []), found]
        self._draw()
        return True

    @property
    def length(self) -> float | None:
        """Between the two points, in the scene's unit."""
        if len(self.picked) < 2:
            return None
        (_, start), (_, end) = self.picked
        return float((end - start).norm())

    def known(self, metres: float) -> float:
        """Metres in the scene's unit, if the length is so many metres.

        Raises:
            InputError: there are no two points that are apart, or the length is not positive.
        """
        if not self.length:
            raise InputError("pick two points that are apart first")
        if not metres > 0:
            raise InputError("the length must be a positive number of metres")
        return metres / self.length

    def clear(self) -> None:
        """Removes points and line."""
        self.picked = []
        self._draw()

    def _draw(self) -> None:
        api, name = self.server.scene, f"{self.shown.name}/ruler"
        with self.server.atomic():
            root = api.add_frame(name, show_axes=False)
            if not self.picked:
                root.remove()
            places = [place.numpy() for _, place in self.picked]
            for number, place in enumerate(places):
                api.add_icosphere(f"{name}/{number}", MARK * self.shown.unit, color=COLOUR, position=place)
            if len(places) == 2:
                api.add_line_segments(
                    f"{name}/line", np.stack(places)[None], COLOUR, thickness=3.0, thickness_units="screen"
                )
