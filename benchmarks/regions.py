"""Many regions of one image, and many images: what each rule costs, against the whole image and against separate images."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import zoo
from benchmarks.common import machine, peak_rss_mb, photo_folder, rounds, table
from zoo.inputs.image import load_pixels

REGIONS = 32


def boxes(width: int, height: int, count: int, seed: int = 0) -> list[zoo.Box]:
    """Boxes of a tenth to a half of the sides, anywhere."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.1, 0.5, (count, 2)) * (width, height)
    corners = rng.uniform(0, 1, (count, 2)) * ((width, height) - sides)
    return [zoo.Box(*corner, *(corner + side)) for corner, side in zip(corners.tolist(), sides, strict=True)]


def many_regions(photo: Path, repeat: int) -> None:
    """32 regions of one image by every rule, against one region, and masked crops against as many images."""
    model = zoo.load_model("zoo-mini")
    pixels = load_pixels(photo)
    height, width = pixels.shape[:2]
    regions = boxes(width, height, REGIONS)
    crops = [np.ascontiguousarray(pixels[int(b.y0) : int(b.y1), int(b.x0) : int(b.x1)]) for b in regions]
    rows = []
    for rule in ("dense", "masked-crop", "ensemble"):
        times = rounds(
            {
                "one": lambda rule=rule: model.encode_regions(photo, regions[:1], region=rule),
                "all": lambda rule=rule: model.encode_regions(photo, regions, region=rule),
                "apart": lambda: model.encode(crops),
            },
            repeat,
        )
        ratio = {
            name: statistics.median(all_ / one for all_, one in zip(times["all"], times[name], strict=True))
            for name in ("one", "apart")
        }
        rows.append(
            [
                rule,
                1000 * statistics.median(times["one"]),
                1000 * statistics.median(times["all"]),
                ratio["one"],
                ratio["apart"],
            ]
        )
    header = ["rule", "1 region (ms)", f"{REGIONS} regions (ms)", "ratio to 1", f"ratio to {REGIONS} separate images"]
    table(f"zoo-mini, {REGIONS} regions of one {width}x{height} photo", header, rows)


def many_images(folder: Path, images: int, each: int) -> None:
    """Items of many images with boxes each, as a stream in a fresh process: images a second, peak memory."""
    rows = []
    for rule in ("dense", "masked-crop"):
        code = f"""
import zoo
from pathlib import Path
from benchmarks.regions import boxes
paths = sorted(Path({str(folder)!r}).iterdir())
model = zoo.load_model("zoo-mini", region={rule!r})
items = (zoo.Item(image=paths[i % len(paths)], regions=[box]) for i in range(COUNT) for box in boxes(600, 400, {each}, i))
for result in model.encode_stream(items): assert result.error is None, result.error
"""
        few = peak_rss_mb(code.replace("COUNT", str(images // 10)))
        start = time.perf_counter()
        all_ = peak_rss_mb(code.replace("COUNT", str(images)))
        rows.append([rule, images * each / (time.perf_counter() - start), few, all_])
    header = ["rule", "regions/s, start included", f"peak of {images // 10} images (MB)", f"peak of {images} (MB)"]
    table(f"{images} images x {each} boxes, one stream", header, rows)


def main(repeat: int = 5, images: int = 1000, each: int = 10) -> None:
    """Prints both tables."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder)
        photo_folder(photos, 20)
        many_regions(sorted(photos.iterdir())[0], repeat)
        many_images(photos, images, each)


if __name__ == "__main__":
    main()
