"""Proposers by name, setting or file."""

from pathlib import Path
from typing import Any

from zoo.bulk.proposers.base import PROPOSERS, Proposer
from zoo.bulk.proposers.boxes import Boxes
from zoo.bulk.proposers.grid import Grid  # noqa: F401 (registers itself)
from zoo.errors import ArgumentError


def names() -> list[str]:
    """All names of proposers, but for that of files, which are named by their path."""
    return sorted(name for name in PROPOSERS if name != Boxes.name)


def proposer_of(value: Any) -> Proposer:
    """A proposer; by "grid" or "grid:3", or by the path of a JSON file of boxes.

    Raises:
        ArgumentError: no such name, setting or file. TableError: the file holds no boxes.
    """
    if isinstance(value, Proposer):
        return value
    if isinstance(value, str | Path):
        kind, _, setting = str(value).partition(":")
        if isinstance(value, str) and kind in names():
            return PROPOSERS[kind].parse(setting)
        if Path(value).suffix.lower() == ".json":
            return Boxes(Path(value).expanduser())
    raise ArgumentError(f"regions must be {', '.join(names())}, or a .json file of boxes, not {value!r}")
