"""What a point in an image means: the pixels that are easier to reach from it than from the image's frame, by colour alone.

The way from one pixel to the next costs the third power of how much the colour changes, so that one strong edge costs more than a
long way over a texture. A pixel belongs to the points where their cheapest way to it costs less than the frame's (as in the
image foresting transform of Falcão et al. 2004); then three rounds weigh this against how common the pixel's colour is
inside and around what was found (as GrabCut does, Rother et al. 2004, without its graph cut). What comes out far too small, a spot of
a pattern, or too large, the background, is taken for nothing found: then a square around each point is meant. No network, no training;
measured by `python -m benchmarks region_points` (docs/regions.md).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SIDE = 112  # longest side of the copy that is worked on: time and memory do not grow with the image
_BLUR = 0.7  # pixels of the copy
_EDGE, _POWER = 10.0, 3  # a change of colour that costs 1, in CIE Lab, and its exponent
_STEP = 0.01  # the least cost of a step
_SEED = 4 / 256  # radius around a point that is certainly meant, in longest sides
_COLOURS, _ROUNDS, _WEIGHT, _MOST = 64, 3, 0.6, 3.0  # of the palette; of the colours' say, and the most of one pixel's
_LEAST, _MOST_AREA, _SQUARE = (
    0.015,
    0.3,
    0.3,
)  # shares of the image that a thing has; side of a square, in shorter sides
_SWEEPS = 40  # a way turns at most about so often
_FAR = 1e9
# Linear sRGB to XYZ over the white of D65 (IEC 61966-2-1).
_XYZ = ((0.433953, 0.376219, 0.189828), (0.212671, 0.715160, 0.072169), (0.017758, 0.109477, 0.872766))


def grown(pixels: "np.ndarray", points: Sequence[tuple[float, float]]) -> "np.ndarray":
    """The region that points `(x, y)` of one thing in an image uint8 `(height, width, 3)` mean, as bool `(height, width)`.

    It holds every point, and what surrounds a hole holds the hole; squares around the points where nothing is found. Points at the
    image's very edge mean little: there the frame begins.
    """
    import numpy as np
    from PIL import Image, ImageFilter

    height, width = pixels.shape[:2]
    shape = tuple(max(1, round(side * min(1, _SIDE / max(height, width)))) for side in (height, width))
    small = Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BOX, reducing_gap=2.0)
    places = [
        (min(int(y * shape[0] / height), shape[0] - 1), min(int(x * shape[1] / width), shape[1] - 1)) for x, y in points
    ]
    along = _ways(_lab(np.asarray(small.filter(ImageFilter.GaussianBlur(_BLUR)))))
    seeds, frame = _disks(places, shape), np.zeros(shape, bool)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    near, far = _spread(seeds, along), _spread(frame & ~seeds, along)
    nearer = np.log((far + 1e-6) / (near + 1e-6)).clip(-4, 4)  # above 0 where the points win
    palette = np.asarray(small.quantize(_COLOURS))
    region = _whole(nearer > 0, seeds)
    for _ in range(_ROUNDS):
        region = _whole(nearer + _WEIGHT * _likeness(palette, region) > 0, seeds)
    if not _LEAST <= region.mean() <= _MOST_AREA:
        region = _squares(places, shape)
    levels = Image.fromarray(region.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    full = np.asarray(levels) > 127
    for x, y in points:  # of a thing thinner than a pixel of the copy
        full[min(int(y), height - 1), min(int(x), width - 1)] = True
    return full


def _disks(places: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> "np.ndarray":
    """What certainly is meant: small disks around the points."""
    import numpy as np

    rows, columns = np.ogrid[: shape[0], : shape[1]]
    disks = [(rows - row) ** 2 + (columns - column) ** 2 <= (_SEED * max(shape)) ** 2 for row, column in places]
    return np.logical_or.reduce(disks)


def _squares(places: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> "np.ndarray":
    """What is meant where nothing is found."""
    import numpy as np

    rows, columns = np.ogrid[: shape[0], : shape[1]]
    half = _SQUARE * min(shape) / 2
    return np.logical_or.reduce([(abs(rows - row) <= half) & (abs(columns - column) <= half) for row, column in places])


def _lab(colours: "np.ndarray") -> "np.ndarray":
    """sRGB uint8 `(h, w, 3)` in CIE Lab (D65), where distances are as eyes see them."""
    import numpy as np

    levels = colours / 255
    # sRGB's own curve (IEC 61966-2-1), undone.
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    x, y, z = np.moveaxis(linear @ np.array(_XYZ).T, -1, 0)
    # CIE 1976: 0.008856 is (6/29)³, below which the cube root gives way to a line.
    x, y, z = (np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _ways(colours: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """What it costs to go along each row from its left end, and along each column from its top, `(h, w)` both."""
    import numpy as np

    found = []
    for axis in (1, 0):
        change = np.sqrt(np.square(np.diff(colours, axis=axis)).sum(-1))
        start = [(1, 0), (0, 0)] if axis == 0 else [(0, 0), (1, 0)]
        # A running sum: what it costs from i to j along a line is |way[j] - way[i]|.
        found.append(np.pad(np.cumsum((change / _EDGE) ** _POWER + _STEP, axis=axis), start))
    return found[0], found[1]


def _spread(seeds: "np.ndarray", ways: "tuple[np.ndarray, np.ndarray]") -> "np.ndarray":
    """The cost of the cheapest way from any seed to each pixel, by sweeps along rows and columns until nothing changes."""
    import numpy as np

    cost = np.where(seeds, 0.0, _FAR)
    for _ in range(_SWEEPS):
        before = cost
        for axis, way in ((1, ways[0]), (0, ways[1])):
            # min over i ≤ j of cost[i] + way[j] - way[i]: way[j] comes out of the minimum, and
            # the rest is a running one.
            cost = np.minimum.accumulate(cost - way, axis=axis) + way
            back = np.minimum.accumulate(np.flip(cost + way, axis), axis=axis)
            cost = np.flip(back, axis) - way
        if np.max(before - cost) <= 1e-3:
            break
    return cost


def _whole(region: "np.ndarray", seeds: "np.ndarray") -> "np.ndarray":
    """The parts of a region that hang together with the seeds, their holes filled."""
    import numpy as np

    # What cannot be reached from the image's outside is a hole: the padding makes the outside one piece.
    padded = np.pad(~_reached(seeds, region | seeds), 1, constant_values=True)
    outside = np.zeros_like(padded)
    outside[0] = True
    return ~_reached(outside, padded)[1:-1, 1:-1]


def _reached(seeds: "np.ndarray", inside: "np.ndarray") -> "np.ndarray":
    """The pixels inside that a way inside leads to from the seeds."""
    import numpy as np

    reached = seeds & inside
    runs = [np.cumsum(~inside, axis=axis) for axis in (1, 0)]  # the same within a run of pixels inside
    while True:
        before = reached
        for axis, run in ((1, runs[0]), (0, runs[1])):
            # The run of the last reached pixel before this one, from both ends.
            for way in (slice(None), slice(None, None, -1)):
                along = (slice(None), way) if axis else (way, slice(None))
                signed = run[along] if way.step is None else run.max() - run[along]
                last = np.maximum.accumulate(np.where(reached[along], signed, -1), axis=axis)
                reached = (inside[along] & (last == signed))[along]
        if (reached == before).all():
            return reached


def _likeness(palette: "np.ndarray", region: "np.ndarray") -> "np.ndarray":
    """How much more common each pixel's colour is inside the region than around it: log of the shares' ratio."""
    import numpy as np

    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    around = np.zeros_like(region)
    tall, wide = (line[-1] + 1 - line[0] for line in (rows, columns))
    around[
        max(0, rows[0] - tall // 2) : rows[-1] + 1 + tall // 2,
        max(0, columns[0] - wide // 2) : columns[-1] + 1 + wide // 2,
    ] = True
    # One more of each colour: a colour that is nowhere has a share too, and the logarithm stays finite.
    inside, outside = (np.bincount(palette[part], minlength=256) + 1.0 for part in (region, around & ~region))
    return np.log((inside / inside.sum()) / (outside / outside.sum()))[palette].clip(-_MOST, _MOST)
