"""Filters: the part of SQL's WHERE that people type, understood once and asked of both stores in the same sense.

A filter is read by sqlglot (`_syntax`), checked against the columns (`_understanding`) until nothing is left but the
small conditions of `_conditions`, and then rendered: as a mask over an Arrow table, or as SQL for Lance (`_renderings`).
No store sees a word that the check did not understand, so that they cannot differ.
"""

from typing import TYPE_CHECKING

from zoo.errors import FilterError
from zoo.index._conditions import RefusedError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# So much of a filter is repeated in an error.
_SHOWN = 200


class Filter:
    """A filter that has been checked against the columns of an index.

    SQL's logic of three values holds: what is compared with null is unknown, and only what is true is kept. Values take
    the type of the column that they are compared with: whole numbers, decimals, dates and times are compared exactly,
    whatever the value (`small < 300` holds for every int8); beside a column of floating point a number is the nearest
    that the column can hold. NaN is smaller than, greater than and equal to nothing, as in Python.

    Args:
        columns: of the index, `id` and `reference` among them. Those that begin with "_" are the zoo's own, and are not
            found.

    Raises:
        FilterError: what is not understood, at which word, and what is.
    """

    def __init__(self, where: str, columns: "pa.Schema") -> None:
        from zoo.index._columns import Columns
        from zoo.index._syntax import read
        from zoo.index._understanding import understood

        self.where = where
        known = Columns(columns)
        try:
            self._condition = understood(read(where, known), known)
        except RefusedError as refused:
            raise self._error(refused) from None

    def _error(self, what: object) -> FilterError:
        shown = self.where if len(self.where) <= _SHOWN else self.where[:_SHOWN] + "…"
        return FilterError(f"filter {shown!r}: {what}")

    def mask(self, table: "pa.Table") -> "np.ndarray":
        """The rows of a table that the filter keeps, as booleans `(rows,)`; raises FilterError where Arrow refuses."""
        import pyarrow as pa

        from zoo.index._renderings import mask

        try:
            return mask(self._condition, table)
        except pa.ArrowException as error:
            raise self._error(error) from error

    @property
    def sql(self) -> str:
        """The filter as Lance understands it, every value cast to the type of its column."""
        from zoo.index._renderings import sql

        return sql(self._condition)
