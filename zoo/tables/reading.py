"""RowReader: the rows of one file of a table, one after the other and as often as asked; one reader per kind of file.

Under everything that reads tables: pairs for training, mining and evaluation (`zoo.tables`), items for `zoo.bulk`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from zoo.tables.cells import Guess
from zoo.tables.lines import encoding_of
from zoo.tables.schema import Column

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Format:
    """How a file of text is written, where it does not say so itself.

    Attributes:
        encoding: as Python calls it, None where it is found. separator: of the cells of CSV, None where it is found.
    """

    encoding: str | None = None
    separator: str | None = None


class RawRow(NamedTuple):
    """One row as it stands.

    Attributes:
        number: its place among the rows of the file, counted from 0, bad ones included.
        line: where it ends in a file of text, counted from 1; 0 elsewhere.
        where: its place in words: "pairs.csv, line 7".
        cells: by column; what a row lacks may be absent. problem: why it is no row, "" where it is one.
    """

    number: int
    line: int
    where: str
    cells: Mapping[str, Any]
    problem: str = ""


@dataclass
class RowReader(ABC):
    """The rows of one file.

    Attributes:
        name: of the file, as places say it: "pairs.csv", "year=2024/part-0.parquet".
        columns: names, in order. notes: what was found out about the file and is worth a line.
        constants: cells that all rows share and the file does not hold (the keys of a partition).
        spelled: whether all cells are texts, so that types are guesses. reads: what of `Format` tells how it is read.
    """

    spelled: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset()

    path: Path
    name: str
    columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    told: Format = field(default_factory=Format)

    @abstractmethod
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
        """All rows in order, bad ones included; no more than a few are in memory.

        Args:
            columns: those that are needed; others may be there.

        Raises:
            TableError: the file as a whole is damaged, or its rows cannot be told apart.
        """

    @abstractmethod
    def types(self, guesses: dict[str, Guess] | None = None) -> "dict[str, pa.DataType]":
        """The Arrow type of every column; of a file of text the narrowest that gives back its cells as they stand.

        Args:
            guesses: of files that were read before, to which those of this one are added.
        """

    @abstractmethod
    def found(self) -> list[Column]:
        """The columns, as `schema.infer` and `zoo.bulk` judge them; of a file of text after `types`."""

    @abstractmethod
    def count(self) -> int:
        """How many rows there are, bad ones included."""

    def exact(self, column: str) -> bool:
        """Whether all whole numbers of a column are known to be doubles of their own."""
        return False

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _note_encoding(self) -> None:
        """Says which encoding was found, where it is not UTF-8."""
        found, _ = encoding_of(self.path, self.told.encoding)
        if self.told.encoding is None and not found.startswith("utf-8"):
            self._note(f"its encoding is {found.upper()}")
