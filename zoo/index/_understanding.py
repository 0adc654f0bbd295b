"""The check of a filter: from sqlglot's tree and the columns to conditions, or the reason why it is refused."""

from typing import TYPE_CHECKING, Any

from sqlglot import exp

from zoo.index._columns import Columns
from zoo.index._conditions import (
    Among,
    Column,
    Compare,
    Condition,
    Every,
    Holds,
    IsNull,
    Like,
    Not,
    RefusedError,
    Some,
)
from zoo.index._syntax import UNDERSTOOD
from zoo.index._values import Sort, Written, family, how_written, least, placed

if TYPE_CHECKING:
    import pyarrow as pa

_SIGNS = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_FLIPPED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
# What stands before a text, by the name of sqlglot's type.
_BEFORE_TEXTS: dict[str, Sort] = {"DATE": "DATE", "TIME": "TIME", "TIMESTAMP": "TIMESTAMP"}
# What sqlglot hangs on the branches that are understood. Anything else that it may find one day is refused.
_PARTS = {"this", "expression", "expressions", "low", "high", "negate", "to", "is_string"}
Operand = Column | Written | None  # None is NULL


def understood(tree: exp.Expression, columns: Columns) -> Condition:
    """The conditions of a filter; raises RefusedError where a part has no meaning here or does not fit its column."""
    tree = tree.unnest()
    if isinstance(tree, exp.In) and not tree.expressions:
        raise RefusedError("IN needs a list of values in parentheses, such as year IN (2020, 2021)")
    tree = _known(tree)
    if isinstance(tree, exp.And | exp.Or):
        # Flat, as a chain of ten thousand is a tree as deep.
        parts = tuple(understood(part, columns) for part in tree.flatten())
        return Every(parts) if isinstance(tree, exp.And) else Some(parts)
    if isinstance(tree, exp.Not):
        return _contrary(understood(tree.this, columns))
    if type(tree) in _SIGNS:
        return _comparison(_SIGNS[type(tree)], tree.this, tree.expression, columns)
    if isinstance(tree, exp.Between):
        low = _comparison(">=", tree.this, tree.args["low"], columns)
        return _signed(tree, Every((low, _comparison("<=", tree.this, tree.args["high"], columns))))
    if isinstance(tree, exp.In):
        return _signed(tree, _among(tree, columns))
    if isinstance(tree, exp.Like | exp.ILike | exp.Escape):
        return _like(tree, columns)
    if isinstance(tree, exp.Is):
        return _state(tree, columns)
    found = _operand(tree, columns)
    if isinstance(found, Column):
        if family(found.kind) == "truth":
            return Holds(found)
        raise RefusedError(
            f"{found.name!r}, a column of type {found.kind}, is no condition by itself; compare it with a value"
        )
    raise RefusedError(f"{found or 'NULL'} is no condition by itself; {UNDERSTOOD}")


def _known(tree: exp.Expression) -> exp.Expression:
    """A branch without its parentheses; raises RefusedError where it says more than is understood."""
    tree = tree.unnest()
    if beside := [name for name, found in tree.args.items() if found and name not in _PARTS]:
        raise RefusedError(f"{beside[0]!r} of {tree.key.upper()} is not understood; {UNDERSTOOD}")
    return tree


def _contrary(condition: Condition) -> Condition:
    return condition.condition if isinstance(condition, Not) else Not(condition)


def _signed(tree: exp.Expression, condition: Condition) -> Condition:
    """A NOT inside of a predicate is a branch above it or a mark on it, as sqlglot has it."""
    return _contrary(condition) if tree.args.get("negate") else condition


def _operand(tree: exp.Expression, columns: Columns, *, value: bool = False) -> Operand:
    """One side of a comparison. value: a value is more likely than a column."""
    tree = _known(tree)
    if type(tree) is exp.Column:
        return columns.find(tree.name, value=value)
    if type(tree) is exp.Literal:
        return Written("text" if tree.is_string else "number", tree.this)
    if type(tree) is exp.Neg and type(tree.this) is exp.Literal and not tree.this.is_string:
        return Written("number", f"-{tree.this.this}")
    if type(tree) is exp.Boolean:
        return Written("truth", "true" if tree.this else "false")
    if type(tree) is exp.Null:
        return None
    if type(tree) is exp.Cast and type(tree.this) is exp.Literal and tree.to.this.name in _BEFORE_TEXTS:
        return Written(_BEFORE_TEXTS[tree.to.this.name], tree.this.this)
    told = {exp.Tuple: "a list", exp.Concat: "two texts side by side"}.get(type(tree), "a condition")
    raise RefusedError(f"{told} stands where a column or a value was expected; {UNDERSTOOD}")


def _comparison(sign: str, first: exp.Expression, second: exp.Expression, columns: Columns) -> Condition:
    left, right = _operand(first, columns), _operand(second, columns, value=True)
    if left is None or right is None:
        raise RefusedError(f"nothing is {sign} NULL, which is not known; write IS NULL or IS NOT NULL")
    if isinstance(left, Written):
        if isinstance(right, Written):
            raise RefusedError(f"{left} is compared with {right}; one side must be a column")
        left, right, sign = right, left, _FLIPPED[sign]
    _compared(left)
    if sign == "<>":
        return _contrary(_test(left, "=", right))
    return _test(left, sign, right)


