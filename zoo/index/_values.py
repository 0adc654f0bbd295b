"""Values of filters: what a literal is in the units of the column that it is compared with, for Arrow and for Lance."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from zoo.index._conditions import Column, RefusedError

if TYPE_CHECKING:
    import pyarrow as pa

Sort = Literal["number", "text", "truth", "DATE", "TIMESTAMP", "TIME"]
_MOMENTS: tuple[Sort, ...] = ("text", "DATE", "TIMESTAMP")
# Family of types → what may be written for its values, and how. DATE stands for a text after the word: DATE '2024-12-31'.
_FAMILIES: dict[str, tuple[tuple[Sort, ...], str]] = {
    "whole": (("number",), "5"),
    "decimal": (("number",), "1.30"),
    "floating": (("number",), "2.5"),
    "text": (("text",), "'cat'"),
    "truth": (("truth",), "true or false"),
    "date": (_MOMENTS, "'2024-12-31'"),
    "timestamp": (_MOMENTS, "'2024-12-31' or '2024-12-31 23:59:59'"),
    "time": (("text", "TIME"), "'23:59:59'"),
    "duration": (("text",), "'1:30:00' (hours, minutes, seconds)"),
    "uuid": (("text",), "'df35c4cb-0599-405e-8c16-9a53f6201243'"),
}
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_UNITS = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}
_DAY = 86400
_CLOCK = r"(?P<clock>\d\d:\d\d(?::\d\d)?)(?:\.(?P<part>\d+))?"
_MOMENT = re.compile(rf"(?P<day>\d{{4}}-\d\d-\d\d)(?:[T ]{_CLOCK} ?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)
_DURATION = re.compile(r"(?P<minus>-?)(?P<h>\d+):(?P<m>\d\d?):(?P<s>\d\d?(?:\.\d+)?)", re.ASCII)
# No type reaches further; what lies beyond is out of range all the same, without a number of a billion digits.
_FAR = 400


@dataclass(frozen=True)
class Written:
    """A value as it stands in a filter."""

    sort: Sort
    text: str

    def __str__(self) -> str:
        if self.sort == "number":
            return f"the number {self.text}"
        return self.text if self.sort == "truth" else f"the text '{self.text}'"


def family(kind: "pa.DataType") -> str | None:
    """To which values a type is compared; None of a type that is asked for null alone."""
    import pyarrow as pa

    if isinstance(kind, pa.UuidType):
        return "uuid"
    if pa.types.is_decimal(kind):
        return "decimal" if kind.scale >= 0 else None  # Arrow computes with no others
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    for name, test in (("truth", "boolean"), ("whole", "integer"), ("floating", "floating")):
        if getattr(pa.types, f"is_{test}")(kind):
            return name
    return next(
        (one for one in ("date", "timestamp", "time", "duration") if getattr(pa.types, f"is_{one}")(kind)), None
    )


def how_written(kind: "pa.DataType") -> str:
    """How a value of a type is written, for messages."""
    return f"which is written {_FAMILIES[str(family(kind))][1]}"


def placed(written: Written, column: Column) -> tuple[Any, bool]:
    """The greatest value of a column's type that is not above a literal, and whether it is the literal itself.

    Whole numbers, decimals, dates and times come as a whole number of the type's units (an int64 of microseconds), UUIDs
    as bytes. The value is None where even the least of the type is above the literal.

    Raises:
        RefusedError: the literal is none of this type; says how one is written.
    """
    kind = column.kind
    sort = str(family(kind))
    refused = f"{written} is compared with {column.name!r}, a column of type {kind}, {how_written(kind)}"
    if written.sort not in _FAMILIES[sort][0]:
        raise RefusedError(refused)
    try:
        if sort == "text":
            return written.text, True
        if sort == "truth":
            return written.text == "true", True
        if sort == "uuid":
            return uuid.UUID(written.text).bytes, True
        if sort == "floating":
            return _nearest(_number(written.text), kind)
        exact = _units(written, kind)
    except (ValueError, OverflowError, InvalidOperation):
        raise RefusedError(refused) from None
    least, most = _range(kind)
    if not least <= exact <= most:
        return (most if exact > most else None), False
    whole = exact.numerator // exact.denominator
    return whole, whole == exact


def least(kind: "pa.DataType") -> Any:
    """The least value of a type: nothing is smaller."""
    sort = family(kind)
    if sort in ("text", "uuid"):
        return "" if sort == "text" else bytes(16)
    return float("-inf") if sort == "floating" else _range(kind)[0]


def as_array(values: Any, kind: "pa.DataType") -> "pa.Array":
    """Values as `placed` gives them, as an Arrow array of the type in which `comparable` gives the column."""
    import pyarrow as pa

    sort = family(kind)
    if sort == "decimal":
        # The constructor is exact where arithmetic would round to 28 digits.
        return pa.array([Decimal(f"{value}E-{kind.scale}") for value in values], basic(kind))
    if sort in ("date", "timestamp", "time", "duration"):
        return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    return pa.array(values, basic(kind))


def as_sql(value: Any, kind: "pa.DataType") -> str:
    """A value as `placed` gives it, in the SQL of Lance, cast to the very type of the column."""
    import pyarrow as pa

    sort = family(kind)
    if sort == "text":
        return "'" + value.replace("'", "''") + "'"
    if sort == "uuid":
        return f"X'{value.hex()}'"
    if sort == "truth":
        return "true" if value else "false"
    if sort == "whole":
        return f"arrow_cast('{value}', '{str(kind).capitalize().replace('Uint', 'UInt')}')"
    if sort == "floating":
        return f"arrow_cast('{value!r}', 'Float{kind.bit_width}')"
    if sort == "decimal":
        name = f"Decimal{kind.bit_width}({kind.precision}, {kind.scale})"
        return f"arrow_cast('{Decimal(f'{value}E-{kind.scale}'):f}', '{name}')"
    unit = _UNITS.get(getattr(kind, "unit", ""), "")
    if pa.types.is_timestamp(kind):
        zone = f'Some("{kind.tz}")' if kind.tz else "None"
        name = f"Timestamp({unit}, {zone})"
    elif sort == "duration":
        name = f"Duration({unit})"
    else:
        name = f"Date{kind.bit_width}" if sort == "date" else f"Time{kind.bit_width}({unit})"
    width = 32 if kind.bit_width == 32 else 64
    return f"arrow_cast(arrow_cast('{value}', 'Int{width}'), '{name}')"


def basic(kind: "pa.DataType") -> "pa.DataType":
    """The type in which Arrow has every comparison of a type's values."""
    import pyarrow as pa

    if isinstance(kind, pa.UuidType):
        return kind.storage_type
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def comparable(values: "pa.ChunkedArray", kind: "pa.DataType") -> "pa.ChunkedArray":
    """A column as Arrow compares it: without a dictionary, in its basic type, -0.0 as 0.0 (IN looks at the bits)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.type != kind and pa.types.is_dictionary(values.type):
        values = values.cast(kind)
    if basic(kind) != kind:
        values = values.cast(basic(kind))
    return pc.add(values, pa.scalar(0.0, values.type)) if family(kind) == "floating" else values


def _number(text: str) -> Fraction:
    number = Decimal(text)
    if number and abs(number.adjusted()) > _FAR:
        return Fraction(10) ** (_FAR if number.adjusted() > 0 else -_FAR) * (-1 if number < 0 else 1)
    return Fraction(number)


def _nearest(number: Fraction, kind: "pa.DataType") -> tuple[float, bool]:
    """A number as a column of floating point holds it; beyond the type's range its greatest number, or -inf."""
    import numpy as np

    narrow = getattr(np, f"float{kind.bit_width}")
    with np.errstate(over="ignore"):
        try:
            found = float(narrow(float(number)))
        except OverflowError:
            found = float("inf")
    if abs(found) != float("inf"):
        return found, True
    return (float(np.finfo(narrow).max) if number > 0 else float("-inf")), False


