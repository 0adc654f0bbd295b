"""MadeTable: the base of tables whose rows are made here, of packages that are installed."""

from collections.abc import Callable, Sequence
from typing import Any

from zoo.errors import TableError
from zoo.tables.schema import Part, Schema
from zoo.tables.splits import TRAIN
from zoo.tables.table import MOST, Table, one_dataset


class MadeTable(Table):
    """A table that is made here, to learn from: of one data set, without other splits than train.

    Args:
        pack: what it is called after "pack:". split: which is asked for. name: of the data set. query, target: what a row holds.
        rows: makes them.

    Raises:
        TableError: another split than train is asked for. And those of `rows`.
    """

    def __init__(
        self, pack: str, split: str, name: str, query: Part, target: Part, rows: Callable[[], Sequence[Any]]
    ) -> None:
        if split != TRAIN:
            raise TableError(f"pack:{pack} is there to learn from and has the split {TRAIN} alone, not {split!r}")
        self._rows, self._name, self._pack = rows(), name, pack
        self.schemas = [Schema(f"pack:{pack}", (query,), (target,), rows=len(self._rows))]
        self.datasets, self.names = one_dataset(name, len(self._rows))

    def where(self, row: int) -> str:
        """See `Table`."""
        return f"pack:{self._pack}, row {row}"

    def problems(self, limit: int = 20, most: int | None = MOST, keep: object = None) -> list[str]:
        """None: the rows are made here."""
        return []
