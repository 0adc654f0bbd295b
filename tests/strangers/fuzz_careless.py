"""A target of the fuzz's own, a careless reader, by which `test_harness` sees that finds are found."""

import json
from pathlib import Path
from random import Random

from tests.strangers.fuzz import mutated_json

GOOD = {"answer": 42, "list": [1, 2, 3]}


def prepare(folder: Path) -> None:
    """One file."""
    (folder / "good.json").write_text(json.dumps(GOOD))


def opens(folder: Path) -> None:
    """A careless reader: wrong types are raw errors."""
    value = json.loads((folder / "good.json").read_bytes())
    sum(value["list"], value["answer"])


def change(folder: Path, random: Random) -> None:
    """One file again, changed."""
    (folder / "good.json").write_bytes(mutated_json(GOOD, random))
