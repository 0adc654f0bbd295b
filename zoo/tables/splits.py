"""Splits: which rows of a table are for training, for validation and for the test, by a column or by the names of files."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from zoo.errors import NoSplitError, TableError
from zoo.tables.pairs import Pair
from zoo.tables.schema import Schema
from zoo.tables.table import MOST, Table

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_SPELLINGS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "validate", "valid", "val", "dev", "development", "eval", "evaluation"),
    TEST: ("test", "testing"),
}
SPLIT_OF = {word: split for split, words in _SPELLINGS.items() for word in words}
# Other names of such columns; unlike `split` they often hold something else, so that their values decide.
SPLIT_LIKE = ("subset", "partition", "fold", "set", "phase")
_SHOWN = 8


def split_word(value: Any) -> str:
    """train, validation or test, however it is spelled; "" for what is none of them."""
    return SPLIT_OF.get(str(value).strip().lower(), "")


def split_name(split: str) -> str:
    """The split that a user asks for; a name of a data set's own stays as it is."""
    return split_word(split) or split


def split_of_path(name: str, spellings: Sequence[str] = tuple(SPLIT_OF)) -> str:
    """The split that a path names, "" for none; the file's own name goes before its folders."""
    for part in reversed(PurePosixPath(name).parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in spellings:
                return SPLIT_OF[word]
    return ""


class SplitTable(Table):
    """The rows of one split of a table that has a column of splits.

    Args:
        table: all rows. splits: the split of every row. split: of these rows.

    Attributes:
        asked: whether it was asked for; False where the table has no rows for training, and no split was named.
    """

    asked = True

    def __init__(self, table: Table, splits: np.ndarray, split: str) -> None:
        self.table, self.splits, self.split, self.reads = table, splits, split, table.reads
        self.rows = np.flatnonzero(splits == split)
        counts = Counter(splits.tolist())
        self.counts = {name: counts[name] for name in _SPELLINGS if name in counts}
        (schema,) = table.schemas
        self.schemas = [replace(schema, rows=len(self.rows), splits=tuple(self.counts.items()), chosen=split)]
        self.datasets, self.names = table.datasets[self.rows], table.names
        self._kept = splits == split

    def of_split(self, split: str) -> "SplitTable | None":
        """The rows of another split; None where there are none."""
        return SplitTable(self.table, self.splits, split) if split in self.counts else None

    def _pair(self, row: int) -> Pair:
        return self.table[int(self.rows[row])]

    def where(self, row: int) -> str:
        """See `Table`."""
        return self.table.where(int(self.rows[self._number(row)]))

    def blocks(self) -> list[range]:
        """See `Table`."""
        ends = [int(np.searchsorted(self.rows, block.stop)) for block in self.table.blocks()]
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]

    def problems(self, limit: int = 20, most: int | None = MOST, keep: np.ndarray | None = None) -> list[str]:
        """See `Table`."""
        return self.table.problems(limit, most, self._kept)


def follow(table: Table, schema: Schema, split: str) -> Table:
    """The rows of `split`, where a column says of which split every row is; else the table itself.

    Rows that cannot be read at all count as of the split that is asked for, where there are others of it.

    Raises:
        TableError: a value of the column names no split.
    """
    liked = (c for c in schema.unused if c.lower() in SPLIT_LIKE and _holds_splits(table, c))
    column = schema.split or next(liked, None)
    if column is None:
        return table
    values = table.values(column)
    splits = np.array([split_word(value) for value in values], dtype="U10")
    known = [found for found in splits.tolist() if found]
    splits[sorted(table.unread)] = split_name(split) if split_name(split) in known or not known else known[0]
    if unknown := Counter(shown(value) for value, found in zip(values, splits.tolist(), strict=True) if not found):
        raise unknown_splits(schema.source, column, unknown)
    if schema.split is None:
        unused = tuple(name for name in schema.unused if name != column)
        table.schemas = [replace(table.schemas[0], split=column, unused=unused)]
    return SplitTable(table, splits, split_name(split))


def unknown_splits(source: str, column: str, unknown: Counter[str]) -> TableError:
    """The error for values of a column of splits that name none, counted."""
    listed = ", ".join(counted(name, count) for name, count in unknown.most_common(_SHOWN))
    listed += f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return TableError(
        f"{source}: column {column} holds {listed}, which name no split; known are {', '.join(SPLIT_OF)}. Rename them, or read "
        f"all rows: --ignore {column} (ignore=[{column!r}])"
    )


def no_split(source: str, split: str, columns: Sequence[str]) -> NoSplitError:
    """The error for a split of a table that tells none."""
    return NoSplitError(
        f"{source} has no split {split!r}: no column says which rows are of it (a column split, or --column split=NAME); "
        f"its columns: {', '.join(dict.fromkeys(columns)) or 'none'}"
    )


def empty_split(source: str, split: str, columns: Sequence[str], counts: Counter[str]) -> NoSplitError:
    """The error for a split that no row is of."""
    found = ", ".join(counted(name, count) for name, count in counts.items())
    return NoSplitError(
        f"{source} has no row of the split {split!r}: column {', '.join(dict.fromkeys(columns))} holds {found}; say --split"
    )


def kept_columns(schema: Schema) -> list[str]:
    """The columns that a reader keeps: those that are used, and those that may hold splits."""
    return [*schema.used, *(column for column in schema.unused if column.lower() in SPLIT_LIKE)]


def _holds_splits(table: Table, column: str) -> bool:
    """Whether all values of a column name a split."""
    return all(split_word(value) for row, value in enumerate(table.values(column)) if row not in table.unread)


def counted(name: str, count: int) -> str:
    """A name with the number of its rows."""
    return f"{name} ({count:,} row{'s' if count > 1 else ''})"


def shown(value: Any) -> str:
    """A value, for messages."""
    return "nothing" if value is None or not str(value).strip() else repr(value)[:40]


def check_split(table: Table, source: str, split: str, *, by_place: bool) -> None:
    """Whether there is something of the split that was asked for.

    Args:
        by_place: the files were chosen by it.

    Raises:
        NoSplitError: there is no row of it, or nothing says which rows are.
    """
    leaves = leaves_of(table)
    told = [leaf for leaf in leaves if isinstance(leaf, SplitTable)]
    if not told and not by_place and split_name(split) != TRAIN:
        raise no_split(source, split, [column for leaf in leaves for s in leaf.schemas for column in s.columns])
    if told and len(told) < len(leaves) and not by_place and split_name(split) != TRAIN:
        bare = next(leaf for leaf in leaves if not isinstance(leaf, SplitTable))
        raise NoSplitError(
            f"{bare.schemas[0].source} has no column {told[0].schemas[0].split}, and {told[0].schemas[0].source} has: which "
            f"of its rows are of the split {split!r}?"
        )
    if told and not len(table):
        counts = sum((Counter(leaf.counts) for leaf in told), Counter())
        raise empty_split(source, split, [str(leaf.schemas[0].split) for leaf in told], counts)


def only_split(table: Table) -> str:
    """The split of all rows, where a table has none for training and all of them are of one; "" else."""
    found = {name for leaf in leaves_of(table) if isinstance(leaf, SplitTable) for name in leaf.counts}
    return found.pop() if len(table) == 0 and len(found) == 1 else ""


def leaves_of(table: Any) -> list[Any]:
    """The tables that a table is made of, each with one schema."""
    return [leaf for part in table.tables for leaf in leaves_of(part)] if hasattr(table, "tables") else [table]
