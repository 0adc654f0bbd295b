"""Decode and resize of one image on one core, and how far the pixels are from PIL's."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.common import machine, photo_folder, rounds, table
from zoo.encoders.image_transform import PixelTransform


def main(count: int = 60) -> None:
    """Prints the tables."""
    import open_clip

    torch.set_num_threads(1)
    reference = open_clip.image_transform(224, is_train=False)
    for width, height in ((640, 480), (2048, 1536), (4000, 3000)):
        with tempfile.TemporaryDirectory() as folder:
            paths = photo_folder(Path(folder), count if width < 4000 else count // 5, width, height)
            compare(paths, f"{width}x{height} JPEG → 224, one thread ({machine()})", reference)


def compare(paths: list[Path], title: str, reference: object) -> None:
    """Prints one table: time and pixels of each transform on the same files."""
    ours = PixelTransform(size=(224, 224))
    runs = {
        "open_clip transform (PIL)": lambda p: reference(Image.open(p)),
        "zoo (default)": ours.read,
        "zoo, engine pillow": replace(ours, engine="pillow").read,
        "zoo, pixels scaled": replace(ours, pixels="scaled").read,
    }
    times = rounds({name: partial(_all, run, paths) for name, run in runs.items()})
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (ours.mean, ours.std))
    exact = [((reference(Image.open(p)) * std + mean) * 255).round() for p in paths]
    baseline = np.array(times["open_clip transform (PIL)"])
    rows = []
    for name, run in runs.items():
        pixels = exact if "open_clip" in name else [run(p).float() for p in paths]
        error = np.stack([(a - b).abs().numpy() for a, b in zip(pixels, exact, strict=True)])
        milliseconds = 1000 * float(np.median(times[name])) / len(paths)
        speed = f"{np.median(baseline / np.array(times[name])):.2f}x"
        rows.append(
            [
                name,
                milliseconds,
                speed,
                int(error.max()),
                error.mean(),
                f"{(error > 0).mean():.2%}",
                f"{(error > 1).mean():.1e}",
            ]
        )
    table(
        title,
        ["decode + resize + crop", "ms", "speed", "largest error / 255", "mean", "pixels off", "by more than 1"],
        rows,
    )


def _all(run: object, paths: list[Path]) -> None:
    for path in paths:
        run(path)


if __name__ == "__main__":
    main()
