"""What a filter says once it is understood: small conditions over columns, every value in the column's own units."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class RefusedError(Exception):
    """Why a filter is not understood; `Filter` puts the filter before it."""


@dataclass(frozen=True)
class Column:
    """A column and the type of its values, of a dictionary that of its entries."""

    name: str
    kind: "pa.DataType"


@dataclass(frozen=True)
class Compare:
    """`left sign right` with =, <, <=, > or >=. The right side is a column or a value as `_values.placed` gives it."""

    left: Column
    sign: str
    right: Any


@dataclass(frozen=True)
class Among:
    """IN: one of the values; with `null` among them it is unknown, never false."""

    column: Column
    values: tuple[Any, ...]
    null: bool


@dataclass(frozen=True)
class Like:
    """A text that fits a pattern of % and _, in which a backslash takes the meaning from the letter after it."""

    column: Column
    pattern: str
    ignore_case: bool


@dataclass(frozen=True)
class IsNull:
    """Whether there is no value; never unknown."""

    column: Column


@dataclass(frozen=True)
class Holds:
    """A column of booleans that is a condition by itself."""

    column: Column


@dataclass(frozen=True)
class Not:
    """The contrary; the contrary of unknown is unknown."""

    condition: "Condition"


@dataclass(frozen=True)
class Every:
    """AND."""

    conditions: "tuple[Condition, ...]"


@dataclass(frozen=True)
class Some:
    """OR."""

    conditions: "tuple[Condition, ...]"


Condition = Compare | Among | Like | IsNull | Holds | Not | Every | Some
