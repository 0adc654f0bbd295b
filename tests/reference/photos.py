"""JPEG files with something like a photo in them, in sizes that tell one resize from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZES = ((640, 480), (333, 500), (57, 91), (1000, 200), (447, 333), (500, 375), (64, 64), (226, 220))


@dataclass(frozen=True)
class Photo:
    """One image: the file that we read, and the one that the reference reads (upright, where they differ)."""

    path: Path
    upright: Path


def paint(width: int, height: int, seed: int) -> Image.Image:
    """A smooth background with shapes, lines and a little grain, as RGB."""
    random = np.random.default_rng(seed)
    coarse = random.integers(30, 225, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = random.integers(0, width), random.integers(0, height)
        dx, dy = random.integers(3, max(4, width // 3)), random.integers(3, max(4, height // 3))
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        if random.random() < 0.5:
            draw.ellipse((x, y, x + dx, y + dy), fill=colour)
        else:
            draw.line((x, y, x + dx, y + dy), fill=colour, width=int(random.integers(1, 6)))
    image = image.filter(ImageFilter.GaussianBlur(0.7))
    grain = random.normal(0, 4, (height, width, 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def write_photos(folder: Path) -> list[Photo]:
    """Eight upright JPEGs of different sizes, a grey one, and one that only its EXIF orientation puts upright."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for seed, (width, height) in enumerate(SIZES):
        path = folder / f"{width}x{height}.jpg"
        paint(width, height, seed).save(path, quality=92)
        photos.append(Photo(path, path))
    grey = folder / "grey.jpg"
    paint(200, 150, 50).convert("L").save(grey, quality=92)
    photos.append(Photo(grey, grey))
    turned, upright = folder / "exif.jpg", folder / "exif-upright.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn by 90 degrees clockwise to see it upright
    paint(320, 240, 51).save(turned, quality=92, exif=exif)
    with Image.open(turned) as image:
        image.transpose(Image.Transpose.ROTATE_270).save(upright)
    photos.append(Photo(turned, upright))
    return photos


def open_rgb(path: Path) -> Image.Image:
    """The file as RGB, as the reference libraries' own examples open one."""
    with Image.open(path) as image:
        return image.convert("RGB")
