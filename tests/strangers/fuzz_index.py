"""Fuzz of an index: index.json, and the segments and vectors of the exact store, facts and bytes."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.strangers import shards
from tests.strangers.fuzz import mutated, mutated_json

GOOD: dict[str, bytes] = {}
SEGMENT = "segments/00000000.arrow"


def prepare(folder: Path) -> None:
    """An index of eight rows, one of them replaced."""
    import pyarrow as pa

    from zoo.index import ExactIndex

    columns = pa.schema([("text", pa.string()), ("year", pa.int64())])
    made_by = {"model": "somebody", "dim": shards.DIM}
    with ExactIndex.create(folder, fingerprint=made_by, dim=shards.DIM, columns=columns) as index:
        rows = {"text": ["a"] * shards.ROWS, "year": list(range(shards.ROWS))}
        index.upsert([str(row) for row in range(shards.ROWS)], shards.vectors(), rows)
        index.upsert(["0"], shards.vectors()[:1], {"text": ["b"], "year": [1]})
    for name in ("index.json", SEGMENT, "vectors.bin"):
        GOOD[name] = (folder / name).read_bytes()


def opens(folder: Path) -> None:
    """Searched, counted and filtered."""
    from zoo.index import ExactIndex

    with ExactIndex.open(folder) as index:
        index.search(shards.vectors()[0], k=3)
        index.count("year > 2")
        repr(index)


def change(folder: Path, random: Random) -> None:
    """One of its files."""
    for name, data in GOOD.items():
        (folder / name).write_bytes(data)
    name = random.choice(list(GOOD))
    if name == "index.json" and random.random() < 0.8:
        data = mutated_json(json.loads(GOOD[name]), random)
    elif name == SEGMENT and random.random() < 0.5:
        data = segment(random)
    else:
        data = mutated(GOOD[name], random)
    (folder / name).write_bytes(data)


def segment(random: Random) -> bytes:
    """The first segment with other facts."""
    import pyarrow as pa

    table = pa.ipc.open_file(pa.py_buffer(GOOD[SEGMENT])).read_all()
    facts: Any = json.loads(table.schema.metadata[b"zoo"])
    table = table.replace_schema_metadata({b"zoo": mutated_json(facts, random)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
