"""Fuzz of a shard: the facts in its footer, and its bytes, which are a Parquet file."""

from pathlib import Path
from random import Random

from tests.strangers import shards
from tests.strangers.fuzz import mutated, mutated_json

GOOD: dict[str, bytes] = {}


def prepare(folder: Path) -> None:
    """A folder in order, whose shard has a bad input, too."""
    shards.write(folder, shards.table(shards.vectors(7)), facts())
    GOOD["shard"] = (folder / "shards" / shards.NAME).read_bytes()


def facts() -> dict:
    """Those of its footer."""
    bad = {"index": 3, "id": "3", "reference": "texts.txt#3", "reason": "empty-text", "message": "an empty text"}
    return {**shards.footer(), "bad": [bad]}


def opens(folder: Path) -> None:
    """All rows are read, and the first shown."""
    from zoo.index.base import rows_of
    from zoo.vectors import open_vectors

    vectors = open_vectors(folder)
    vectors.ids()
    vectors.texts()
    rows_of(vectors.rows.slice(0, 1))


def change(folder: Path, random: Random) -> None:
    """Facts in one of two, else bytes: anywhere, or in the last 4,000, where the footer is."""
    if random.random() < 0.5:
        shards.write(folder, shards.table(shards.vectors(7)), mutated_json(facts(), random))
        return
    data = GOOD["shard"]
    cut = max(0, len(data) - 4_000) if random.random() < 0.7 else 0
    (folder / "shards" / shards.NAME).write_bytes(data[:cut] + mutated(data[cut:], random))
