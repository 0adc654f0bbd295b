"""Masks that take little room until they are read: files, and run lengths as COCO writes them."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.errors import CorruptImageError, InvalidRegionError
from zoo.inputs.image import MAX_PIXELS, load_pixels
from zoo.inputs.kinds import read_bytes

if TYPE_CHECKING:
    import numpy as np

_MOST = 2**20  # run lengths of one mask: a photo's have some thousands


@dataclass(frozen=True)
class MaskFile:
    """A mask as an image file or its bytes, PNG, say: what is black, index 0 of a palette, or transparent is outside."""

    source: Path | bytes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray":
        """bool `(height, width)`.

        Raises:
            InvalidRegionError: a JPEG file, whose edges are no longer sharp. Besides what `load_pixels` raises.
        """
        import numpy as np
        from PIL import Image

        data = read_bytes(self.source) if isinstance(self.source, Path) else self.source
        name = str(self.source) if isinstance(self.source, Path) else "the mask"
        if data[:3] == b"\xff\xd8\xff":
            raise InvalidRegionError(
                f"{name} is a JPEG file, which blurs the edges of a mask; save it as PNG", what=name
            )
        try:
            pixels = load_pixels(data)  # of any format, checked and upright
        except CorruptImageError as error:  # which knows bytes alone
            raise CorruptImageError(f"{name} cannot be read: {error}", what=name) from error
        try:
            with Image.open(io.BytesIO(data)) as image:
                turned = image.getexif().get(0x0112, 1) != 1
                plain = image.mode in ("1", "L", "P", "I;16") and not turned
                levels = np.asarray(image) if plain else np.asarray(image.convert("RGBA"))
        except Exception as error:  # a format that Pillow has not; what is damaged was named above
            raise CorruptImageError(f"{name} cannot be read as a mask; save it as PNG", what=name) from error
        if not plain:
            if turned:
                levels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
            levels = levels[..., :3].any(-1) & (levels[..., 3] > 0)
        return levels.astype(bool)


@dataclass(frozen=True)
class RunLengths:
    """A mask as COCO's run lengths: pixels outside and inside in turn, from the top of each column down, outside first."""

    height: int
    width: int
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < self.height * self.width <= MAX_PIXELS or min(self.height, self.width) < 1:
            raise InvalidRegionError(
                f"a mask of {self.height} by {self.width} (height by width); at most {MAX_PIXELS:,} pixels are read"
            )
        if min(self.counts, default=0) < 0 or sum(self.counts) != self.height * self.width:
            raise InvalidRegionError(
                f"the run lengths of a mask are of {sum(self.counts):,} pixels, and its size [{self.height}, {self.width}] (height, "
                f"width) has {self.height * self.width:,}"
            )

    @classmethod
    def of(cls, bits: "np.ndarray") -> Self:
        """Of a mask, bool `(height, width)`."""
        import numpy as np

        bits = np.asarray(bits).astype(bool)
        # Column by column, as COCO counts (MATLAB's order).
        flat = bits.ravel(order="F")
        # prepend=False: counts begin outside, so a mask that begins inside has a first count of 0.
        edges = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
        return cls(*bits.shape, tuple(np.diff(edges, prepend=0).tolist()))

    @classmethod
    def parse(cls, size: Sequence[int], counts: str | Sequence[int]) -> Self:
        """Of COCO's `size` [height, width] and `counts`, a list or the compressed text.

        Raises:
            InvalidRegionError: they are none, or do not agree.
        """
        if isinstance(counts, str | list | tuple) and len(counts) > _MOST:
            raise InvalidRegionError(
                f"a mask of {len(counts):,} run lengths, or letters of them; at most {_MOST:,} are read"
            )
        counts = _unpacked(counts) if isinstance(counts, str) else counts
        values = [*size, *counts] if isinstance(size, list | tuple) and isinstance(counts, list | tuple) else [None]
        if len(size) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) for n in values):
            raise InvalidRegionError(
                'a mask is a file, or {"size": [height, width], "counts": …} with run lengths as COCO has them: whole numbers, or '
                "their compressed text"
            )
        return cls(*size, tuple(counts))

    @property
    def text(self) -> str:
        """The counts as COCO's compressed text: from the fourth on the difference to that before the last, five bits a letter."""
        letters = []
        for place, count in enumerate(self.counts):
            # Runs of neighbouring columns are alike, so differences are small and take few letters.
            left = count - self.counts[place - 2] if place > 2 else count
            while True:
                bits, left = left & 31, left >> 5
                last = left == (-1 if bits & 16 else 0)
                # From "0" on, printable: bit 32 says that another letter of this number follows.
                letters.append(chr(48 + bits + (0 if last else 32)))
                if last:
                    break
        return "".join(letters)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray":
        """bool `(height, width)`."""
        import numpy as np

        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(self.width, self.height).T


def mask_files(regions: Iterable[Any]) -> list[Path]:
    """The files that masks among these regions are read from."""
    sources = (getattr(getattr(region, "pixels", None), "source", None) for region in regions)
    return [source for source in sources if isinstance(source, Path)]


def _unpacked(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise InvalidRegionError(f"the run lengths of a mask are no text of COCO's at {letter!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16) << (shift - 4)  # the sign
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise InvalidRegionError("the run lengths of a mask are cut off")
    return counts
