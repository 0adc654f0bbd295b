"""JsonReader: rows of files with a JSON object a line."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.tables.cells import Guess, Spelled
from zoo.tables.errors import TableError
from zoo.tables.lines import text_lines, undecoded
from zoo.tables.reading import Format, RawRow, RowReader

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class JsonReader(RowReader):
    """A file with a JSON object a line; blank lines are no rows, and the columns are all keys in the order they are met."""

    _types: "dict[str, pa.DataType]" = field(default_factory=dict)
    _count: int = -1

    @classmethod
    def open(cls, path: Path, told: Format, name: str = "") -> Self:
        """A reader of the file; its columns are known once `types` or `count` have read it."""
        reader = cls(path, name or path.name, told=told)
        reader._note_encoding()
        return reader

    def rows(self) -> Iterator[RawRow]:
        """See `RowReader`; a line that is no object, or has a key twice, is a bad row."""
        number = -1
        for line, text in enumerate(text_lines(self.path, self.told.encoding), 1):
            if text.strip():
                number += 1
                cells, problem = _object(text)
                yield RawRow(number, line, f"{self.name}, line {line}", cells, problem)

    def types(self) -> "dict[str, pa.DataType]":
        """See `RowReader`; reads the file.

        Raises:
            TableError: none of its lines is an object.
        """
        if self._count < 0:
            self._scan()
        return self._types

    def count(self) -> int:
        """See `RowReader`."""
        if self._count < 0:
            self._scan()
        return self._count

    def _scan(self) -> None:
        guesses: dict[str, Guess] = {}
        count, first = 0, ""
        for row in self.rows():
            count += 1
            first = first or (row.problem and f"{row.where}: {row.problem}")
            for key, value in row.cells.items():
                guesses.setdefault(key, Guess()).see_value(value)
        if not guesses:
            why = first or ("its objects are empty" if count else "it is empty")
            raise TableError(
                f'{self.path} holds no JSON object; expected one a line, such as {{"text": "a cat"}}; {why}'
            )
        self.columns, self._count = list(guesses), count
        self._types = {key: guess.arrow() for key, guess in guesses.items()}


def _object(text: str) -> tuple[dict[str, Any], str]:
    """The object of a line, or why it is none."""
    if problem := undecoded(text):
        return {}, problem
    try:
        row = json.loads(text, object_pairs_hook=_once, parse_float=Spelled.of)
    except _TwiceError as error:
        return {}, f"column {error} occurs twice"
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON: {getattr(error, 'msg', error)}"
    if not isinstance(row, dict):
        return {}, f"{type(row).__name__} and no JSON object; write {{…}} on every line"
    return row, ""


class _TwiceError(Exception):
    """A JSON object has a key twice."""


def _once(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        raise _TwiceError(next(key for key, times in Counter(key for key, _ in entries).items() if times > 1))
    return found
