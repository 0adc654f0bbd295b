"""Regions drawn into their image, for pages that people look at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.inputs.regions import Box, Mask, Point, Polygon, Region, checked_regions, resolved

if TYPE_CHECKING:
    import numpy as np

_COLOUR = (255, 45, 85)
_HALO = (255, 255, 255)  # around it, so that it is seen on a red image too


def outlined(pixels: "np.ndarray", regions: Sequence[Region], side: int = 512) -> "np.ndarray":
    """A small copy of an image with its regions outlined: boxes, corners and edges of masks as lines, points as rings.

    Args:
        pixels: upright, uint8 `(height, width, 3)`. side: most pixels of the copy's longer side.

    Returns:
        uint8 `(h, w, 3)`.

    Raises:
        InvalidRegionError: a region is none of this image.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    height, width = pixels.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side))
    scale = image.width / width, image.height / height
    line = max(2, round(max(image.size) / 120))
    draw = ImageDraw.Draw(image)
    found = resolved(checked_regions(regions), height, width)
    for colour, thick in ((_HALO, 2 * line), (_COLOUR, line)):
        for region in found:
            if isinstance(region, Mask):
                image.paste(colour, mask=_edge(region.pixels, image.size, thick))
                continue
            places = [number * scale[place % 2] for place, number in enumerate(region.numbers)]
            if isinstance(region, Point):
                x, y = places
                ring = 3 * line + thick / 2
                draw.ellipse((x - ring, y - ring, x + ring, y + ring), outline=colour, width=thick)
            elif isinstance(region, Polygon):
                # Two corners more than the outline: closed, and with a joint where it closes.
                draw.line([*places, *places[:4]], fill=colour, width=thick, joint="curve")
            elif isinstance(region, Box):
                x0, y0, x1, y1 = places
                inner = thick / 2 - line / 2
                box = x0 - inner, y0 - inner, max(x1 - 1, x0) + inner, max(y1 - 1, y0) + inner
                draw.rectangle(box, outline=colour, width=thick)
    return np.array(image)


def _edge(bits: "np.ndarray", size: tuple[int, int], thick: int):  # -> PIL.Image.Image
    """What lies on the edge of a mask, in an image of another size `(width, height)`."""
    import numpy as np
    from PIL import Image, ImageFilter

    small = Image.fromarray(bits.astype(np.uint8) * 255).resize(size)
    reach = 2 * (thick // 2) + 1
    outer, inner = (np.asarray(small.filter(kind(reach))) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    return Image.fromarray(((outer > 127) & (inner <= 127)).astype(np.uint8) * 255)
