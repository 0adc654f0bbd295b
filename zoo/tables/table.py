"""Table: the base of all readers, and several tables as one."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any, Self

import numpy as np

from zoo.errors import TableError
from zoo.tables.pairs import Pair
from zoo.tables.schema import Schema

MOST = 20_000  # rows that are looked at before training: seconds
_SHOWN = 5


class Table:
    """Pairs by row number, read when asked for; threads may read at once.

    Attributes:
        schemas: of every table in it, to be shown before training.
        datasets: `(n,)` number of the data set of every row. names: the data sets' names.
        reads: what of `Format` tells how it is read: "encoding", "separator".
    """

    reads: frozenset[str] = frozenset()
    schemas: list[Schema]
    datasets: np.ndarray
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.datasets)

    @property
    def columns(self) -> list[str]:
        """All columns, those that are ignored too."""
        return list(dict.fromkeys(column for schema in self.schemas for column in schema.columns))

    @property
    def ignored(self) -> set[str]:
        """The columns that are read as if they were not there."""
        return {column for schema in self.schemas for column in schema.ignored}

    def __getitem__(self, row: int) -> Pair:
        """The pair of a row.

        Raises:
            BadRowError: the row is no pair. IndexError: there is no such row.
        """
        return self._pair(self._number(row))

    def _number(self, row: int) -> int:
        number = int(row) + len(self) if row < 0 else int(row)
        if not 0 <= number < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return number

    def _pair(self, row: int) -> Pair:
        raise NotImplementedError(f"{type(self).__name__} must define _pair")

    def where(self, row: int) -> str:
        """The place of a row in words: "pairs.csv, line 7"."""
        raise NotImplementedError(f"{type(self).__name__} must define where")

    def blocks(self) -> list[range]:
        """Rows that lie together (a file, a row group, a shard), in order: reading them in turn is cheapest."""
        return [range(len(self))]

    def values(self, column: str) -> list[Any]:
        """A column's cells of all rows."""
        raise NotImplementedError(f"{type(self).__name__} must define values")

    @property
    def unread(self) -> Collection[int]:
        """Rows of which nothing could be read, not even a cell: ragged ones, lines that are no JSON."""
        return ()

    def check(self) -> Self:
        """This table, if all of its rows are pairs; nothing is decoded.

        Raises:
            TableError: some are none: all of them are counted, and the first are named.
        """
        bad = self.problems(len(self), None)
        source = f"{self.schemas[0].source}, " if len(self.schemas) == 1 else ""
        if len(bad) == 1:
            raise TableError(bad[0])
        if bad:
            more = f"\n  … and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
            shown = "\n  ".join(entry.removeprefix(source) for entry in bad[:_SHOWN])
            raise TableError(
                f"{source[:-2] or 'the pairs'}: {len(bad):,} of {len(self):,} rows are no pairs:\n  {shown}{more}"
            )
        return self

    def problems(self, limit: int = 20, most: int | None = MOST, keep: np.ndarray | None = None) -> list[str]:
        """The first rows that are no pairs, each with its place and the reason; nothing is decoded.

        Args:
            most: rows that are looked at, about; of a larger table they are those of evenly spread blocks. None for all.
            keep: `(n,)` True for the rows that count; None for all.
        """
        found: list[str] = []
        for row in (row for block in spread(self.blocks(), most) for row in block):
            if len(found) >= limit:
                break
            if keep is not None and not keep[row]:
                continue
            try:
                self._check(row)
            except TableError as error:
                found.append(str(error))
        return found

    def _check(self, row: int) -> None:
        """Raises TableError where a row is no pair; reads less than `_pair` where it can."""
        self._pair(row)


class Tables(Table):
    """Several tables one after the other; data sets of one name are one."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = list(tables)
        self.schemas = [schema for table in tables for schema in table.schemas]
        self.reads = frozenset().union(*(table.reads for table in tables))
        self._ends = list(accumulate(len(table) for table in tables))
        numbers: dict[str, int] = {}
        parts = []
        for table in tables:
            own = np.array([numbers.setdefault(name, len(numbers)) for name in table.names], dtype=np.int64)
            parts.append(own[table.datasets])
        self.datasets, self.names = np.concatenate(parts), list(numbers)

    def _place(self, row: int) -> tuple[Table, int]:
        number = bisect_right(self._ends, row)
        return self.tables[number], row - (self._ends[number - 1] if number else 0)

    def _pair(self, row: int) -> Pair:
        table, own = self._place(row)
        return table[own]

    def where(self, row: int) -> str:
        """See `Table`."""
        table, own = self._place(self._number(row))
        return table.where(own)

    def blocks(self) -> list[range]:
        """See `Table`."""
        starts = [0, *self._ends]
        return [
            range(start + block.start, start + block.stop)
            for start, table in zip(starts, self.tables, strict=False)
            for block in table.blocks()
        ]

    def problems(self, limit: int = 20, most: int | None = MOST, keep: np.ndarray | None = None) -> list[str]:
        """See `Table`; `most` is for each of the tables."""
        found: list[str] = []
        for table in self.tables:
            found += table.problems(limit - len(found), most) if len(found) < limit else []
        return found


def spread(blocks: Sequence[range], most: int | None) -> Sequence[range]:
    """Every so many blocks, so that there are about as many rows; all for None."""
    total = sum(map(len, blocks))
    return blocks if most is None or total <= most else blocks[:: -(-total // most)]


def one_dataset(name: str, count: int) -> tuple[np.ndarray, list[str]]:
    """Data set numbers and names of a table that is one data set."""
    return np.zeros(count, dtype=np.int64), [name]


def named_datasets(values: Sequence[str | None], default: str) -> tuple[np.ndarray, list[str]]:
    """Data set numbers and names by the values of a column; empty ones are the default's."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(value or default, len(numbers)) for value in values]
    return np.asarray(found, dtype=np.int64), list(numbers)
