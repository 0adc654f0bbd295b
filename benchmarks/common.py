"""What the benchmarks share: fair rounds, tables, real photos, texts of realistic length, and randomly made models."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.benching.timing import rounds as rounds
from zoo.benching.timing import speed


def processor_seconds(pids: Sequence[int]) -> float:
    """Seconds of the processor so far, of this process and of those that work for it: what others do meanwhile counts for little."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return time.process_time() + sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def table(title: str, header: list[str], rows: list[list[object]]) -> None:
    """Prints a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    sys.stdout.flush()


def speed_rows(times: dict[str, list[float]], amount: float, baseline: str) -> list[list[object]]:
    """Name, amount per second (median), and the median of the ratios to the baseline in the same round."""
    rows = []
    for name, seconds in times.items():
        rows.append([name, round(amount / statistics.median(seconds), 1), f"{speed(times, name, baseline):.2f}x"])
    return rows


def machine() -> str:
    """One line about where the figures come from."""
    import torch

    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


def peak_rss_mb(code: str) -> float:
    """Largest resident memory, in MB, of a fresh process that runs this code."""
    # VmHWM begins anew with the program; getrusage would still count the process that forked it.
    read = "next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]"
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint('RSS', {read})"], capture_output=True, text=True, check=True
    )
    return int(out.stdout.rpartition("RSS")[2]) / 1024


def photo_folder(folder: Path, count: int, width: int = 640, height: int = 480) -> list[Path]:
    """JPEG files cut out of the real photos that scikit-image and scikit-learn ship."""
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_images

    sources = [data.astronaut(), data.coffee(), data.rocket(), data.chelsea(), *load_sample_images().images]
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        image = Image.fromarray(sources[i % len(sources)])
        scale = max(width / image.width, height / image.height) * rng.uniform(1.05, 1.5)
        image = image.resize((int(image.width * scale) + 1, int(image.height * scale) + 1), Image.Resampling.LANCZOS)
        x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
        paths.append(folder / f"{i:05d}.jpg")
        image.crop((x, y, x + width, y + height)).save(paths[-1], quality=90)
    return paths


def realistic_texts(count: int) -> list[str]:
    """Texts with the length mix of passages and queries: log-normal, median 37 words, at most 220."""
    import zoo

    words = [w for w in (Path(zoo.__file__).parents[1] / "LICENSE").read_text().split() if w.isalpha()]
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.6, 0.8, count), 3, 220).astype(int)
    return [" ".join(rng.choice(words, n)) for n in lengths]


def centred_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Smallest cosine between rows after the mean row is subtracted: near-identical vectors cannot hide behind it."""
    mean = a.mean(0)
    a, b = a - mean, b - mean
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
