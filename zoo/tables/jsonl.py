"""JsonReader: rows of files with a JSON object a line."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from zoo.errors import TableError
from zoo.tables.bounds import DEEPEST, MAX_COLUMNS, MAX_VALUES
from zoo.tables.cells import Guess, Spelled
from zoo.tables.lines import TOO_LONG, text_lines, undecoded
from zoo.tables.reading import Format, RawRow, RowReader
from zoo.tables.schema import Column

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class JsonReader(RowReader):
    """A file with a JSON object a line; blank lines are no rows, and the columns are all keys in the order they are met."""

    reads: ClassVar[frozenset[str]] = frozenset({"encoding"})

    _count: int = -1

    @classmethod
    def open(cls, path: Path, told: Format, name: str, constants: Mapping[str, Any]) -> Self:
        """A reader of the file; its columns are known once `types` or `count` have read it."""
        reader = cls(path, name or path.name, told=told)
        reader.constants = dict(constants)
        reader._note_encoding()
        return reader

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
        """See `RowReader`; a line that is no object, or has a key twice, is a bad row."""
        number = -1
        long: set[int] = set()
        seen: dict[str, None] = {}
        for line, text in enumerate(text_lines(self.path, self.told.encoding, long), 1):
            if text.strip() or line in long:
                number += 1
                cells, problem = parsed_object(text) if line not in long else ({}, TOO_LONG)
                if not problem and not cells.keys() <= seen.keys():
                    seen.update(dict.fromkeys(cells) if len(seen) + len(cells) <= MAX_COLUMNS else ())
                    if not cells.keys() <= seen.keys():
                        cells, problem = {}, _many_columns(cells, seen)
                cells = (
                    {**cells, **{k: v for k, v in self.constants.items() if k not in cells}} if not problem else cells
                )
                yield RawRow(number, line, f"{self.name}, line {line}", cells, problem)

    def types(self, guesses: dict[str, Guess] | None = None) -> "dict[str, pa.DataType]":
        """See `RowReader`; reads the file.

        Raises:
            TableError: none of its lines is an object.
        """
        guesses = {} if guesses is None else guesses
        keys: dict[str, None] = {}
        self._count, first = 0, ""
        for row in self.rows():
            self._count += 1
            first = first or (row.problem and f"{row.where}: {row.problem}")
            for key, value in row.cells.items():
                keys[key] = None
                guesses.setdefault(key, Guess()).see_value(value)
        if not keys:
            why = first or ("its objects are empty" if self._count else "it is empty")
            raise TableError(
                f'{self.path} holds no JSON object; expected one a line, such as {{"text": "a cat"}}; {why}'
            )
        self.columns = list(keys)
        return {key: guesses[key].arrow() for key in keys}

    def found(self) -> list[Column]:
        """See `RowReader`."""
        return [Column(key) for key in self.columns]

    def count(self) -> int:
        """See `RowReader`."""
        if self._count < 0:
            self.types()
        return self._count


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [entry for entries in inner for entry in entries if isinstance(entry, dict | list)]
        if not level:
            return False
    return True


def _many_columns(cells: Mapping[str, Any], seen: Collection[str]) -> str:
    new = next(key for key in cells if key not in seen)
    return (
        f"its {len(cells):,} keys, such as {new[:40]!r}, would bring the columns over {MAX_COLUMNS:,}; write values as values, "
        "not as keys"
    )


def parsed_object(text: str) -> tuple[dict[str, Any], str]:
    """The object that a text is as JSON, or why it is none."""
    if problem := undecoded(text):
        return {}, problem
    # A value takes fifty bytes in memory, and in a text of JSON two.
    if len(text) > MAX_VALUES and sum(map(text.count, ",[{")) > MAX_VALUES:
        return {}, f"an object of more than {MAX_VALUES:,} values, which are not read"
    try:
        row = json.loads(text, object_pairs_hook=_once, parse_float=Spelled.of)
    except _TwiceError as error:
        return {}, f"column {error} occurs twice"
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON: {getattr(error, 'msg', error)}"
    if sum(map(text.count, "[{")) > DEEPEST and _is_deep(row):
        return {}, f"its lists and objects lie more than {DEEPEST} deep in each other"
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
