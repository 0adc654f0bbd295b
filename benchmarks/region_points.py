"""What a point means: `zoo.inputs.growing` against squares and scikit-image, on the regions pack's val; the table that it was chosen by.

For each object of the scenes (`composed`) random points of its mask: IoU of what is found with the mask, and the share above 0.5; then
zoo-mini's in-image accuracy by mask, box, and what each way finds. Milliseconds are of CPU time, since other work may run meanwhile.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

import zoo
from benchmarks.common import machine, table
from benchmarks.region_rules import scenes
from zoo.inputs import growing

SEEDS = 1  # points of each object
SIDES = (256, 1024, 8000)
Way = Callable[[np.ndarray, int, int], np.ndarray]


def square(share: float) -> Way:
    """A square around the point, `share` of the shorter side wide."""

    def way(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
        half = share * min(pixels.shape[:2]) / 2
        rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
        return (abs(rows - y) <= half) & (abs(columns - x) <= half)

    return way


def segment(scale: float) -> Way:
    """The segment of Felzenszwalb and Huttenlocher's graph-based segmentation that holds the point."""
    from skimage.segmentation import felzenszwalb

    def way(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
        found = felzenszwalb(pixels, scale=scale, sigma=0.5, min_size=20)
        return found == found[y, x]

    return way


def flood(tolerance: float) -> Way:
    """The pixels around the point whose colour differs from its own by less, in CIE Lab."""
    from skimage.color import rgb2lab
    from skimage.segmentation import flood as flooded

    def way(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
        lab = rgb2lab(pixels)
        return flooded(np.linalg.norm(lab - lab[y, x], axis=-1) < tolerance, (y, x))

    return way


def watershed(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
    """The basin of the point, against the frame's, in the gradient of the colours."""
    from skimage.color import rgb2lab
    from skimage.filters import gaussian, sobel
    from skimage.segmentation import watershed as flooded

    slopes = np.linalg.norm(
        np.stack([sobel(c) for c in np.moveaxis(gaussian(rgb2lab(pixels), 1, channel_axis=-1), -1, 0)]), axis=0
    )
    marks = np.pad(np.zeros((pixels.shape[0] - 2, pixels.shape[1] - 2), np.uint8), 1, constant_values=2)
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    marks[(rows - y) ** 2 + (columns - x) ** 2 <= 16] = 1
    return flooded(slopes, marks) == 1


def grown(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
    """The zoo's own."""
    return growing.grown(pixels, [(x, y)])


WAYS: dict[str, Way] = {
    **{f"square, {share:.0%}": square(share) for share in (0.2, 0.25, 0.3, 0.4)},
    "flood, Lab < 30": flood(30),
    **{f"felzenszwalb, scale {scale}": segment(scale) for scale in (400, 800, 1600)},
    "watershed against the frame": watershed,
    "grown (default)": grown,
}


def points(row: dict[str, Any], seed: int) -> list[tuple[int, int]]:
    """A random pixel (x, y) of each mask."""
    rng = np.random.default_rng(seed)
    found = [np.argwhere(mask) for mask in row["masks"]]
    return [tuple(place[rng.integers(len(place))][::-1].tolist()) for place in found]


def in_image(model: Any, rows: list[dict[str, Any]], found: list[list[np.ndarray]]) -> float:
    """How often a region's own caption is the best of those of its image."""
    right = []
    for row, masks in zip(rows, found, strict=True):
        captions = [region["caption"] for region in row["regions"]]
        scores = (
            model.encode_regions(row["pixels"], [zoo.Mask(mask) for mask in masks]) @ model.encode_query(captions).T
        )
        right += [captions[best] == own for best, own in zip(scores.argmax(1).tolist(), captions, strict=True)]
    return float(np.mean(right))


def main() -> None:
    """Prints what each way finds, then what `grown` costs at sizes of images."""
    print(machine())
    model, rows = zoo.load_model("zoo-mini"), scenes()
    lines = [["the exact mask", 1.0, 1.0, in_image(model, rows, [row["masks"] for row in rows]), 0.0]]
    for name, way in WAYS.items():
        overlaps, right, started = [], [], time.process_time()
        found = [[[way(row["pixels"], *xy) for xy in points(row, seed)] for row in rows] for seed in range(SEEDS)]
        spent = time.process_time() - started
        for masks in found:
            for row, some in zip(rows, masks, strict=True):
                overlaps += [(a & b).sum() / (a | b).sum() for a, b in zip(some, row["masks"], strict=True)]
            right.append(in_image(model, rows, masks))
        above = float(np.mean(np.array(overlaps) > 0.5))
        lines.append([name, np.mean(overlaps), above, np.mean(right), 1000 * spent / len(overlaps)])
        print(lines[-1], flush=True)
    told = [[name, *(f"{value:.3f}" for value in values[:-1]), f"{values[-1]:.1f}"] for name, *values in lines]
    table(f"{len(overlaps)} points of val", ["way", "IoU", "IoU > 0.5", "in-image", "CPU ms"], told)
    costs = []
    for side in SIDES:
        pixels = np.asarray(Image.fromarray(rows[0]["pixels"]).resize((side, side)))
        started = time.process_time()
        growing.grown(pixels, [(side // 2, side // 2)])
        costs.append([f"{side}x{side}", 1000 * (time.process_time() - started)])
    table("grown, one point", ["image", "CPU ms"], costs)


if __name__ == "__main__":
    main()
