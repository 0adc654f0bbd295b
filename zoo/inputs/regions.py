"""Regions: boxes, points, masks and polygons in an image, checked, and made one mask of the pixels that are meant.

Coordinates are pixels of the upright image, as EXIF's orientation leaves it: x to the right and y down from its top left corner,
so that a box of the whole image is `Box(0, 0, width, height)`. `Box.relative(…)` and the like are in parts of the sides, 0 to 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from zoo.errors import InvalidRegionError

if TYPE_CHECKING:
    import numpy as np

Unit = Literal["pixels", "relative"]
MAX_REGIONS = 1000  # of one item
MAX_CORNERS = 10_000  # of one polygon
_FARTHEST = 2.0**53  # up to here every whole number is a float of its own


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, right, bottom. What of it lies outside the image is cut away."""

    x0: float
    y0: float
    x1: float
    y1: float
    unit: Unit = "pixels"

    @classmethod
    def relative(cls, x0: float, y0: float, x1: float, y1: float) -> Self:
        """A rectangle in parts of the image's width and height, 0 to 1."""
        return cls(x0, y0, x1, y1, "relative")

    @property
    def numbers(self) -> tuple[float, ...]:
        """All coordinates, x and y in turn."""
        return (self.x0, self.y0, self.x1, self.y1)


@dataclass(frozen=True)
class Point:
    """A place on the thing that is meant."""

    x: float
    y: float
    unit: Unit = "pixels"

    @classmethod
    def relative(cls, x: float, y: float) -> Self:
        """A place in parts of the image's width and height, 0 to 1."""
        return cls(x, y, "relative")

    @property
    def numbers(self) -> tuple[float, ...]:
        """x and y."""
        return (self.x, self.y)


@dataclass(frozen=True)
class Polygon:
    """An outline by its corners ((x, y), …), closed from the last to the first. Where it crosses itself, what it goes round twice
    lies outside (the even-odd rule, as of SVG and of COCO's tools).
    """

    corners: tuple[tuple[float, float], ...]
    unit: Unit = "pixels"

    def __init__(self, corners: Sequence[Sequence[float]], unit: Unit = "pixels") -> None:
        try:
            pairs = tuple((corner[0], corner[1]) for corner in corners if len(corner) == 2 or _no_corner(corner))
        except (TypeError, IndexError, KeyError) as error:
            raise InvalidRegionError("a polygon is a list of corners, [(x, y), …]", what=repr(corners)[:60]) from error
        object.__setattr__(self, "corners", pairs)
        object.__setattr__(self, "unit", unit)

    @classmethod
    def relative(cls, corners: Sequence[Sequence[float]]) -> Self:
        """An outline in parts of the image's width and height, 0 to 1."""
        return cls(corners, "relative")

    @property
    def numbers(self) -> tuple[float, ...]:
        """All coordinates, x and y in turn."""
        return tuple(number for corner in self.corners for number in corner)


@dataclass(frozen=True, eq=False)
class Mask:
    """An array `(height, width)` over the upright image, True (or not 0) inside the region."""

    pixels: "np.ndarray"


Region = Box | Point | Mask | Polygon


def _no_corner(corner: Any) -> bool:
    raise InvalidRegionError(f"a corner of a polygon is (x, y), not {corner!r:.40}", what=repr(corner)[:60])


def checked_regions(regions: Sequence[Any]) -> tuple[Region, ...]:
    """The regions of one item, once each is valid by itself, whatever its image: types, numbers, units, areas.

    Raises:
        InvalidRegionError: the message names the region by its position, from 0.
    """
    if len(regions) > MAX_REGIONS:
        raise InvalidRegionError(
            f"{len(regions):,} regions in one item, of which all together are one region; at most {MAX_REGIONS:,}. For a vector of "
            "each: model.encode_regions(image, regions); for many points of one thing: a Mask",
            what=f"{len(regions)} regions",
        )
    return tuple(_checked(region, f"region {position}") for position, region in enumerate(regions))


def _checked(region: Any, name: str) -> Region:
    if isinstance(region, Mask):
        return Mask(_bits(region.pixels, name))
    if not isinstance(region, Box | Point | Polygon):
        raise InvalidRegionError(
            f"{name} is a {type(region).__name__}; write zoo.Box(x0, y0, x1, y1), zoo.Point(x, y), zoo.Polygon([(x, y), …]) or "
            "zoo.Mask(array)",
            what=repr(region)[:60],
        )
    return check_coordinates(region, name)


