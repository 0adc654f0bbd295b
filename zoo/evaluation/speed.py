"""Size, speed and memory of a model on the CPU, as results: each number of threads in a process and on cores of its own."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.allocator import keep_freed
from zoo.errors import ZooError
from zoo.evaluation.results import Result, today
from zoo.loading import is_folder
from zoo.machine import cores, peak_mb

if TYPE_CHECKING:
    from zoo.embedder import Embedder

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
THREADS = (1, 2)
# Names of `measured` → what was embedded, the figure, its unit.
SPEEDS = {
    "images/s": ("images", "throughput", "images/s"),
    "texts/s": ("texts", "throughput", "texts/s"),
    "ms for one image": ("one image", "latency", "ms"),
    "ms for one text": ("one text", "latency", "ms"),
    "MB": ("process that embeds images", "peak memory", "MB"),
}
NOTES = "CPU, float32, 640x480 JPEG files, decoding included"


def size_results(model: "Embedder", where: str, source: str) -> list[Result]:
    """How many weights a model has, and how large its file is.

    Args:
        where: what the model was opened as; the file of a folder, or of a packaged model, is measured.
    """
    facts: dict[str, Any] = {"split": "", "source": source, "date": today()}
    count = sum(parameter.numel() for parameter in model.parameters())
    found = [Result("weights", "size", "count", count, unit="numbers", **facts)]
    # A copy of a packaged model's folder says that it is packaged, too.
    folder = Path(where).expanduser() if is_folder(where) else WEIGHTS / model.spec.name
    if (file := folder / "model.safetensors").is_file():
        megabytes = round(file.stat().st_size / 1e6, 1)
        found.append(Result(file.name, "size", "size", megabytes, unit="MB", **facts))
    return found


def speed_results(where: str, source: str, threads: Sequence[int] = THREADS) -> list[Result]:
    """Throughput, latency and peak memory at each number of threads.

    Args:
        where: what `load_model` opens.

    Raises:
        ZooError: this machine has fewer cores, or the process that measures failed.
    """
    found = []
    for count in threads:
        rates = measured_apart(where, count)
        for name, value in rates.items():
            of, metric, unit = SPEEDS[name]
            part = f"{count} thread{'s' if count > 1 else ''}"
            one = Result(of, "speed", metric, round(value, 1), unit=unit, part=part, split="", notes=NOTES)
            found.append(Result(**{**vars(one), "source": source, "date": today()}))
    return found


def measured_apart(where: str, threads: int, images: int = 256, texts: int = 2000) -> dict[str, float]:
    """`measured` in a fresh process that has so many cores: threads of torch, of decoding and of BLAS share them.

    Raises:
        ZooError: this machine has fewer cores, or the process failed; the message has its last line.
    """
    if threads > (there := len(cores())):
        raise ZooError(
            f"{threads} threads cannot be measured on {there} core{'s' if there > 1 else ''}; use --no-speed"
        )
    command = [sys.executable, "-m", "zoo.evaluation.speed", where, str(threads), str(images), str(texts)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **limits})
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ZooError(f"the speed of {where} at {threads} threads was not measured: {said}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(model: "Embedder", images: int = 256, texts: int = 2000) -> dict[str, float]:
    """Items per second of whole calls of `encode`: JPEG files of 640x480 pixels, and short texts; and of one at a time.

    The best of three calls, the median of fifteen single ones; the largest memory of this process, where the system
    tells it (Linux).
    """
    sentences = [f"a photo of thing number {i} on a table" for i in range(texts)]
    with tempfile.TemporaryDirectory() as folder:
        paths = photos(Path(folder), images)
        model.encode(paths[:32])
        model.encode(sentences[:32])
        rates = {}
        for name, inputs in (("images/s", paths), ("texts/s", sentences)):
            rates[name] = len(inputs) / min(_seconds(lambda inputs=inputs: model.encode(inputs, progress=False), 3))
        for name, one in (("ms for one image", paths[0]), ("ms for one text", sentences[0])):
            times = sorted(_seconds(lambda one=one: model.encode(one), 15))
            rates[name] = 1000 * times[len(times) // 2]
    peak = peak_mb()
    return rates if peak is None else rates | {"MB": peak}


def _seconds(call: Callable[[], Any], times: int) -> list[float]:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def photos(folder: Path, count: int) -> list[Path]:
    """Coarse colours with grain: files of the size of photos, without a photo."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        grain = generator.normal(0, 8, (480, 640, 1))
        pixels = (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=85)
    return paths


def main() -> None:
    """What `measured_apart` runs: prints one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m zoo.evaluation.speed")
    parser.add_argument("where", help="what load_model opens")
    for name, least in (("threads", 1), ("images", 256), ("texts", 2000)):
        parser.add_argument(name, type=int, nargs="?", default=least)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[: options.threads])  # before any library starts its threads
    keep_freed()  # as the command `zoo` does, whose speed this is
    import torch

    from zoo.loading import load_model

    torch.set_num_threads(options.threads)
    model = load_model(options.where, device="cpu")
    print(json.dumps(measured(model, options.images, options.texts)))


if __name__ == "__main__":
    main()
