"""Windows of several sizes, the same in every image: the whole, halves, quarters, each half over its neighbour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from zoo.bulk.finders.base import Finder, Found, register_finder
from zoo.errors import ArgumentError
from zoo.inputs.regions import Box

MOST = 4


@register_finder("grid")
class Grid(Finder):
    """Boxes whose sides are 1, 1/2, 1/4, … of the image's, a size a level, moved by half of their side: 1, 9, 49, 225 boxes.

    Args:
        levels: how many sizes there are: 2 make 10 boxes an image, 3 make 59.

    Raises:
        ArgumentError: no level, or more than four.
    """

    def __init__(self, levels: int = 2) -> None:
        if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= MOST:
            raise ArgumentError(f"a grid has 1 to {MOST} levels, not {levels!r}")
        self.levels = levels
        self._found = tuple(Found(box) for level in range(levels) for box in _level(level))

    @classmethod
    def parse(cls, setting: str, device: str | None = None) -> Self:
        """Of "grid:3" the levels."""
        if setting and not (setting.isascii() and setting.isdigit()):
            raise ArgumentError(f"grid:LEVELS is a whole number from 1 to {MOST}, not {setting!r}")
        return cls(int(setting)) if setting else cls()

    @property
    def spelled(self) -> str:
        """See `Finder`."""
        return f"{self.name}:{self.levels}"

    def find(self, image: Path | bytes | None, name: str) -> Sequence[Found]:
        """See `Finder`; the image is not looked at."""
        return self._found

    def config(self) -> dict[str, Any]:
        """See `Finder`."""
        return {"levels": self.levels}


def _level(level: int) -> list[Box]:
    """Boxes of a side of 2^-level, row by row; all their corners are exact in binary."""
    side = 0.5**level
    starts = [step * side / 2 for step in range(2 ** (level + 1) - 1)]
    return [Box.relative(x, y, x + side, y + side) for y in starts for x in starts]
