"""Finders by name, setting or file."""

from pathlib import Path
from typing import Any

from zoo.bulk.finders.base import FINDERS, Finder
from zoo.bulk.finders.boxes import Boxes
from zoo.bulk.finders.grid import Grid  # noqa: F401 (registers itself)
from zoo.bulk.finders.network import Network
from zoo.errors import ArgumentError


def names() -> list[str]:
    """All names of finders, but for that of files, which are named by their path."""
    return sorted(name for name in FINDERS if name != Boxes.name)


def finder_of(value: Any, device: str | None = None) -> Finder:
    """A finder; by "grid", "grid:3", "owl" or "sam2:./FOLDER", or by the path of a JSON file of boxes.

    Args:
        device: where a network runs that is opened by its name.

    Raises:
        ArgumentError: no such name, setting or file. TableError: the file holds no boxes. Besides what opening a network raises.
    """
    if isinstance(value, Finder):
        return value
    if hasattr(value, "propose"):
        return Network(value)
    if isinstance(value, str | Path):
        kind, _, setting = str(value).partition(":")
        if isinstance(value, str) and kind in names():
            return FINDERS[kind].parse(setting, device)
        if Path(value).suffix.lower() == ".json":
            return Boxes(Path(value).expanduser())
    raise ArgumentError(f"regions must be {', '.join(names())}, or a .json file of boxes, not {value!r}")
