"""Searching 100,000 vectors of 512 dimensions: the zoo's stores beside numpy, faiss, plain LanceDB and usearch, one query and many.

The vectors lie in clusters, as those of photos do: every candidate searches the same, without a filter. What is not installed is left
out. Recall is that of the ten nearest by numpy. usearch: `pip install usearch`.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import machine, rounds, table

ROWS, DIM, K, MANY = 100_000, 512, 10, 1_000
CLUSTERS, SPREAD = 2_000, 0.7
Search = Callable[[np.ndarray], list[list[str]]]


def main() -> None:
    """Prints one table."""
    matrix, queries = made(ROWS), made(MANY, seed=1)
    print(f"\n## Search, {ROWS:,} x {DIM}, k = {K}\n\n{machine()}")
    with tempfile.TemporaryDirectory() as folder:
        built = {name: _timed(build, matrix, Path(folder) / name) for name, build in CANDIDATES.items() if there(name)}
        searches = {name: search for name, (search, _) in built.items()}
        truth = searches["numpy"](queries)
        alone = rounds({name: _first(search, queries) for name, search in searches.items()}, 15)
        many = rounds({name: _all(search, queries) for name, search in searches.items()}, 5)
        rows = []
        for name, search in searches.items():
            found = zip(search(queries), truth, strict=True)
            recall = float(np.mean([len(set(a) & set(b)) / K for a, b in found]))
            ratio = median(b / s for b, s in zip(many["numpy"], many[name], strict=True))
            one, rate = median(alone[name]) * 1000, MANY / median(many[name])
            rows.append([name, built[name][1], one, round(rate), f"{ratio:.2f}x", f"{recall:.3f}"])
    table("", ["", "built in s", "one query, ms", f"{MANY:,} queries, per s", "of numpy", "recall@10"], rows)


def made(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors `(count, DIM)` around the same centres, float32."""
    centres = np.random.default_rng(100).normal(size=(CLUSTERS, DIM)).astype(np.float32)
    random = np.random.default_rng(seed)
    matrix = centres[random.integers(0, CLUSTERS, count)]
    matrix += SPREAD * random.standard_normal((count, DIM), dtype=np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def there(name: str) -> bool:
    """Whether what a candidate needs is installed."""
    package = {"faiss": "faiss", "usearch": "usearch", "LanceDB": "lancedb", "zoo LanceDB": "lancedb"}
    return name not in package or importlib.util.find_spec(package[name]) is not None


def _timed(build: Callable[[np.ndarray, Path], Search], matrix: np.ndarray, folder: Path) -> tuple[Search, float]:
    start = time.perf_counter()
    return build(matrix, folder), time.perf_counter() - start


def _first(search: Search, queries: np.ndarray) -> Callable[[], object]:
    return lambda: search(queries[:1])


def _all(search: Search, queries: np.ndarray) -> Callable[[], object]:
    return lambda: search(queries)


def _numpy(matrix: np.ndarray, folder: Path) -> Search:
    def search(queries: np.ndarray) -> list[list[str]]:
        found = []
        for start in range(0, len(queries), 200):
            scores = queries[start : start + 200] @ matrix.T
            best = np.argpartition(scores, -K, axis=1)[:, -K:]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            found += np.take_along_axis(best, order, 1).astype(str).tolist()
        return found

    return search


def _zoo(kind: str, precision: str = "float32") -> Callable[[np.ndarray, Path], Search]:
    def build(matrix: np.ndarray, folder: Path) -> Search:
        from zoo.index import ExactIndex, LanceIndex

        facts: dict[str, Any] = {"fingerprint": {"model": "none", "dim": DIM}, "dim": DIM}
        if kind == "exact":
            index = ExactIndex.create(folder, **facts, precision=precision)
        else:
            index = LanceIndex.create(folder, **facts)
        for start in range(0, len(matrix), 8192):
            rows = matrix[start : start + 8192]
            index.upsert([str(row) for row in range(start, start + len(rows))], rows)
        index.tune(ROWS)

        def search(queries: np.ndarray) -> list[list[str]]:
            return [[hit.id for hit in hits] for hits in index.search(queries, K)]

        return search

    return build


def _lancedb(matrix: np.ndarray, folder: Path) -> Search:
    import lancedb
    import pyarrow as pa

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), DIM)
    rows = pa.table({"id": pa.array(map(str, range(len(matrix)))), "vector": vectors})
    opened = lancedb.connect(folder).create_table("plain", rows)

    def search(queries: np.ndarray) -> list[list[str]]:
        found = []
        for start in range(0, len(queries), 200):
            asked = (
                opened.search(queries[start : start + 200]).distance_type("cosine").select(["id", "_distance"]).limit(K)
            )
            found += asked.to_arrow().column("id").to_pylist()
        return [found[place : place + K] for place in range(0, len(found), K)]

    return search


def _faiss(matrix: np.ndarray, folder: Path) -> Search:
    import faiss

    index = faiss.IndexFlatIP(DIM)
    index.add(matrix)
    return lambda queries: index.search(queries, K)[1].astype(str).tolist()


def _usearch(matrix: np.ndarray, folder: Path) -> Search:
    from usearch.index import Index

    index = Index(ndim=DIM, metric="ip", dtype="f16")
    index.add(np.arange(len(matrix)), matrix)
    return lambda queries: index.search(queries, K).keys.reshape(len(queries), -1).astype(str).tolist()


CANDIDATES: dict[str, Callable[[np.ndarray, Path], Search]] = {
    "numpy": _numpy,
    "zoo exact": _zoo("exact"),
    "zoo exact, int8": _zoo("exact", "int8"),
    "zoo LanceDB": _zoo("lancedb"),
    "faiss": _faiss,
    "LanceDB": _lancedb,
    "usearch": _usearch,
}
