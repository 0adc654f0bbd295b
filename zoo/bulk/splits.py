"""SplitFilter: the rows of one split, by the same column and the same words as in training."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from zoo.tables.names import FACTS
from zoo.tables.reading import RawRow, RowReader
from zoo.tables.schema import Column
from zoo.tables.splits import SPLIT_LIKE, empty_split, no_split, shown, split_name, split_word, unknown_splits


@dataclass(frozen=True)
class SplitFilter:
    """Rows whose column says that they are of a split; rows that cannot be read count as of it."""

    column: str
    split: str
    rows: int
    others: int

    @classmethod
    def of(
        cls,
        source: str,
        columns: Sequence[Column],
        readers: Sequence[RowReader],
        split: str | None,
        by_place: bool,
        said: Collection[str] = (),
    ) -> Self | None:
        """The filter; None for all rows.

        Args:
            by_place: the files were chosen by the split. said: "split=NAME" of the column, if the user did.

        Raises:
            NoSplitError: no column says it, or no row is of it. TableError: a value names no split.
        """
        if split is None:
            return None
        told = [entry.partition("=")[2] for entry in said]
        names = [column.name for column in columns]
        for name in told or [name for name in names if name.lower() in (*FACTS["split"], *SPLIT_LIKE)]:
            words: Counter[str] = Counter()
            unknown: Counter[str] = Counter()
            unread = 0
            for row in (row for reader in readers for row in reader.rows([name])):
                value = row.cells.get(name)
                if row.problem:
                    unread += 1
                elif word := split_word(value):
                    words[word] += 1
                else:
                    unknown[shown(value)] += 1
            if unknown and name.lower() in SPLIT_LIKE and not told:
                continue  # it holds something else
            if unknown:
                raise unknown_splits(source, name, unknown)
            if not words[split_name(split)]:
                raise empty_split(source, split, [name], +words)
            rows = words[split_name(split)] + unread
            return cls(name, split_name(split), rows, words.total() + unread - rows)
        if by_place:
            return None
        raise no_split(source, split, names)

    def keeps(self, row: RawRow) -> bool:
        """Whether a row counts."""
        return bool(row.problem) or split_word(row.cells.get(self.column)) == self.split
