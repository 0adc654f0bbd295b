"""Filters: the part of SQL's WHERE that people type, evaluated on an Arrow table.

The lancedb store has a whole SQL engine; this small one gives the exact store the same answers without it:
comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, ILIKE, IS NULL, with SQL's rules for null.
"""

import difflib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.index.literals import as_cast, comparable, literal, written

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Mask = Any  # a boolean Arrow array
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)
  | '(?P<string>(?:[^']|'')*)'
  | `(?P<quoted>[^`]+)` | "(?P<double>[^"]+)"
  | (?P<name>[^\W\d]\w*)
  | (?P<sign><=|>=|<>|!=|==|[=<>(),-])
    )""",
    re.VERBOSE,
)
_COMPARISONS = {
    "=": "equal",
    "==": "equal",
    "!=": "not_equal",
    "<>": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
_WORDS = frozenset({"and", "or", "not", "in", "like", "ilike", "is", "null", "between", "true", "false"})


class FilterError(ZooError, ValueError):
    """A filter that cannot be understood, or that names a column which is not there."""


def mask_of(where: str, table: "pa.Table") -> "np.ndarray":
    """The rows of a table that a filter keeps, as booleans `(rows,)`; null counts as not kept.

    Raises:
        FilterError: the message says at which word, and lists the columns where one is unknown.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        mask = _Parser(where, table).parse()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise FilterError(f"filter {where!r}: {error}") from error
    if isinstance(mask, pa.ChunkedArray):
        mask = mask.combine_chunks()
    return pc.fill_null(mask, False).to_numpy(zero_copy_only=False)


def with_casts(where: str, schema: "pa.Schema") -> str:
    """The filter for an engine of SQL: what is compared with a decimal, a date, a time or a UUID is cast to its type.

    A filter that this parser does not know, such as one with casts of its own, stays as it is.
    """
    parser = _Parser(where, schema.empty_table())
    try:
        parser.parse()
    except FilterError:
        return where
    for start, stop, cast in reversed(parser.casts):
        where = where[:start] + cast + where[stop:]
    return where


class _Parser:
    """Recursive descent; every method returns the mask of what it has read."""

    def __init__(self, where: str, table: "pa.Table") -> None:
        self.where, self.table = where, table
        self.spans: list[tuple[int, int]] = []
        self.casts: list[tuple[int, int, str]] = []  # of literals, as engines of SQL want them
        self.tokens = self._split(where)
        self.at = 0

    def _split(self, where: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while where[at:].strip():
            found = _TOKEN.match(where, at)
            if not found:
                raise self._error(f"cannot read {where[at:].strip()[:20]!r}")
            kind = str(found.lastgroup)
            text = found.group(kind)
            if kind == "name" and text.lower() in _WORDS:
                kind, text = "word", text.lower()
            tokens.append(("column" if kind in ("name", "quoted", "double") else kind, text))
            self.spans.append((found.end() - len(found.group().lstrip()), found.end()))
            at = found.end()
        return tokens

    def _error(self, what: str) -> FilterError:
        return FilterError(f"filter {self.where!r}: {what}; expected something like \"label = 'cat' AND year >= 2020\"")

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _accept(self, *words: str) -> str | None:
        kind, text = self._peek()
        if kind in ("word", "sign") and text in words:
            self.at += 1
            return text
        return None

    def _need(self, word: str) -> None:
        if not self._accept(word):
            raise self._error(f"{self._peek()[1] or 'the end'!r} where {word.upper()!r} was expected")

    def parse(self) -> Mask:
        mask = self._either()
        if self.at < len(self.tokens):
            raise self._error(f"{self._peek()[1]!r} is one word too many")
        return mask

    def _either(self) -> Mask:
        import pyarrow.compute as pc

        mask = self._both()
        while self._accept("or"):
            mask = pc.or_kleene(mask, self._both())
        return mask

    def _both(self) -> Mask:
        import pyarrow.compute as pc

        mask = self._unless()
        while self._accept("and"):
            mask = pc.and_kleene(mask, self._unless())
        return mask

    def _unless(self) -> Mask:
        import pyarrow.compute as pc

        if self._accept("not"):
            return pc.invert(self._unless())
        if self._accept("("):
            mask = self._either()
            self._need(")")
            return mask
        return self._predicate()

    def _predicate(self) -> Mask:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self._column()
        if sign := self._accept(*_COMPARISONS):
            return getattr(pc, _COMPARISONS[sign])(comparable(column), self._literal(column.type))
        if self._accept("is"):
            negated = self._accept("not")
            self._need("null")
            return pc.is_valid(column) if negated else pc.is_null(column)
        negated = self._accept("not")
        test: Callable[[], Mask] | None = {
            "in": lambda: self._among(column),
            "between": lambda: self._between(column),
            "like": lambda: pc.match_like(column, self._text(column)),
            "ilike": lambda: pc.match_like(column, self._text(column), ignore_case=True),
        }.get(self._accept("in", "between", "like", "ilike") or "")
        if test is not None:
            return pc.invert(test()) if negated else test()
        if pa.types.is_boolean(column.type) and not negated:
            return column
        raise self._error(f"{self._peek()[1] or 'the end'!r} where a comparison was expected")

    def _column(self) -> "pa.ChunkedArray":
        kind, text = self._peek()
        if kind != "column":
            raise self._error(f"{text or 'the end'!r} where a column was expected")
        self.at += 1
        names = [name for name in self.table.column_names if not name.startswith("_") and name != "vector"]
        # As in SQL, the case of letters matters only if two columns differ in nothing else.
        for name in (text, *(name for name in names if name.lower() == text.lower())):
            if name in names:
                return self.table.column(name)
        near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise FilterError(f"filter {self.where!r}: there is no column {text!r}; {hint}Columns: {', '.join(names)}")

    def _literal(self, kind: "pa.DataType") -> "pa.Scalar":
        import pyarrow as pa

        start, minus = self.at, self._accept("-")
        token, text = self._peek()
        self.at += 1
        plain = ("-" if minus else "") + text.replace("''", "'")
        if token == "number" and not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        ):
            raise self._error(f"the number {text} is compared with a column of type {kind}{written(kind)}")
        if token == "number" or (token == "string" and not minus):
            try:
                value = literal(plain, kind, number=token == "number")
            except (ValueError, OverflowError, pa.ArrowException):
                raise self._error(
                    f"the text '{plain}' is compared with a column of type {kind}{written(kind)}"
                ) from None
            if cast := as_cast(value, kind):
                self.casts.append((self.spans[start][0], self.spans[self.at - 1][1], cast))
            return value
        if token == "word" and text in ("true", "false") and pa.types.is_boolean(kind):
            return pa.scalar(text == "true")
        hint = " (texts are written in single quotes)" if token == "column" else ""
        raise self._error(f"{text or 'the end'!r} where a value was expected{hint}")

    def _among(self, column: "pa.ChunkedArray") -> Mask:
        import pyarrow.compute as pc

        self._need("(")
        mask = pc.equal(comparable(column), self._literal(column.type))
        while self._accept(","):
            mask = pc.or_kleene(mask, pc.equal(comparable(column), self._literal(column.type)))
        self._need(")")
        return mask

    def _between(self, column: "pa.ChunkedArray") -> Mask:
        import pyarrow.compute as pc

        low = self._literal(column.type)
        self._need("and")
        high = self._literal(column.type)
        return pc.and_kleene(pc.greater_equal(comparable(column), low), pc.less_equal(comparable(column), high))

    def _text(self, column: "pa.ChunkedArray") -> str:
        import pyarrow as pa

        token, text = self._peek()
        if token != "string" or not pa.types.is_string(column.type):
            raise self._error("LIKE compares a column of texts with a pattern in single quotes, such as '%cat%'")
        self.at += 1
        return text.replace("''", "'")
