"""Options: how a table is to be read, as `open_pairs` was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zoo.errors import TableError
from zoo.tables.building import PairBuilder
from zoo.tables.fences import Fence
from zoo.tables.reading import Format
from zoo.tables.schema import Schema


@dataclass(frozen=True)
class Options:
    """What all readers of files are told; see `open_pairs`.

    Attributes:
        given: the folder or archive that the user named, and in which the tables were found; None where he named them. It is
            reported by whoever has found them.

    Raises:
        TableError: the root is no folder.
    """

    columns: Mapping[str, str] | None = None
    root: Path | None = None
    split: str | None = None
    name: str = ""
    ignore: tuple[str, ...] = ()
    as_text: tuple[str, ...] = ()
    encoding: str | None = None
    separator: str | None = None
    allow_outside: bool = False
    given: Path | None = None

    def __post_init__(self) -> None:
        if self.root is not None and not Path(self.root).expanduser().is_dir():
            raise TableError(f"root {self.root} is no folder; relative paths in the table would begin there")

    @property
    def format(self) -> Format:
        """How files of text are written."""
        return Format(self.encoding, self.separator)

    @property
    def wanted(self) -> str:
        """The split to read."""
        return self.split or "train"

    @property
    def fence(self) -> Fence | None:
        """The folder outside of which nothing is opened; None where the user named the tables, or wants none.

        Where he says that paths begin (`root`), that is the folder.
        """
        if self.allow_outside or self.given is None:
            return None
        return Fence(self.given if self.root is None else Path(self.root).expanduser())

    def builder(self, schema: Schema, folder: Path) -> PairBuilder:
        """What makes the pairs of a table whose file lies in a folder."""
        return PairBuilder(schema, self.root or folder, self.name, self.as_text, self.fence)


class Reads(Protocol):
    """A table, or a source of `zoo.bulk`: it knows what of `Format` tells how it is read."""

    reads: frozenset[str]


def check_format(options: Options, *sources: Reads) -> None:
    """Raises TableError where an encoding or a separator was said, and no source is a file that is read by it."""
    for name, kind in (("encoding", "files of text"), ("separator", "CSV files")):
        value = getattr(options, name)
        if value is not None and not any(name in source.reads for source in sources):
            raise TableError(
                f"--{name} {value!r} ({name}={value!r}) is of {kind}, and there are none to be read; leave it out"
            )