def check_coordinates(region: Box | Point | Polygon, name: str) -> Box | Point | Polygon:
    """The region itself, once its numbers, its unit and its area are valid, whatever its image; `name` is said of it.

    Raises:
        InvalidRegionError: they are not.
    """
    said = f"{name}, {region!r:.80}"
    for number in region.numbers:
        if isinstance(number, bool) or (not isinstance(number, int | float) and not hasattr(number, "__float__")):
            raise InvalidRegionError(f"{said}: coordinates are numbers, not {number!r:.30}", what=repr(region)[:80])
        if not -_FARTHEST < number < _FARTHEST:  # NaN is not either
            raise InvalidRegionError(f"{said}: coordinates must be finite", what=repr(region)[:80])
    if region.unit not in ("pixels", "relative"):
        raise InvalidRegionError(f'{said}: unit is "pixels" or "relative", not {region.unit!r}', what=repr(region)[:80])
    if region.unit == "relative" and not all(0 <= number <= 1 for number in region.numbers):
        raise InvalidRegionError(
            f"{said}: relative coordinates are from 0 to 1; in pixels write {type(region).__name__}(…)",
            what=repr(region)[:80],
        )
    if (
        region.unit == "pixels"
        and any(number % 1 for number in region.numbers)
        and all(0 <= n <= 1 for n in region.numbers)
    ):
        raise InvalidRegionError(
            f"{said} lies within the first pixel; in parts of the sides, 0 to 1, write {type(region).__name__}.relative(…)",
            what=repr(region)[:80],
        )
    _check_area(region, said)
    return region


def _check_area(region: Box | Point | Polygon, said: str) -> None:
    if isinstance(region, Box) and not (region.x0 < region.x1 and region.y0 < region.y1):
        raise InvalidRegionError(
            f"{said} has no area; a box is left, top, right, bottom (of x, y, width and height: Box(x, y, x + width, y + height))",
            what=repr(region)[:80],
        )
    if not isinstance(region, Polygon):
        return
    if not 3 <= len(region.corners) <= MAX_CORNERS:
        raise InvalidRegionError(
            f"{said[:80]}: a polygon has 3 to {MAX_CORNERS:,} corners, not {len(region.corners):,}",
            what=repr(region)[:80],
        )
    (x, y), *others = region.corners
    (u, v) = max(others, key=lambda corner: abs(corner[0] - x) + abs(corner[1] - y))
    if all((a - x) * (v - y) == (b - y) * (u - x) for a, b in others):
        raise InvalidRegionError(f"{said}: all corners lie on one line, and it has no area", what=repr(region)[:80])


def _bits(pixels: Any, name: str) -> "np.ndarray":
    """A mask's array as bool `(height, width)`."""
    import numpy as np

    array = pixels.detach().cpu().numpy() if hasattr(pixels, "detach") else np.asarray(pixels)
    said = f"{name}, a mask of {array.dtype} {tuple(array.shape)}"
    if array.ndim != 2 or array.dtype.kind not in "bui":
        why = (
            "compare scores with a threshold first, and pass bool"
            if array.dtype.kind == "f"
            else "pass bool (height, width)"
        )
        raise InvalidRegionError(f"{said}: {why}", what=f"mask {tuple(array.shape)}")
    if array.dtype.kind == "i" and (array < 0).any():
        raise InvalidRegionError(
            f"{said} has negative values; pass bool (height, width)", what=f"mask {tuple(array.shape)}"
        )
    bits = array.astype(bool)
    if not bits.any():
        raise InvalidRegionError(
            f"{said} is False everywhere, so that nothing is meant", what=f"mask {tuple(array.shape)}"
        )
    return bits


def resolved(regions: Sequence[Region], height: int, width: int) -> tuple[Region, ...]:
    """Valid regions (see `checked_regions`) in pixels of an image; boxes are cut at its border, points on the border moved to the
    pixel before it.

    Raises:
        InvalidRegionError: a region lies outside the image, or a mask has another size.
    """
    return tuple(_resolved(region, f"region {i}", height, width) for i, region in enumerate(regions))


