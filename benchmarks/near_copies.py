"""How near copies of a photo lie to it by zoo-mini, and how near another photo does: where `zoo dedupe` draws the line.

`python -m benchmarks.near_copies`: photos of Caltech 101 and of clothing, the val split and every seventh of training. Of each
four copies are made; a threshold should find them, and leave apart the nearest other photo.
"""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import zoo
from benchmarks.common import table
from zoo.tables.pack_files import read_pack

if TYPE_CHECKING:
    from PIL.Image import Image

SOURCES = ("caltech101", "clothing")
EACH = 7  # of the training images
THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.99)


def _jpeg(image: "Image", quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _brighter(image: "Image") -> bytes:
    from PIL import ImageEnhance

    return _jpeg(ImageEnhance.Brightness(image).enhance(1.2), 90)


def _cut(image: "Image") -> bytes:
    x, y = round(0.02 * image.width), round(0.02 * image.height)
    return _jpeg(image.crop((x, y, image.width - x, image.height - y)), 90)


def _half(image: "Image") -> bytes:
    return _jpeg(image.resize((max(image.width // 2, 1), max(image.height // 2, 1))), 90)


COPIES: "dict[str, Callable[[Image], bytes]]" = {
    "JPEG of quality 30": lambda image: _jpeg(image, 30),
    "a fifth brighter": _brighter,
    "2 % cut off each edge": _cut,
    "half the size": _half,
}


def photos() -> tuple[list[bytes], list[str]]:
    """The files, and what each shows."""
    rows = []
    for split, each in (("val", 1), ("train", EACH)):
        rows += [row for row in read_pack("photos", split) if row["source"] in SOURCES][::each]
    return [row["image"] for row in rows], [row["label"] for row in rows]


def copies_of(files: Sequence[bytes], make: "Callable[[Image], bytes]") -> list[bytes]:
    """A copy of each."""
    from PIL import Image

    return [make(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]


def nearest_others(vectors: Tensor, labels: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of each photo the cosine to the nearest other `(N,)`, and whether that one shows the same kind of thing."""
    cosine, at = (vectors @ vectors.T).fill_diagonal_(-1).max(1)
    return cosine, torch.tensor([labels[row] == labels[other] for row, other in enumerate(at.tolist())])


def main() -> None:
    """Prints the table."""
    model = zoo.load_model("zoo-mini", device="cpu")
    files, labels = photos()
    vectors = model.encode(files)
    rows = []
    for name, make in COPIES.items():
        cosines = (vectors * model.encode(copies_of(files, make))).sum(1)
        rows.append([f"copies found: {name}", *_shares(cosines)])
    cosines, alike = nearest_others(vectors, labels)
    rows.append(["photos that have another as near", *_shares(cosines)])
    rows.append(["of these, of another kind of thing", *_shares(cosines.masked_fill(alike, -1))])
    title = f"{len(files):,} photos by zoo-mini, percent at or above a cosine"
    table(title, ["", *map(str, THRESHOLDS)], rows)


def _shares(cosines: Tensor) -> list[str]:
    return [f"{100 * float((cosines >= threshold).float().mean()):.1f}" for threshold in THRESHOLDS]


if __name__ == "__main__":
    main()
