"""Resident memory of every backend after 2,000 and after 10,000 files and texts of a tiny model; torch's after 100,000 too."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.bulk import make_folder, resident_mb
from benchmarks.common import machine, table

MARKS = (2_000, 10_000)
LONG = 100_000


def inputs_of(photos: list[Path], count: int) -> Iterator[Path | str]:
    """Files and texts in turn; texts of all lengths, since a runtime may keep something for every shape that it meets."""
    random = np.random.default_rng(0)
    for number in range(count):
        words = " ".join(["word"] * int(random.integers(1, 80)))
        yield photos[number // 2 % len(photos)] if number % 2 else f"{words} {number}"


def measure(folder: str, photos: str, backend: str, marks: list[int]) -> list[float]:
    """MB of this process after so many inputs of one stream."""
    import zoo
    from zoo.allocator import keep_freed

    keep_freed()  # as the command `zoo` does
    model = zoo.load_model(folder, device="cpu", backend=backend)
    files, found = sorted(Path(photos).rglob("*.jpg")), []
    for result in model.encode_stream(inputs_of(files, marks[-1]), progress=False):
        if result.error is not None:
            raise result.error
        if result.index + 1 in marks:
            found.append(resident_mb())
    return found


def main(most: int = LONG) -> None:
    """Prints a row for each backend, each in a process of its own."""
    import zoo
    from zoo.backends.base import TORCH, installed

    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as place:
        photos = make_folder(Path(place), MARKS[-1])
        model = str(zoo.build_model("clip-test").save_pretrained(Path(place) / "model"))
        for backend, marks in ((TORCH, [*MARKS, most]), *((name, [*MARKS]) for name in installed())):
            asked = json.dumps([model, str(photos), backend, marks])
            command = [sys.executable, "-m", "benchmarks.memory", asked]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            last = f"{found[2]:.0f} after {most:,}" if len(found) > 2 else ""
            rows.append([backend, f"{found[0]:.0f}", f"{found[1]:.0f}", f"{found[1] - found[0]:+.1f}", last])
            print(f"{backend}: {[round(one, 1) for one in found]}", file=sys.stderr, flush=True)
    header = ["backend", *(f"MB after {mark:,}" for mark in MARKS), "growth", "MB"]
    table(f"Files and texts in turn through clip-test ({machine()})", header, rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main()
