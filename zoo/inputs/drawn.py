"""Images that are drawn when a model reads them, and take no room until then: a page of a document."""

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

    def told(self) -> tuple[str, str, str]:
        """What tells it from other images of the same source."""
        return "page", str(self.number), str(self.max_side)

    def __str__(self) -> str:
        name = str(self.source) if isinstance(self.source, Path) else f"{len(self.source)} bytes"
        return f"{name}, page {self.number}"


def is_drawn(value: Any) -> bool:
    """Whether an image is one of these: `zoo.inputs.image.load_pixels` draws it."""
    return isinstance(value, DocumentPage)
