"""A folder of 2,000 images, videos, recordings, PDFs and texts → one folder of vectors: memory on the way, items/s of each kind, a first search."""

import argparse
import io
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bulk import resident_mb
from benchmarks.common import machine, table

SHARES = {"image": 40, "audio": 20, "text": 15, "video": 15, "document": 10}
"""Of a hundred files."""
DISTINCT = 64
_SUFFIXES = {"image": ".jpg", "audio": ".ogg", "text": ".txt", "video": ".mp4", "document": ".pdf"}
_QUERIES = ("a dog barking", "red apples", "a turtle swims", "results in a table", "rain")


def originals(kind: str, count: int) -> Iterator[bytes]:
    """Real files of a kind out of the data packs: photos, clips, recordings, captions, and PDFs of two scanned pages."""
    import pyarrow.parquet as pq
    from PIL import Image

    from zoo.tables.pack_files import packs_folder

    file, column = {
        "image": ("photos/test.parquet", "image"),
        "audio": ("audio/test.parquet", "audio"),
        "video": ("video/test.parquet", "video"),
        "document": ("documents/pages-test.parquet", "image"),
        "text": ("audio/test.parquet", "captions"),
    }[kind]
    batches = pq.ParquetFile(packs_folder() / file).iter_batches(8, columns=[column])
    rows = (row[column] for batch in batches for row in batch.to_pylist())
    for _ in range(count):
        if (value := next(rows, None)) is None:
            return
        if kind == "text":
            yield ". ".join(value).encode()
        elif kind == "document":
            pages = [Image.open(io.BytesIO(one)).convert("RGB") for one in (value, next(rows, value))]
            buffer = io.BytesIO()
            pages[0].save(buffer, "PDF", save_all=True, append_images=pages[1:])
            yield buffer.getvalue()
        else:
            yield value


def make_folder(root: Path, count: int) -> Path:
    """`count` names for some sixty files of each kind, in no order of kinds, a hundred in each sub-folder."""
    kept: dict[str, list[Path]] = {}
    for kind in SHARES:
        kept[kind] = []
        for number, content in enumerate(originals(kind, DISTINCT)):
            place = root / "originals" / f"{kind}{number}{_SUFFIXES[kind]}"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
            kept[kind].append(place)
    # As evenly mixed as the shares allow: every fifth file another kind, and not a block of each.
    order = sorted((place / share, kind) for kind, share in SHARES.items() for place in range(share))
    stuff = root / "stuff"
    for number in range(count):
        _, kind = order[number % len(order)]
        target = stuff / f"{number // 100:03}" / f"{number:06}{_SUFFIXES[kind]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(kept[kind][number % len(kept[kind])], target)
    return stuff


class Watch:
    """The largest memory of this process, and of it together with its decoders, looked at ten times a second."""

    def __init__(self) -> None:
        self.own = self.all = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        import psutil

        process = psutil.Process()
        while not self._stop.wait(0.1):
            own = process.memory_info().rss / 2**20
            others = 0.0
            for child in process.children(recursive=True):
                try:
                    others += child.memory_info().rss / 2**20
                except psutil.Error:  # it has ended
                    continue
            self.own, self.all = max(self.own, own), max(self.all, own + others)


def open_model(name: str) -> object:
    """A model that is to be loaded, or a `*-test` one with random weights."""
    import zoo

    return zoo.build_model(name).eval() if name.endswith("-test") else zoo.load_model(name)


def main(count: int = 2000, name: str = "zoo-omni", marks: int = 10, per: tuple[str, ...] = ()) -> None:
    """Prints memory on the way, its peak, what a kind takes alone, and how long a first search takes."""
    import zoo
    from zoo.bulk import embed_dataset

    model = open_model(name)
    with tempfile.TemporaryDirectory() as folder:
        stuff, out = make_folder(Path(folder), count), Path(folder) / "vectors"
        rows: list[list[object]] = []
        started = last = time.perf_counter()
        seen = 0

        def mark(done: int, total: int) -> None:
            nonlocal last, seen
            if done < min((len(rows) + 1) * total / marks, total):
                return
            now = time.perf_counter()
            rows.append([f"{done:,}", round(resident_mb()), (done - seen) / (now - last), round(now - started)])
            last, seen = now, done

        with Watch() as watch:
            report = embed_dataset(model, stuff, out, per=list(per) or None, progress=mark)
        table(
            f"{count:,} files of five kinds, {name}, {machine()}",
            ["inputs done", "resident MB", "inputs/s since", "seconds"],
            rows,
        )
        table(
            "Peak",
            ["resident MB", "with decoders", "vectors", "bad", "seconds"],
            [[round(watch.own), round(watch.all), report.vectors, report.bad, round(report.seconds)]],
        )
        speeds = []
        for kind in sorted(report.kinds):
            few = embed_dataset(model, stuff / "000", Path(folder) / kind, kind=kind, progress=False)
            speeds.append([kind, report.kinds[kind], few.vectors, few.vectors / few.seconds])
        table("Each kind alone, of a hundred files", ["kind", "vectors of all", "vectors", "vectors/s"], speeds)
        _search(zoo.open_index(out, model=model), model)


def _search(index: object, model: object) -> None:
    """Times of searches by an index and a model that are loaded, the first one apart."""
    rows = []
    for number, query in enumerate(_QUERIES):
        started = time.perf_counter()
        vector = model.encode_query(query, progress=False)
        encoded = time.perf_counter()
        index.search(vector, 10, where="kind = 'audio'" if number % 2 else None)
        ended = time.perf_counter()
        rows.append([query, 1000 * (encoded - started), 1000 * (ended - encoded), 1000 * (ended - started)])
    table("Searches, the first with all that it warms up", ["query", "query, ms", "index, ms", "both, ms"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--model", default="zoo-omni")
    parser.add_argument("--per", action="append", default=[], help="as of zoo embed")
    arguments = parser.parse_args()
    main(arguments.count, arguments.model, per=tuple(arguments.per))
