"""A folder of vectors as a stranger packs it: small and in order, and with one thing in it that is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests import warm

DIM = 48  # of mini-test, whose weights are random, and the same everywhere
ROWS = 8
NAME = "000000000000-000000000008.parquet"
FOOTER = b"zoo"


def fingerprint() -> dict[str, Any]:
    """Of no model: these folders are opened without one."""
    return {
        "model": "somebody",
        "revision": None,
        "dim": DIM,
        "prompt": "",
        "preprocessing": "0" * 16,
        "weights": "0" * 16,
    }


def vectors(rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    """Unit vectors `(rows, dim)`."""
    matrix = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def manifest(precision: str = "float32", rows: int = ROWS) -> dict[str, Any]:
    """What `zoo embed` writes of such a folder."""
    return {
        "format": 1,
        "zoo": "0.1.0",
        "model": "somebody",
        "split": None,
        "prompt": None,
        "prompt_name": None,
        "fingerprint": fingerprint(),
        "precision": precision,
        "dim": DIM,
        "source": {
            "path": "texts.txt",
            "root": ".",
            "base": ".",
            "kind": "text",
            "column": None,
            "media": None,
            "attribute": "text",
        },
        "attributes": {"text": "string"},
        "counts": {"inputs": rows, "total": rows, "vectors": rows, "kept": 0, "bad": 0, "reasons": {}, "ignored": {}},
        "shards": 1,
        "generation": 0,
        "finished": True,
        "created": "2026-01-01T00:00:00+00:00",
        "updated": "2026-01-01T00:00:00+00:00",
    }


def footer(precision: str = "float32", rows: int = ROWS) -> dict[str, Any]:
    """The facts of its only shard."""
    return {
        "format": 1,
        "generation": 0,
        "start": 0,
        "stop": rows,
        "stamps": "07" * 16 * rows,
        "contents": "08" * 24 * rows,
        "bad": [],
        "fingerprint": fingerprint(),
        "precision": precision,
    }


def table(stored: np.ndarray | None = None, **columns: Any) -> pa.Table:
    """Its rows; columns that are given stand in the place of the usual ones."""
    stored = vectors() if stored is None else stored
    rows = len(stored)
    flat = pa.array(np.ascontiguousarray(stored).reshape(-1))
    found = {
        "id": pa.array([str(row) for row in range(rows)]),
        "reference": pa.array([f"texts.txt#{row}" for row in range(rows)]),
        "vector": pa.FixedSizeListArray.from_arrays(flat, stored.shape[1]),
        "text": pa.array([f"a text of number {row}" for row in range(rows)]),
    }
    return pa.table({**found, **columns})


def write(
    folder: Path,
    rows: pa.Table | None = None,
    about: Any = None,
    facts: Any = None,
    precision: str = "float32",
    name: str = NAME,
    **options: Any,
) -> Path:
    """Writes a folder of vectors.

    Args:
        rows, about, facts: what stands in the place of the table, the facts in its footer and the manifest; bytes as they are.
        options: of `pyarrow.parquet.write_table`.
    """
    rows = table() if rows is None else rows
    about = footer(precision, len(rows)) if about is None else about
    facts = manifest(precision, len(rows)) if facts is None else facts
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(facts if isinstance(facts, bytes) else json.dumps(facts).encode())
    content = about if isinstance(about, bytes) else json.dumps(about).encode()
    texts = [column.name for column in rows.schema if column.name != "vector"]
    codecs = dict.fromkeys(texts, "zstd") | {"vector.list.element": "none"}
    options = {"compression": codecs, "use_dictionary": texts, **options}
    pq.write_table(rows.replace_schema_metadata({FOOTER: content}), folder / "shards" / name, **options)
    return folder


OPEN = "import sys; from zoo.vectors import open_vectors; print(len(open_vectors(sys.argv[1]).ids()))"


def opened(sandbox: Any, **options: Any) -> Any:
    """The folder of a sandbox's stranger, opened as `zoo dedupe`, `cluster` and the others do."""
    return sandbox.python(OPEN, sandbox.gift, **options)


Change = Callable[[Path], Any]
__all__ = ["DIM", "NAME", "ROWS", "Change", "footer", "manifest", "opened", "table", "vectors", "warm", "write"]
