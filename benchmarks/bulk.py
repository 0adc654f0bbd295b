"""A folder of 100,000 JPEG files → shards on disk: items/s and resident memory over time, which has to stay flat."""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import machine, table

DISTINCT = 256
PER_FOLDER = 1000


def make_folder(root: Path, count: int, side: int = 64) -> Path:
    """`count` names for a few hundred small JPEG files, a thousand in each sub-folder."""
    from PIL import Image

    originals = root / "originals"
    originals.mkdir()
    random = np.random.default_rng(0)
    for i in range(min(DISTINCT, count)):
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(originals / f"{i}.jpg", quality=85)
    photos = root / "photos"
    for i in range(count):
        target = photos / f"{i // PER_FOLDER:04}" / f"{i:07}.jpg"
        if i % PER_FOLDER == 0:
            target.parent.mkdir(parents=True)
        os.link(originals / f"{i % DISTINCT}.jpg", target)
    return photos


def resident_mb() -> float:
    """Memory of this process now."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def open_model(name: str) -> tuple[object, str]:
    """The model, or a tiny one with random weights where it cannot be loaded: neither speed nor memory depends on them."""
    import zoo

    try:
        return zoo.load_model(name), name
    except zoo.ZooError as error:
        print(f"{name} cannot be loaded ({error}); clip-test with random weights instead")
        return zoo.build_model("clip-test"), "clip-test"


def main(count: int = 100_000, name: str = "zoo-mini", marks: int = 10) -> None:
    """Prints memory and speed at every tenth of the way, then how long it takes to find that nothing is left to do."""
    from zoo.bulk import embed_dataset

    model, name = open_model(name)
    with tempfile.TemporaryDirectory() as folder:
        photos, out = make_folder(Path(folder), count), Path(folder) / "vectors"
        model.encode([next(photos.rglob("*.jpg"))] * 64)  # warm-up: the memory of a model at work is no growth
        rows: list[list[object]] = [["0", round(resident_mb()), "", ""]]
        started = last = time.perf_counter()
        seen = 0

        def mark(done: int, total: int) -> None:
            nonlocal last, seen
            if done < min(len(rows) * total / marks, total):
                return
            now = time.perf_counter()
            rows.append([f"{done:,}", round(resident_mb()), round((done - seen) / (now - last)), round(now - started)])
            last, seen = now, done

        embed_dataset(model, photos, out, progress=mark)
        title = f"Folder of {count:,} JPEG files of 64x64, {name}, {machine()}"
        table(title, ["files done", "resident MB", "files/s since", "seconds"], rows)
        started = time.perf_counter()
        report = embed_dataset(model, photos, out, progress=False)
        again = time.perf_counter() - started
        table("Run again", ["new vectors", "seconds"], [[report.new, again]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--model", default="zoo-mini")
    arguments = parser.parse_args()
    main(arguments.count, arguments.model)