def _compared(column: Column) -> None:
    if family(column.kind) is None:
        raise RefusedError(
            f"{column.name!r}, a column of type {column.kind}, is asked for IS NULL and IS NOT NULL alone; keep in a "
            "column of its own what you want to compare"
        )


def _test(column: Column, sign: str, right: Column | Written) -> Condition:
    """A comparison with a value that the column's type can hold, or with another column."""
    if family(column.kind) == "truth" and sign != "=":
        raise RefusedError(f"{column.name!r}, a column of true and false, is compared by = and <>, not by {sign}")
    if isinstance(right, Column):
        _compared(right)
        if not _alike(column.kind, right.kind):
            raise RefusedError(
                f"{column.name!r} of type {column.kind} is compared with {right.name!r} of type {right.kind}; two columns "
                "are compared if they are of one type, both whole numbers or both of floating point"
            )
        return Compare(column, sign, right)
    value, exact = placed(right, column)
    if family(column.kind) == "truth":
        return Holds(column) if value else Not(Holds(column))
    if exact:
        return Compare(column, sign, value)
    # The literal lies between two values of the type, of which `value` is the lower, or beyond all of them.
    if sign == "=" or (sign in ("<", "<=") and value is None):
        return Compare(column, "<", least(column.kind))  # never
    if value is None:
        return Compare(column, ">=", least(column.kind))  # always
    return Compare(column, {"<": "<=", ">=": ">"}.get(sign, sign), value)


def _alike(one: "pa.DataType", other: "pa.DataType") -> bool:
    import pyarrow as pa

    if one == other:
        return True
    if family(one) == family(other) == "whole":
        # Arrow and Lance have no common type of uint64 and signed numbers.
        kinds = (one, other)
        return not (pa.uint64() in kinds and any(pa.types.is_signed_integer(kind) for kind in kinds))
    return family(one) == family(other) and family(one) in ("text", "floating")


def _among(tree: exp.In, columns: Columns) -> Condition:
    column = _operand(tree.this, columns)
    given = tree.expressions
    if not isinstance(column, Column):
        raise RefusedError(
            "IN stands between a column and a list of values in parentheses, such as year IN (2020, 2021)"
        )
    _compared(column)
    found = [_operand(one, columns, value=True) for one in given]
    if named := next((one for one in found if isinstance(one, Column)), None):
        raise RefusedError(f"the list of IN holds the column {named.name!r}; compare with = and OR")
    places: list[tuple[Any, bool]] = [placed(one, column) for one in found if isinstance(one, Written)]
    # What the column's type cannot hold is in no row.
    values, null = tuple(dict.fromkeys(value for value, exact in places if exact)), None in found
    return Among(column, values, null) if values or null else Compare(column, "<", least(column.kind))


def _like(tree: exp.Expression, columns: Columns) -> Condition:
    escape: Operand = Written("text", "\\")
    if isinstance(tree, exp.Escape):
        tree, escape = _known(tree.this), _operand(tree.expression, columns, value=True)
    column, pattern = _operand(tree.this, columns), _operand(tree.expression, columns, value=True)
    if (
        not isinstance(tree, exp.Like | exp.ILike)
        or not isinstance(column, Column)
        or family(column.kind) != "text"
        or not isinstance(pattern, Written)
        or pattern.sort != "text"
    ):
        raise RefusedError("LIKE compares a column of texts with a pattern in single quotes, such as name LIKE '%cat%'")
    if not isinstance(escape, Written) or escape.sort != "text" or len(escape.text) != 1:
        raise RefusedError("ESCAPE is followed by one letter in single quotes, such as ESCAPE '!'")
    return _signed(tree, Like(column, _with_backslash(pattern.text, escape.text), isinstance(tree, exp.ILike)))


def _with_backslash(pattern: str, escape: str) -> str:
    """A pattern with the backslash for its escape, in which nothing else is escaped than %, _ and itself."""
    letters, written = iter(pattern), []
    for letter in letters:
        if letter == escape:
            letter = next(letters, "")
            if not letter:
                raise RefusedError(
                    f"the pattern '{pattern}' ends with {escape!r}, which takes the meaning from the letter after it; "
                    f"{escape!r} itself is written twice"
                )
            written.append(f"\\{letter}" if letter in "%_\\" else letter)
        else:
            written.append("\\\\" if letter == "\\" else letter)
    return "".join(written)


def _state(tree: exp.Is, columns: Columns) -> Condition:
    column, state = _operand(tree.this, columns), tree.expression
    if not isinstance(column, Column) or type(state) not in (exp.Null, exp.Boolean):
        raise RefusedError("IS stands between a column and NULL, NOT NULL, TRUE or FALSE, such as year IS NOT NULL")
    if isinstance(state, exp.Null):
        return _signed(tree, IsNull(column))
    if family(column.kind) != "truth":
        raise RefusedError(
            f"{column.name!r}, a column of type {column.kind}, is neither true nor false; compare it with a value, "
            f"{how_written(column.kind)}"
            if family(column.kind)
            else f"{column.name!r} is neither true nor false"
        )
    return _signed(tree, Every((Not(IsNull(column)), Holds(column) if state.this else Not(Holds(column)))))
