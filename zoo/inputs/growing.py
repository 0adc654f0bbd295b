"""What a point in an image means: the pixels around it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SHARE = 0.25  # of the shorter side


def grown(pixels: "np.ndarray", points: Sequence[tuple[float, float]]) -> "np.ndarray":
    """The region that points `(x, y)` of an image uint8 `(height, width, 3)` mean, as bool `(height, width)`: squares around them."""
    import numpy as np

    height, width = pixels.shape[:2]
    half = max(1, round(_SHARE * min(height, width) / 2))
    region = np.zeros((height, width), bool)
    for x, y in points:
        column, row = min(int(x), width - 1), min(int(y), height - 1)
        region[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1] = True
    return region
