"""What the tests of stores share: both kinds, small vectors, and what is in an index."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from zoo.index import ExactIndex, LanceIndex, SearchHit
from zoo.index.store import Store

DIM = 16
PRINT = {"model": "m", "weights": "w", "dim": DIM}
COLUMNS = pa.schema([("label", pa.string()), ("year", pa.int64()), ("score", pa.float64()), ("fresh", pa.bool_())])
BACKENDS = {"exact": ExactIndex, "lancedb": LanceIndex}


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors `(count, DIM)`."""
    matrix = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def of(name: str, version: int = 0) -> np.ndarray:
    """The vector `(DIM,)` that a row of this name has in these tests."""
    return vectors(1, seed=[version, *name.encode()])[0]


def put(index: Store, names: Sequence[str], version: int = 0) -> None:
    """Upserts rows whose vector, reference and label say which they are."""
    matrix = np.stack([of(name, version) for name in names])
    index.upsert(names, matrix, {"label": list(names), "year": [version] * len(names)}, [f"{n}.jpg" for n in names])


def check_row(match: SearchHit) -> tuple[str, int]:
    """Name and version of a found row; its parts must be of one row."""
    assert match.attributes["label"] == match.id
    assert match.reference == f"{match.id}.jpg"
    return match.id, match.attributes["year"]


def rows_of(index: Store) -> dict[str, int]:
    """Name → version of every row; each must be found by its own vector, once, with all that belongs to it."""
    every = [check_row(match) for match in index.search(of("any"), 100_000)]
    assert len(every) == len(dict(every)) == index.count()
    for name, version in every:
        best = index.search(of(name, version), 1)[0]
        assert check_row(best) == (name, version)
        assert abs(best.score - 1) < 1e-4
    return dict(every)


def generations_in(home: Path) -> set[str]:
    """The names of the generations that lie in a folder."""
    return {path.name for path in home.iterdir() if path.is_dir()}
