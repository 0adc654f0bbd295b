"""Filters put together in Python: typed conditions that are the text of a filter, and go wherever `where=` does.

from zoo.index.predicates import between, contains, equal

index.search(query, where=equal("label", "cat") & (between("year", 2019, 2024) | ~contains("title", "draft")))
"""

import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any, Self

from zoo.errors import ArgumentError


class Predicate(str):
    """A condition over columns, as text; `&`, `|` and `~` join and negate. It quotes what it is made of, and is checked when it is used."""

    __slots__ = ("_joined",)
    _joined: str

    def __new__(cls, condition: str, joined: str = "") -> Self:
        """Args: condition: of SQL, whole by itself. joined: "AND" or "OR", where that joins its parts."""
        found = super().__new__(cls, condition)
        found._joined = joined
        return found

    def __and__(self, other: str) -> "Predicate":
        return _join("AND", self, other)

    def __or__(self, other: str) -> "Predicate":
        return _join("OR", self, other)

    def __invert__(self) -> "Predicate":
        return Predicate(f"NOT ({self})")


def equal(column: str, value: Any) -> Predicate:
    """Rows whose value is this one; None: those that have none.

    Args:
        value: a text, number, bool, date or time.

    Raises:
        ArgumentError: another value, or one that is equal to nothing, such as NaN.
    """
    if value is None:
        return Predicate(f"{_name(column)} IS NULL")
    if isinstance(value, bool):
        return Predicate(f"{_name(column)} IS {str(value).upper()}")
    return Predicate(f"{_name(column)} = {_value(value)}")


def among(column: str, values: Sequence[Any]) -> Predicate:
    """Rows whose value is one of these; raises ArgumentError as `equal`, or for none."""
    if isinstance(values, str) or not len(values):
        raise ArgumentError(f"values of {column!r} must be a list with at least one value, not {values!r:.60}")
    return Predicate(f"{_name(column)} IN ({', '.join(map(_value, values))})")


def between(column: str, low: Any = None, high: Any = None) -> Predicate:
    """Rows whose value is from `low` to `high`, both included; None: without that end. Raises ArgumentError as `equal`, or for no end."""
    ends = [f"{_name(column)} {sign} {_value(end)}" for sign, end in ((">=", low), ("<=", high)) if end is not None]
    if not ends:
        raise ArgumentError(f"between({column!r}) has no end; give low, high or both")
    return Predicate(" AND ".join(ends), "AND" if len(ends) > 1 else "")


def contains(column: str, text: str) -> Predicate:
    """Rows whose text holds this one, with the case of its letters; raises ArgumentError for anything but a text."""
    if not isinstance(text, str):
        raise ArgumentError(f"contains({column!r}) looks for a text, not {text!r:.60} ({type(text).__name__})")
    # A backslash is the escape of LIKE by itself; what follows it has no meaning.
    for letter in "\\%_":
        text = text.replace(letter, f"\\{letter}")
    return Predicate(f"{_name(column)} LIKE {_value(f'%{text}%')}")


def _join(word: str, *parts: str) -> Predicate:
    """Parts that are joined by the same word stand side by side: filters are nested at most twenty deep."""
    told = [part if getattr(part, "_joined", "?") in ("", word) else f"({part})" for part in parts]
    return Predicate(f" {word} ".join(told), word)


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _value(value: Any) -> str:
    value = value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value  # of numpy
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.date | datetime.time):
        return f"'{value.isoformat()}'"
    if isinstance(value, int | decimal.Decimal | float) and not isinstance(value, bool) and math.isfinite(value):
        return format(
            decimal.Decimal(repr(value)) if isinstance(value, float) else value,
            "f" if not isinstance(value, int) else "d",
        )
    raise ArgumentError(
        f"a filter compares with texts, finite numbers, dates and times, not {value!r:.60} ({type(value).__name__})"
    )
