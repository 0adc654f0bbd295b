"""The page over 5,000 images: from the start to the first visit, eight visits at once, one more image, and a search.

A visit is everything that a browser asks for until the gallery is shown, as one recorded visit in Chromium has it: at the
browser's pace, which is what a visitor sees, and bare, without the pauses in which the browser is at work, which is what the
server does (and eight bare visitors on two cores take at least four times as long as one, for they share them).
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.visits import Visit, together

IMAGES = int(os.environ.get("PAGE_IMAGES", "5000"))
VISITORS = 8
SEARCHES = 20


def main() -> None:
    """Prints a table."""
    with tempfile.TemporaryDirectory(prefix="zoo-page-") as place:
        photos = Path(place) / "photos"
        _draw(photos, IMAGES)
        environment = {**os.environ, "XDG_CACHE_HOME": place}
        rows = []
        for what in ("start, nothing embedded yet", "start, vectors kept"):
            with _Page(photos, environment) as page:
                rows.append((f"{what}: until the page answers", page.seconds))
                if what.endswith("kept"):
                    rows += _visits(page) + _uses(page, photos)
        print(f"{IMAGES:,} images, zoo-mini")
        for name, seconds in rows:
            print(f"{name:<62} {seconds:8.3f} s")


def _draw(folder: Path, count: int) -> None:
    """Distinct small photos: crops of those of the pack."""
    from zoo.tables import open_pairs

    folder.mkdir()
    sources = []
    for pair in open_pairs("pack:photos", split="val"):
        with Image.open(io.BytesIO(pair.query.image)) as image:
            sources.append(image.convert("RGB"))
    for number in range(count):
        image, shift = sources[number % len(sources)], number // len(sources)
        edge = (shift, shift, image.width - shift, image.height - shift)
        image.crop(edge).save(folder / f"{number:05d}.jpg", quality=85)


class _Page:
    """`zoo demo` in a process of its own."""

    def __init__(self, photos: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "zoo.demos", "--photos", str(photos), "--no-samples"]
        began = time.perf_counter()
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self._process = subprocess.Popen(command, env=environment, **quiet)
        line = next(line for line in self._process.stdout if "is ready" in line)
        self.seconds, self.url = time.perf_counter() - began, line.split("open ")[1].split()[0]

    def __enter__(self) -> "_Page":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _visits(page: _Page) -> list[tuple[str, float]]:
    rows = [("first visit in Chromium, until the images are shown", Visit.recorded(page.url).seconds)]
    visit = Visit.recorded(page.url)  # again: what the page makes once is made
    for paced, how in ((True, "at a browser's pace"), (False, "bare")):
        visit.made(paced=paced)
        alone = statistics.median(visit.made(paced=paced) for _ in range(5))
        eight = statistics.median(max(together(visit, VISITORS, paced=paced)) for _ in range(3))
        rows += [
            (f"one visit, {how}: {len(visit.requests)} requests", alone),
            (f"{VISITORS} visits at once, {how}: the slowest", eight),
        ]
    return rows


def _uses(page: _Page, photos: Path) -> list[tuple[str, float]]:
    from gradio_client import Client

    client = Client(page.url, verbose=False, download_files=False, httpx_kwargs={"timeout": 120})

    def seconds(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    search = lambda words: client.predict(words, 8, api_name="/search_by_text")  # noqa: E731
    search("the first")
    asked = ("a red shoe", "a bottle of milk", "a person", "a tree")
    searches = [seconds(lambda n=n: search(asked[n % len(asked)])) for n in range(SEARCHES)]
    told = [float(search(words)[1]["title"].split(" in ")[1].split()[0]) / 1000 for words in asked]
    Image.effect_noise((400, 300), 60).convert("RGB").save(photos / "one-more.jpg")
    added = seconds(lambda: client.predict(str(photos), True, api_name="/index_folder"))
    return [
        ("a search, asked by a program and answered", statistics.median(searches)),
        ("a search, as the page tells it", statistics.median(told)),
        ("one image more in the folder, indexed", added),
    ]


if __name__ == "__main__":
    main()
