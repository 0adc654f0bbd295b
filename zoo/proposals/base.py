"""What a proposer is: an upright image to regions with scores, best first; and how boxes of one thing become one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import ArgumentError
from zoo.inputs.regions import Box, Region

if TYPE_CHECKING:
    import numpy as np


class Proposal(NamedTuple):
    """A region of an image, in its pixels; the box around it; and how sure the network is, 0 to 1."""

    region: Region
    box: Box
    score: float


class Proposer:
    """Base of all proposers."""

    def propose(self, pixels: "np.ndarray") -> Iterator[Proposal]:
        """Proposals for one image, best first; none where the network finds nothing.

        Args:
            pixels: the upright image, uint8 `(height, width, 3)`, as `zoo.inputs.image.load_pixels` gives it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define propose")

    def config(self) -> dict[str, Any]:
        """JSON-able: all that its proposals depend on, the digest of its weights among it."""
        raise NotImplementedError(f"{type(self).__name__} must define config")


def kept(boxes: "np.ndarray", scores: "np.ndarray", overlap: float, most: int) -> list[int]:
    """Places of the best boxes, best first, without those that cover a better one (greedy non-maximum suppression).

    Args:
        boxes: `(n, 4)`: left, top, right, bottom. scores: `(n,)`.
        overlap: two boxes whose intersection is a larger part of their union than this are of one thing. most: how many at most.
    """
    import numpy as np

    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, found = np.argsort(-np.asarray(scores), kind="stable"), []
    while len(left) and len(found) < most:
        best, left = left[0], left[1:]
        found.append(int(best))
        low, high = np.maximum(boxes[best, :2], boxes[left, :2]), np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[best] + areas[left] - shared
        left = left[shared <= overlap * union]
    return found


def check_choice(most: Any, **shares: Any) -> None:
    """Raises ArgumentError for a number of proposals that is none, or for shares that are not from 0 to 1."""
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ArgumentError(f"most is how many proposals an image may have, 1 or more, not {most!r}")
    for name, value in shares.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ArgumentError(f"{name} is from 0 to 1, not {value!r}")
