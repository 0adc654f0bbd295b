"""Literals of filters: what a number or a text in single quotes is, compared with a column of an Arrow type."""

import uuid
from datetime import datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import pyarrow as pa

# How a value of a type is written in a filter, by the beginning of the type's name.
_SPELLINGS = {
    "date": "'2024-12-31'",
    "timestamp": "'2024-12-31 23:59:59'",
    "time": "'23:59:59'",
    "duration": "'1:30:00' (hours, minutes, seconds)",
    "decimal": "1.30",
    "extension<arrow.uuid>": "'df35c4cb-0599-405e-8c16-9a53f6201243'",
}
_UNITS = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}


def literal(text: str, kind: "pa.DataType", *, number: bool) -> "pa.Scalar":
    """The value to compare a column of this type with; of a UUID its bytes.

    Args:
        number: it was written without quotes.

    Raises:
        ValueError, OverflowError, ArrowException: it is none of this type.
    """
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        try:
            return pa.scalar(Decimal(text))
        except InvalidOperation:
            raise ValueError(text) from None
    if number:
        return _number(text)
    if pa.types.is_string(kind):
        return pa.scalar(text)
    if isinstance(kind, pa.UuidType):
        return pa.scalar(uuid.UUID(text).bytes, pa.binary(16))
    if pa.types.is_duration(kind):
        hours, minutes, seconds = (float(piece) for piece in text.split(":"))
        return pa.scalar(timedelta(hours=hours, minutes=minutes, seconds=seconds), kind)
    if pa.types.is_time(kind):
        return pa.scalar(time.fromisoformat(text), pa.time64("us")).cast(kind)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        found = datetime.fromisoformat(text)
        # Without an offset of its own it is of the column's zone.
        found = found if found.tzinfo else found.replace(tzinfo=_zone(kind.tz))
        return pa.scalar(found, pa.timestamp("us", tz=kind.tz)).cast(kind)
    if pa.types.is_temporal(kind):
        return pa.scalar(text).cast(kind)
    raise ValueError(f"no text is compared with {kind}")


def as_cast(value: "pa.Scalar", kind: "pa.DataType") -> str:
    """The literal in the SQL of DataFusion, which does not cast to these types by itself; "" where it needs no cast."""
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        number = value.as_py()
        scale = max(kind.scale, -min(0, number.as_tuple().exponent))
        width = 256 if pa.types.is_decimal256(kind) else 128
        return f"arrow_cast('{number:f}', 'Decimal{width}({76 if width == 256 else 38}, {scale})')"
    if isinstance(kind, pa.UuidType):
        return f"X'{value.as_py().hex()}'"
    unit = _UNITS.get(getattr(kind, "unit", ""), "")
    if pa.types.is_duration(kind):
        return f"arrow_cast({value.cast(pa.int64()).as_py()}, 'Duration({unit})')"
    if pa.types.is_date(kind):
        return f"arrow_cast('{value.cast(pa.date32()).as_py().isoformat()}', 'Date{kind.bit_width}')"
    if pa.types.is_time(kind):
        return f"arrow_cast('{value.as_py().isoformat()}', 'Time{kind.bit_width}({unit})')"
    if pa.types.is_timestamp(kind):
        told = value.cast(pa.timestamp("us", tz=kind.tz), safe=False).as_py().isoformat()
        zone = f'Some("{kind.tz}")' if kind.tz else "None"
        return f"arrow_cast('{told}', 'Timestamp({unit}, {zone})')"
    return ""


def comparable(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """A column as Arrow compares it: UUIDs as their bytes."""
    import pyarrow as pa

    return column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column


def written(kind: "pa.DataType") -> str:
    """How a literal of a type is written, for messages."""
    told = next((how for name, how in _SPELLINGS.items() if str(kind).startswith(name)), "")
    return f", which is written {told}" if told else ""


def _number(text: str) -> "pa.Scalar":
    import pyarrow as pa

    if not text.lstrip("-").isdigit():
        return pa.scalar(float(text))
    whole = int(text)
    return pa.scalar(
        whole, pa.int64() if -(2**63) <= whole < 2**63 else pa.uint64() if 0 < whole < 2**64 else pa.float64()
    )


def _zone(name: str) -> ZoneInfo:
    return ZoneInfo("UTC" if name in ("Z", "+00:00") else name)
