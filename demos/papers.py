"""PDFs to search at first, written by program: a headline, a paragraph and a sample image a page, with a text layer."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .gallery import shrink

WIDTH, HEIGHT = 595, 842  # points: A4
_LEFT, _SIDE = 50, 800
_COLUMN = WIDTH - 2 * _LEFT
_HEADLINE, _PRINT = 30, 17  # points: large enough to be read in a small image of the page
_LETTERS = 58  # of a line


class Sheet(NamedTuple):
    """One page: a headline, a paragraph of ASCII, and the file name of a sample image, "" for none."""

    title: str
    text: str
    image: str = ""


PAPERS: dict[str, tuple[Sheet, ...]] = {
    "A morning at home": (
        Sheet(
            "How to brew a cup of coffee",
            "Grind the beans just before you need them. Pour hot water over the grounds in slow circles, wait for half a minute, then "
            "pour the rest. Warm the cup and the saucer first; a spoon of sugar is a matter of taste.",
            "coffee.png",
        ),
        Sheet(
            "What the cat wants",
            "A cat that sits before the door wants to go out, and a cat that sits behind it wants to come in. Feed it twice a day, "
            "brush its fur once a week, and leave it alone when it sleeps.",
            "chelsea.png",
        ),
    ),
    "Notes on spaceflight": (
        Sheet(
            "The launch",
            "Two hours before the start the tanks are filled. The rocket stands on its pad, held by four arms, until the engines reach "
            "full thrust. Eight minutes later the second stage is in orbit.",
            "rocket.jpg",
        ),
        Sheet(
            "The crew",
            "Every astronaut trains for years: in the simulator, under water, and in aeroplanes that fly parabolas. The orange suit is "
            "worn at launch and at landing, and has a parachute of its own.",
            "astronaut.png",
        ),
        Sheet(
            "What the telescope sees",
            "The Ring Nebula is what an ageing star has thrown off. Its gas glows because the hot core in the middle shines on it. "
            "Through a small telescope it looks like a ring of smoke.",
            "nebula.jpg",
        ),
    ),
    "Letters from a journey": (
        Sheet(
            "The harbour",
            "We came in at noon. Wooden boats lie side by side along the shore, and the fishermen mend their nets on deck. In the "
            "evening the whole bay is lit by lanterns.",
            "harbour.jpg",
        ),
        Sheet(
            "Over the city by aeroplane",
            "The pilot took me up in his biplane. From above the streets are a net of fine lines, and people cannot be seen at all. "
            "We landed on a meadow, to the great surprise of some sheep.",
            "airplane.jpg",
        ),
        Sheet(
            "In the country",
            "Behind the village the meadows begin. Sheep and their lambs graze until dusk, and a shepherd with two dogs walks them home.",
            "sheep.jpg",
        ),
    ),
    "Invoice": (
        Sheet(
            "Invoice 2041",
            "12 boxes of paper clips, 3 packets of envelopes, 1 stapler. Delivered on the third of May. To be paid within thirty days "
            "to the account that is named below. Value added tax is included.",
        ),
    ),
}


def written(sheets: Sequence[Sheet], images: dict[str, Path]) -> bytes:
    """A PDF of these pages, the same bytes on every machine that has the same images.

    Args:
        images: files of the sample images by name; one that is absent is left out.
    """
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    pages = []
    for sheet in sheets:
        commands, resources = [_text(_HEADLINE, HEIGHT - 80, [sheet.title])], "/Font<</F 3 0 R>>"
        commands.append(_text(_PRINT, HEIGHT - 120, textwrap.wrap(sheet.text, _LETTERS)))
        if path := images.get(sheet.image):
            data, (width, height) = _jpeg(path)
            scale = min(_COLUMN / width, (HEIGHT - 340) / height)
            wide, high = width * scale, height * scale
            commands.append(f"q {wide:.2f} 0 0 {high:.2f} {_LEFT} {HEIGHT - 290 - high:.2f} cm /I Do Q")
            about = f"<</Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"
            objects.append(_stream(data, about))
            resources += f"/XObject<</I {len(objects)} 0 R>>"
        objects.append(_stream("\n".join(commands).encode("ascii"), "<<"))
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {WIDTH} {HEIGHT}]/Contents {len(objects)} 0 R/Resources<<{resources}>>>>"
        objects.append(page.encode())
        pages.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Count {len(pages)}/Kids[{' '.join(pages)}]>>".encode()
    return _file(objects)


def _text(size: int, top: int, lines: Sequence[str]) -> str:
    escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines]
    return f"BT /F {size} Tf {size * 1.4:.1f} TL {_LEFT} {top} Td {' T* '.join(f'({line}) Tj' for line in escaped)} ET"


def _jpeg(path: Path) -> tuple[bytes, tuple[int, int]]:
    small, file = shrink(path, _SIDE), io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue(), small.size


def _stream(data: bytes, about: str) -> bytes:
    return f"{about}/Length {len(data)}>>stream\n".encode() + data + b"\nendstream"


def _file(objects: Sequence[bytes]) -> bytes:
    """The objects, numbered from 1, with the table of their places that a PDF ends with."""
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, one in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + one + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(out)}\n%%EOF\n"
    return bytes(out + end.encode())