def _range(kind: "pa.DataType") -> tuple[int, int]:
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    if pa.types.is_unsigned_integer(kind):
        return 0, 2**kind.bit_width - 1
    return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1


def _units(written: Written, kind: "pa.DataType") -> Fraction:
    """A literal in units of the column's type, as a fraction of them where it lies between two."""
    text, sort = written.text, family(kind)
    if sort in ("whole", "decimal"):
        return _number(text) * 10 ** (kind.scale if sort == "decimal" else 0)
    if sort == "duration":
        found = _DURATION.fullmatch(text)
        if not found:
            raise ValueError(text)
        seconds = int(found["h"]) * 3600 + int(found["m"]) * 60 + Fraction(found["s"])
        return (-seconds if found["minus"] else seconds) * _TICKS[kind.unit]
    if sort == "time":
        found = _TIME.fullmatch(text)
        if not found:
            raise ValueError(text)
        clock = datetime.fromisoformat(f"1970-01-01T{found['clock']}") - datetime(1970, 1, 1)
        return (clock.seconds + Fraction(f"0.{found['part'] or 0}")) * _TICKS[kind.unit]
    found = _MOMENT.fullmatch(text)
    if not found or (written.sort == "DATE" and found["clock"]):
        raise ValueError(text)
    seconds = _since_1970(found, getattr(kind, "tz", None)) + Fraction(f"0.{found['part'] or 0}")
    if sort == "timestamp":
        return seconds * _TICKS[kind.unit]
    return seconds / _DAY if kind.bit_width == 32 else seconds * 1000


def _since_1970(found: re.Match[str], zone: str | None) -> int:
    """Seconds to a moment. A column with a zone is compared with local time, if no offset is written."""
    moment = datetime.fromisoformat(f"{found['day']}T{found['clock'] or '00:00'}")
    past = moment - datetime(1970, 1, 1)
    seconds = past.days * _DAY + past.seconds
    if found["zone"] and zone is None:
        raise RefusedError(
            f"the text '{found.string}' has a time zone, and the column that it is compared with has none; write it "
            "without one"
        )
    if zone is None:
        return seconds
    where = datetime.fromisoformat(f"1970-01-01T00:00{found['zone']}").tzinfo if found["zone"] else _zone(zone)
    offset = moment.replace(tzinfo=where).utcoffset()
    return seconds - (offset.days * _DAY + offset.seconds if offset else 0)


def _zone(name: str) -> tzinfo:
    if re.fullmatch(r"[+-]\d\d(:?\d\d)?|Z", name):
        return datetime.fromisoformat(f"1970-01-01T00:00{name}").tzinfo or ZoneInfo("UTC")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise RefusedError(
            f"the time zone {name!r} of the column is not known on this machine; write the offset: "
            "'2024-12-31 23:59:59+00:00'"
        ) from None
