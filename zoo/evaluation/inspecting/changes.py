"""Changes to an input that leave what it says: typos, and images that are compressed, turned or cropped."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        kind: what is changed: "text" or "image". name: of the change ("JPEG"). level: how much ("quality 50").
        make: the changed item of one of this kind.
    """

    kind: str
    name: str
    level: str
    make: Callable[[Item], Item]


def typos(text: str, share: float = 0.0) -> str:
    """The text with letters that were left out, doubled in place, mistaken or swapped (Damerau, 1964), always the same ones.

    A mistaken letter is another of the text's own, so that it stays in its script.

    Args:
        share: of its letters, 0 to 1; at least one typo is made. A text without two different letters is left as it is.
    """
    letters = sorted({letter for letter in text if letter.isalpha()})
    if len(letters) < 2:
        return text
    draw = Random(f"{share} {text}")
    changed = list(text)
    places = [place for place, letter in enumerate(text) if letter.isalpha()]
    for place in sorted(draw.sample(places, min(len(places), max(1, round(share * len(places))))), reverse=True):
        here = changed[place]
        after = changed[place + 1] if place + 1 < len(changed) else here
        ways = ["out", "twice", "other", *(["swapped"] if after.isalpha() and after != here else [])]
        match draw.choice(ways):
            case "out" if len(changed) > 1:
                del changed[place]
            case "swapped":
                changed[place : place + 2] = after, here
            case "other":
                changed[place] = draw.choice([letter for letter in letters if letter != here])
            case _:
                changed.insert(place, here)
    return "".join(changed)


def compressed(pixels: np.ndarray, quality: int) -> bytes:
    """An RGB image `(height, width, 3)` uint8 as a JPEG file of this quality, 1 to 95."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def turned(pixels: np.ndarray, degrees: int) -> np.ndarray:
    """An RGB image turned to the left about its middle; by 90, 180 and 270 to the pixel, else in a frame of its mean colour."""
    from PIL import Image

    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(pixels, degrees // 90))
    colour = tuple(round(channel) for channel in pixels.reshape(-1, 3).mean(0))
    return np.asarray(Image.fromarray(pixels).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=colour))


def cropped(pixels: np.ndarray, share: float) -> np.ndarray:
    """The middle of an RGB image, `share` of each side long, 0 to 1."""
    height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _text(make: Callable[[str], str]) -> Callable[[Item], Item]:
    return lambda item: replace(item, text=make(item.text or ""))


def _image(make: Callable[[np.ndarray], np.ndarray | bytes]) -> Callable[[Item], Item]:
    return lambda item: replace(item, image=make(load_pixels(item.image)))


CHANGES = (
    *(
        Change("text", "typos", level, _text(lambda text, share=share: typos(text, share)))
        for level, share in (("one", 0.0), ("10 % of letters", 0.1), ("20 % of letters", 0.2))
    ),
    *(
        Change("image", "JPEG", f"quality {quality}", _image(lambda pixels, q=quality: compressed(pixels, q)))
        for quality in (80, 50, 30, 10)
    ),
    *(
        Change("image", "rotation", f"{degrees}°", _image(lambda pixels, d=degrees: turned(pixels, d)))
        for degrees in (10, 30, 90, 180)
    ),
    *(
        Change(
            "image",
            "crop",
            f"middle {share:.0%}".replace("%", " %"),
            _image(lambda pixels, s=share: cropped(pixels, s)),
        )
        for share in (0.9, 0.75, 0.5)
    ),
)
