"""Masked crop: everything outside the region made white, then the part around it cut out. The best of what needs no training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.regions.base import RegionRule, Upright

if TYPE_CHECKING:
    import numpy as np

Fill = Literal["white", "grey", "mean", "blur", "none"]
FILLS: tuple[Fill, ...] = ("white", "grey", "mean", "blur", "none")
_BLUR = 0.1  # radius, in sides of the crop
_WHITE, _GREY = 255, 128
_LONGEST = 4096  # side in pixels above which an image is halved, or more, first: a square around a long region would fill gigabytes


@dataclass(frozen=True)
class MaskedCrop(RegionRule):
    """The box around the region, `scale` times as wide and high, with `fill` wherever the region is not.

    Args:
        scale: of the box around the region, 1 to 10; what reaches outside the image is filled too.
        fill: "white", "grey" (128), "mean" (the image's mean colour), "blur" (the image itself, out of focus) or "none" (the image
            as it is: a plain crop).
        square: whether the crop is a square, so that a model that crops or squeezes images keeps all of it, undistorted.

    Raises:
        ValueError: a scale outside 1 to 10, or no such fill.
    """

    scale: float = 1.2
    fill: Fill = "white"
    square: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float) or not 1 <= self.scale <= 10:
            raise ValueError(f"scale must be from 1 to 10, not {self.scale!r}")
        if self.fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, not {self.fill!r}")
        if not isinstance(self.square, bool):
            raise ValueError(f"square must be True or False, not {self.square!r}")

    def image(self, whole: Upright, mask: "np.ndarray") -> "np.ndarray":
        import numpy as np

        pixels, mask = _bounded(whole, mask)
        left, top, right, bottom = self._frame(mask)
        height, width = mask.shape
        # The part of the frame that lies in the image, and where in the frame it lies.
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        part, inside = pixels[y0:y1, x0:x1], mask[y0:y1, x0:x1]
        background = self._background(whole, part)
        crop = np.empty((bottom - top, right - left, 3), np.uint8)
        crop[:] = _WHITE if self.fill in ("blur", "none") else background
        shown = part if self.fill == "none" else np.where(inside[..., None], part, background)
        crop[y0 - top : y1 - top, x0 - left : x1 - left] = shown
        return crop

    def _frame(self, mask: "np.ndarray") -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what is cut out, in pixels; it may reach outside the image."""
        import numpy as np

        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        middle = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
        # Around the middle of the box, also at the image's border: the region stands in the middle of
        # the crop wherever it is.
        sides = [max(1, round(self.scale * (line[-1] + 1 - line[0]))) for line in (rows, columns)]
        height, width = [max(sides)] * 2 if self.square else sides
        top, left = round(middle[0] - height / 2), round(middle[1] - width / 2)
        return left, top, left + width, top + height

    def _background(self, whole: Upright, part: "np.ndarray") -> "np.ndarray":
        """What stands outside the region: one colour `(3,)`, or pixels of the part's size."""
        import numpy as np

        if self.fill == "blur":
            from PIL import Image, ImageFilter

            radius = max(1.0, _BLUR * max(part.shape[:2]))
            return np.asarray(Image.fromarray(np.ascontiguousarray(part)).filter(ImageFilter.GaussianBlur(radius)))
        if self.fill == "mean":
            return whole.once("mean colour", lambda: whole.pixels.reshape(-1, 3).mean(0).round().astype(np.uint8))
        return np.full(3, _GREY if self.fill == "grey" else _WHITE, np.uint8)


def _bounded(whole: Upright, mask: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """The image and the mask, both reduced by a whole number where the image is very large. No region vanishes."""
    step = -(-max(mask.shape) // _LONGEST)
    if step == 1:
        return whole.pixels, mask
    import numpy as np
    from PIL import Image

    smaller = whole.once("reduced", lambda: np.asarray(Image.fromarray(whole.pixels).reduce(step)))
    for axis in (0, 1):
        # A reduced pixel is meant where any of its pixels was: by a majority a thin region would vanish.
        mask = np.logical_or.reduceat(mask, range(0, mask.shape[axis], step), axis=axis)
    return smaller, mask