def _resolved(region: Region, name: str, height: int, width: int) -> Region:
    size = f"the upright image, which is {width} wide and {height} high"
    if isinstance(region, Mask):
        if not hasattr(region.pixels, "shape"):  # of `zoo.inputs.masks`: it is read here
            region = Mask(_bits(region.pixels, name))
        if region.pixels.shape != (height, width):
            given = " by ".join(map(str, region.pixels.shape))
            raise InvalidRegionError(
                f"{name}, a mask of {given} (height by width), is not of the size of {size}; scale it with nearest neighbours",
                what=f"mask {region.pixels.shape}",
            )
        return region
    factors = (width, height) if region.unit == "relative" else (1, 1)
    numbers = [float(number) * factors[place % 2] for place, number in enumerate(region.numbers)]
    outside = InvalidRegionError(f"{name}, {region!r:.80}, lies outside {size}", what=repr(region)[:80])
    if isinstance(region, Point):
        x, y = numbers
        if not (0 <= x <= width and 0 <= y <= height):
            raise outside
        return Point(min(x, width - 1), min(y, height - 1))
    xs, ys = numbers[::2], numbers[1::2]
    if max(xs) <= 0 or max(ys) <= 0 or min(xs) >= width or min(ys) >= height:
        raise outside
    if isinstance(region, Box):
        return Box(max(xs[0], 0.0), max(ys[0], 0.0), min(xs[1], float(width)), min(ys[1], float(height)))
    return Polygon(list(zip(xs, ys, strict=True)))


def bounds(region: Region) -> tuple[float, float, float, float]:
    """The box around a region, left, top, right, bottom, in its own unit; of a point both corners are it."""
    if isinstance(region, Mask):
        bits = _bits(region.pixels, "it")
        (rows,), (columns,) = bits.any(1).nonzero(), bits.any(0).nonzero()
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    xs, ys = region.numbers[::2], region.numbers[1::2]
    return float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))


def mask_of(regions: Sequence[Region], pixels: "np.ndarray") -> "np.ndarray":
    """The union of an item's regions as bool `(height, width)`, with at least one pixel; points mean what `grown` finds around them.

    Args:
        regions: valid ones (see `checked_regions`). pixels: the upright image, uint8 `(height, width, 3)`.

    Raises:
        InvalidRegionError: as `resolved`.
    """
    import numpy as np

    height, width = pixels.shape[:2]
    union = np.zeros((height, width), bool)
    regions = resolved(regions, height, width)
    for position, region in enumerate(regions):
        if isinstance(region, Box):
            union[_span(region.y0, region.y1, height), _span(region.x0, region.x1, width)] = True
        elif isinstance(region, Polygon):
            union |= _filled(region, height, width, f"region {position}")
        elif isinstance(region, Mask):
            union |= region.pixels
    if points := [region for region in regions if isinstance(region, Point)]:
        from zoo.inputs.growing import grown

        union |= grown(pixels, [(point.x, point.y) for point in points])
    return union


def _span(low: float, high: float, size: int) -> slice:
    """The pixels whose middle lies from `low` to `high`; the one around the middle where there is none."""
    first, last = math.ceil(low - 0.5), math.ceil(high - 0.5)
    if first >= last:
        first = min(int((low + high) / 2), size - 1)
        last = first + 1
    return slice(max(first, 0), min(last, size))


def _filled(polygon: Polygon, height: int, width: int, name: str) -> "np.ndarray":
    """The pixels whose middle lies inside, by the even-odd rule: those with an odd number of edges to their left."""
    import numpy as np

    edges = np.zeros((height, width + 1), bool)
    for (x0, y0), (x1, y1) in zip(polygon.corners, (*polygon.corners[1:], polygon.corners[0]), strict=True):
        if y0 == y1:
            continue
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(0, math.ceil(y0 - 0.5)), min(height, math.ceil(y1 - 0.5)))
        crossings = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        edges[rows, np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)] ^= (
            True  # a row once an edge, so none is lost
        )
    inside = np.logical_xor.accumulate(edges[:, :width], axis=1)
    if not inside.any():
        raise InvalidRegionError(
            f"{name}, {polygon!r:.80}, holds the middle of no pixel of the image", what=repr(polygon)[:80]
        )
    return inside
