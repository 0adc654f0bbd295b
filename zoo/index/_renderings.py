"""The two renderings of a filter: a mask computed by Arrow, and the SQL of Lance. Both know the same conditions."""

from typing import TYPE_CHECKING, Any

from zoo.index._conditions import Among, Column, Compare, Condition, Every, Holds, IsNull, Like, Not, Some
from zoo.index._values import as_array, as_sql, comparable, family

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_ARROW = {"=": "equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}


def mask(condition: Condition, table: "pa.Table") -> "np.ndarray":
    """The rows for which a condition is true, as booleans `(rows,)`: unknown is not true."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = _truth(condition, table)
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return pc.fill_null(found, False).to_numpy(zero_copy_only=False)


def _truth(condition: Condition, table: "pa.Table") -> Any:
    """True, false or null (unknown) for each row, as a boolean Arrow array."""
    import pyarrow.compute as pc

    match condition:
        case Every(parts) | Some(parts):
            join = pc.and_kleene if isinstance(condition, Every) else pc.or_kleene
            found = _truth(parts[0], table)
            for part in parts[1:]:
                found = join(found, _truth(part, table))
            return found
        case Not(inner):
            return pc.invert(_truth(inner, table))
        case Holds(column):
            return _values(column, table)
        case IsNull(column):
            return pc.is_null(_values(column, table))
        case Like(column, pattern, ignore_case):
            return pc.match_like(_values(column, table), pattern, ignore_case=ignore_case)
        case Among(column, values, null):
            return _among(_values(column, table), as_array(values, column.kind), null)
        case Compare(left, sign, right):
            other = _values(right, table) if isinstance(right, Column) else as_array([right], left.kind)[0]
            return getattr(pc, _ARROW[sign])(_values(left, table), other)


def _values(column: Column, table: "pa.Table") -> "pa.ChunkedArray":
    return comparable(table.column(column.name), column.kind)


def _among(values: "pa.ChunkedArray", wanted: "pa.Array", null: bool) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(values, wanted)
    unknown = pc.or_(pc.is_null(values), pc.and_(pc.invert(found), null))
    return pc.if_else(unknown, pa.scalar(None, pa.bool_()), found)


def sql(condition: Condition) -> str:
    """A condition as Lance understands it; every value is cast to the type of its column."""
    match condition:
        case Every(parts):
            return " AND ".join(map(_inner, parts))
        case Some(parts):
            return " OR ".join(map(_inner, parts))
        case Not(IsNull(column)):
            return f"{_quoted(column)} IS NOT NULL"
        case Not(inner):
            return f"NOT ({sql(inner)})"
        case Holds(column):
            return _quoted(column)
        case IsNull(column):
            return f"{_quoted(column)} IS NULL"
        case Like(column, pattern, ignore_case):
            told = "'" + pattern.replace("'", "''") + "'"
            return f"{_quoted(column)} {'ILIKE' if ignore_case else 'LIKE'} {told}"
        case Among(column, values, null):
            told = [as_sql(value, column.kind) for value in values] + ["NULL"] * null
            return f"{_quoted(column)} IN ({', '.join(told)})"
        case Compare():
            return _comparison(condition)


def _inner(condition: Condition) -> str:
    return f"({sql(condition)})" if isinstance(condition, Every | Some) else sql(condition)


def _comparison(condition: Compare) -> str:
    left, right = condition.left, condition.right
    one, other = _quoted(left), _quoted(right) if isinstance(right, Column) else as_sql(right, left.kind)
    if family(left.kind) != "floating":
        return f"{one} {condition.sign} {other}"
    # To DataFusion NaN is a number above all others and equal to itself.
    if not isinstance(right, Column):
        return f"({one} {condition.sign} {other} AND NOT isnan({one}))"
    # The sum makes 0.0 of -0.0, which it tells apart in columns. Beside a null the answer stays unknown.
    ordered = [f"NOT (isnan({this}) AND {that} IS NOT NULL)" for this, that in ((one, other), (other, one))]
    return f"({' AND '.join([f'{one} + 0.0 {condition.sign} {other} + 0.0', *ordered])})"


def _quoted(column: Column) -> str:
    return f"`{column.name}`"
