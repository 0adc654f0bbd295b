"""What is there twice: groups of vectors that are nearly the same, and which of them hold the very same."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.arguments import checked, function, optional
from zoo.errors import ArgumentError, OutsideError
from zoo.vectors.opening import Vectors

if TYPE_CHECKING:
    import numpy as np

# Of 1,724 photos of the pack (Caltech 101 and clothing; a few hundred pixels wide) by zoo-mini, `python -m benchmarks near_copies`:
# at 0.95 86 % of their copies that are a fifth brighter are found, 72 % of those cut by 2 % at each edge, 34 % of those in JPEG of
# quality 30 and 8 % of those of half the size; 0.8 % have another photo as near, all of the same kind of thing, as many as
# zoo-mini-v1 had at its 0.97. At 0.97 the shares found fall to 70, 45, 16 and 3 %. At 0.9 they are 99, 96, 70 and 31 % of 169 photos, but
# 8 % of 1,904 have another as near, and of the packs' short texts 5 to 15 %.
THRESHOLD = 0.95
# Rows that are compared with all later ones at a time, and columns of one product: 32 MB of float32.
ROWS, COLUMNS = 1024, 8192
_EQUAL = 0.999  # the cosine of the same content, embedded in another batch, is above it; int8 adds the most to that


@dataclass(frozen=True)
class Copy:
    """A vector that is near to the first of its group.

    Attributes:
        position: among the vectors. score: cosine to the first.
        same: whether its input has the same content as the first, byte for byte or letter for letter; None where
            a file of the two is not there to look into.
    """

    position: int
    score: float
    same: bool | None


@dataclass(frozen=True)
class Group:
    """Vectors that are nearly the same: the first in the order of the source, and the others, nearest first."""

    first: int
    others: tuple[Copy, ...]


def check_threshold(threshold: float | None, precision: str) -> float:
    """The threshold, or the default; raises ArgumentError."""
    if threshold is None and precision == "binary":
        raise ArgumentError(
            "the default threshold is of float32 vectors, and cosines of binary ones are lower; name one, such as 0.9"
        )
    threshold = THRESHOLD if threshold is None else threshold
    if not 0 < threshold <= 1:
        raise ArgumentError(f"a threshold is a cosine above 0 and up to 1, not {threshold}; usual are 0.9 to 0.99")
    return threshold


@checked(progress=optional(function))
def find_duplicates(
    vectors: Vectors, threshold: float | None = None, *, progress: Callable[[int, int], None] | None = None
) -> list[Group]:
    """Groups of at least two, in the order of the source.

    In the order of the source each input joins the earliest group whose first it is near to, or else begins one. So every
    member is near to the first of its group, and none is joined to it through others alone. Work grows with the square
    of the number (100,000 of 512 columns: a minute of one core), memory does not.

    Args:
        threshold: the least cosine of what is nearly the same; by default `THRESHOLD`.
        progress: is called with (vectors compared, of all).

    Raises:
        ArgumentError: see `check_threshold`.
    """
    threshold = check_threshold(threshold, vectors.precision)
    first, scores = _nearest_firsts(vectors, threshold, progress)
    members: dict[int, list[int]] = {}
    for position in (first >= 0).nonzero()[0].tolist():
        members.setdefault(int(first[position]), []).append(position)
    contents = _Contents(vectors)
    groups = []
    for begins, others in sorted(members.items()):
        copies = [Copy(one, float(scores[one]), contents.same(begins, one, float(scores[one]))) for one in others]
        groups.append(Group(begins, tuple(sorted(copies, key=lambda copy: (not copy.same, -copy.score)))))
    return groups


def _nearest_firsts(
    vectors: Vectors, threshold: float, progress: Callable[[int, int], None] | None
) -> "tuple[np.ndarray, np.ndarray]":
    """Of each vector the first of its group, -1 where it is one itself, and the cosine to it."""
    import numpy as np

    first, scores = np.full(len(vectors), -1, np.int64), np.zeros(len(vectors), np.float32)
    # Rounding keeps the cosine of a vector with itself from being 1 to the last digit.
    least = threshold - 1e-5
    for start, stop in vectors.blocks(ROWS):
        rows = vectors.floats(start, stop)
        alike = rows @ rows.T
        for row in range(stop - start):  # within the block one after the other: who joins a group begins none
            if first[start + row] < 0:
                later = np.arange(row + 1, stop - start)
                joins = later[(first[start + row + 1 : stop] < 0) & (alike[row, row + 1 :] >= least)]
                first[start + joins], scores[start + joins] = start + row, alike[row, joins]
        begins = start + (first[start:stop] < 0).nonzero()[0]
        for left in range(stop, len(vectors), COLUMNS):
            open_ones = left + (first[left : left + COLUMNS] < 0).nonzero()[0]
            if len(open_ones) and len(begins):
                products = vectors.floats(left, left + COLUMNS)[open_ones - left] @ rows[begins - start].T
                earliest = (products >= least).argmax(1)
                found = products[np.arange(len(open_ones)), earliest]
                joins = found >= least
                first[open_ones[joins]], scores[open_ones[joins]] = begins[earliest[joins]], found[joins]
        if progress is not None:
            progress(stop, len(vectors))
    return first, scores.clip(-1, 1)


class _Contents:
    """What inputs hold, looked into only where vectors are near."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors, self._texts, self._known = vectors, vectors.texts(), dict[int, bytes | None]()

    def same(self, a: int, b: int, score: float) -> bool | None:
        if self._texts is not None:
            return self._texts[a] == self._texts[b]
        if score < _EQUAL:  # of items of an image and a text the image alone may be the same
            return False
        one, other = self._digest(a), self._digest(b)
        return None if one is None or other is None else one == other

    def _digest(self, position: int) -> bytes | None:
        if position not in self._known:
            try:
                self._known[position] = _of_part(_digest(self._vectors.input(position)), self._vectors.part(position))
            except OutsideError:  # of a folder that others made: not known to be the same
                self._known[position] = None
        return self._known[position]


def _of_part(digest: bytes | None, part: tuple[Any, ...]) -> bytes | None:
    """Of a page or a moment: no two of one file are the very same, however alike they look."""
    return digest if digest is None or not part else digest + repr(part).encode()


def _digest(content: Path | bytes | None) -> bytes | None:
    if content is None:
        return None
    if isinstance(content, bytes):
        return hashlib.blake2b(content, digest_size=16).digest()
    try:
        if not content.is_file():  # opening a pipe would wait for ever
            return None
        with content.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    except OSError:
        return None
