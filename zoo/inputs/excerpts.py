"""Excerpts: a page of a document, or a segment of audio or video, wherever the whole might stand; read when a model reads it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE_SIDE = 1536
"""Pixels of a page's longer side: A4 at 131 dpi, so that print of 8 points is read."""
MAX_SIDE = 8000
"""Pixels of a page's longer side: a square page then has the 64 megapixels of the largest image."""


@dataclass(frozen=True)
class DocumentPage:
    """A page of a PDF as an image, wherever an image is taken: `Item(image=DocumentPage(path, 3))`.

    Args:
        source: the file, or its bytes. number: of the page, counted from 1.
        max_side: pixels of its longer side, 1 to 8,000.

    Raises:
        ValueError: a `max_side` that is none. A page that is not there is an error of the item, when it is read.
    """

    source: Path | bytes
    number: int
    max_side: int = PAGE_SIDE

    def __post_init__(self) -> None:
        if isinstance(self.max_side, bool) or not isinstance(self.max_side, int) or not 1 <= self.max_side <= MAX_SIDE:
            raise ValueError(f"max_side must be a whole number from 1 to {MAX_SIDE:,}, not {self.max_side!r}")

    def told(self) -> tuple[str, ...]:
        """What tells it from other excerpts of the same source."""
        return "page", str(self.number), str(self.max_side)

    def __str__(self) -> str:
        return f"{_name(self.source)}, page {self.number}"


@dataclass(frozen=True)
class Excerpt:
    """A segment of audio or video, wherever the whole is taken: `Item(video=Excerpt(path, 90, 5))`.

    Args:
        source: what `Item` takes as audio or as a video. start: seconds from its beginning, 0 or more.
        seconds: how long it is, more than 0; what the source has of it is read.

    Raises:
        ValueError: numbers that are no such times.
    """

    source: Any
    start: float
    seconds: float

    def __post_init__(self) -> None:
        for name, least in (("start", True), ("seconds", False)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or not (value or least):
                raise ValueError(
                    f"{name} must be a number of seconds, {'0 or more' if least else 'over 0'}, not {value!r}"
                )

    def within(self, start: float, seconds: float) -> tuple[Any, float, float]:
        """Source, start and seconds of a segment of this one; 0 seconds are all that is left of it.

        Raises:
            ValueError: it begins after the end.
        """
        if start >= self.seconds:
            raise ValueError(f"{self} has no segment from {start:g} s on")
        left = self.seconds - start
        return self.source, self.start + start, min(seconds, left) if seconds else left

    def told(self) -> tuple[str, ...]:
        """What tells it from other excerpts of the same source."""
        return "excerpt", repr(float(self.start)), repr(float(self.seconds))

    def __str__(self) -> str:
        return f"{_name(self.source)}, {self.start:g} to {self.start + self.seconds:g} s"


def is_excerpt(value: Any) -> bool:
    """Whether something is a part of a file, of its `source`."""
    return isinstance(value, DocumentPage | Excerpt)


def _name(source: Any) -> str:
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    return str(source) if isinstance(source, Path) else type(source).__name__
