"""Large JPEG photos decoded at 1/2, 1/4 or 1/8 of their size, for models that scale them down much further (`pixels="scaled"`).

libjpeg makes the smaller image out of the same coefficients, which costs half the time for 12 megapixels at 1/4. Which fraction is a
matter of the image's size and the model's alone, and every libjpeg makes the same pixels of it.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.inputs.image import _EXIF_ORIENTATION, _check_size, _from_pil, _guarded, _upright, load_pixels
from zoo.inputs.kinds import describe, is_open_file, read_bytes, read_open_file

if TYPE_CHECKING:
    import numpy as np

LEAST = {8: 2.5, 4: 2.0, 2: 2.0}
"""By divisor, how many times as long as it is scaled to a side stays at least, so that the mean error of sharp photos is under 1/255: at
1/8 only the mean of a block of 8 x 8 is left, and twice as long would give 1.2/255. At 1 it would be an error that people see."""
Target = Callable[[int, int], tuple[int, int]]


class Fraction(NamedTuple):
    """What pixels that were decoded to a fraction are of.

    Attributes:
        whole: height and width of the image itself, upright.
        box: (left, top, right, bottom) of what the image fills of the decoded pixels: 4001 columns at 1/4 become 1001, of which they
            fill 1000.25; the last one lies at the left where orientation turns the image round.
    """

    whole: tuple[int, int]
    box: tuple[float, float, float, float]


class Scaled(NamedTuple):
    """Upright RGB, uint8 `(height, width, 3)`, and of which fraction; None where these are all of the image's pixels."""

    pixels: "np.ndarray"
    fraction: Fraction | None


def divisor_of(height: int, width: int, target: tuple[int, int]) -> int:
    """By what an image of this size is divided when it is decoded: 8, 4, 2 or 1.

    Args:
        target: height and width that it is scaled to after that.
    """
    fits = (n for n, least in LEAST.items() if height >= least * n * target[0] and width >= least * n * target[1])
    return next(fits, 1)


def _box(height: int, width: int, divisor: int, orientation: int) -> tuple[float, float, float, float]:
    """See `Fraction`, of an upright image's sides and its EXIF orientation, which says whether its first rows or columns were its last."""
    high, wide = height / divisor, width / divisor
    top = -(-height // divisor) - high if orientation in (3, 4, 7, 8) else 0
    left = -(-width // divisor) - wide if orientation in (2, 3, 6, 7) else 0
    return left, top, left + wide, top + high


def load_scaled(source: Any, target: Target) -> Scaled:
    """An image as `load_pixels` gives it; a JPEG file by `divisor_of`, where that is not 1.

    What is decoded to a fraction is not kept for other models (`zoo.inputs.remembering`): they may want another.

    Args:
        target: from height and width of the upright image to those that it is scaled to.

    Raises:
        InputError: as `load_pixels`.
    """
    if is_open_file(source):
        source = read_open_file(source)
    if isinstance(source, Path):
        data, name = read_bytes(source), str(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        name = describe(data)
    else:
        return Scaled(load_pixels(source), None)
    found = _guarded(lambda: _fraction(data, name, target), name) if data[:3] == b"\xff\xd8\xff" else None
    return found or Scaled(load_pixels(source), None)


def _fraction(data: bytes, name: str, target: Target) -> Scaled | None:
    """A JPEG file's bytes; None where it is to be decoded whole."""
    import simplejpeg
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))  # of an MPO file the first image, too
    except UnidentifiedImageError:
        return None  # which decoding it whole says in words
    with image:
        _check_size(image.size, name)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        turned = orientation in (5, 6, 7, 8)
        width, height = image.size
        whole = (width, height) if turned else (height, width)
        divisor = divisor_of(*whole, target(*whole))
        if divisor == 1:
            return None
        fraction = Fraction(whole, _box(*whole, divisor, orientation))
        rows, columns = -(-height // divisor), -(-width // divisor)
        if image.mode in ("RGB", "L"):
            try:
                pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=rows, min_width=columns)
            except ValueError:
                pixels = None  # PIL says why, or can read it
            if pixels is not None and pixels.shape[:2] == (rows, columns):
                return Scaled(_upright(pixels, orientation), fraction)
        image.draft(image.mode, (width // divisor, height // divisor))  # the same fraction by the same library
        pixels = _from_pil(image, name)
    expected = (columns, rows) if turned else (rows, columns)
    return Scaled(pixels, fraction) if pixels.shape[:2] == expected else None
