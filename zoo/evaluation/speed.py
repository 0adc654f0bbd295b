"""Size and speed of a model, as results."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from zoo.embedder import Embedder
from zoo.evaluation.results import Result, today

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
# Names of `speed` → what was embedded, the figure, its unit.
SPEEDS = {
    "images/s": ("pictures", "throughput", "images/s"),
    "texts/s": ("texts", "throughput", "texts/s"),
    "ms for one image": ("one picture", "latency", "ms"),
    "ms for one text": ("one text", "latency", "ms"),
}


def speed_results(model: Embedder, rates: dict[str, float], source: str) -> list[Result]:
    """Size and speed as results."""
    facts: dict[str, Any] = {"split": "", "source": source, "date": today()}
    count = sum(parameter.numel() for parameter in model.parameters())
    found = [Result("weights", "size", "count", count, unit="numbers", **facts)]
    packaged = WEIGHTS / model.spec.name / "model.safetensors"
    if model.spec.packaged and packaged.is_file():
        megabytes = round(packaged.stat().st_size / 1e6, 1)
        found.append(Result("model.safetensors", "size", "size", megabytes, unit="MB", **facts))
    notes = f"CPU, {torch.get_num_threads()} threads, 640x480 JPEG files, decoding included"
    for name, value in rates.items():
        of, metric, unit = SPEEDS[name]
        found.append(Result(of, "speed", metric, round(value, 1), unit=unit, notes=notes, **facts))
    return found


def speed(model: Embedder, images: int = 256) -> dict[str, float]:
    """Items per second of whole calls of `encode`: JPEG files of 640x480 pixels, and short texts."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    texts = [f"a photo of thing number {i} on a table" for i in range(2000)]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(images):
            coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
            grain = generator.normal(0, 8, (480, 640, 1))
            pixels = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
            paths.append(Path(folder) / f"{number}.jpg")
            Image.fromarray(pixels).save(paths[-1], quality=85)
        model.encode(paths[:32])
        model.encode(texts[:32])
        rates = {}
        for name, inputs in (("images/s", paths), ("texts/s", texts)):
            times = []
            for _ in range(3):
                start = time.perf_counter()
                model.encode(inputs, progress=False)
                times.append(time.perf_counter() - start)
            rates[name] = len(inputs) / min(times)
        for name, one in (("ms for one image", paths[0]), ("ms for one text", texts[0])):
            times = []
            for _ in range(15):
                start = time.perf_counter()
                model.encode(one)
                times.append(time.perf_counter() - start)
            rates[name] = 1000 * sorted(times)[len(times) // 2]
    return rates
