"""RowTable: CSV, TSV and JSONL files; texts and paths are kept in memory, the files that they name are not."""

import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.tables.cells import fields_of, label_kind
from zoo.tables.errors import BadRowError, TableError
from zoo.tables.options import Options
from zoo.tables.pairs import Pair
from zoo.tables.schema import LABELS, Column, Schema, infer, read_name
from zoo.tables.splits import follow, kept_columns
from zoo.tables.table import Table, named_datasets

_MAX_CELL = 2**26
_HEAD = 2**20
_LOOKED_AT = 256  # rows whose passages tell what fields they have
_WHOLE = re.compile(r"[+-]?\d+")


class RowTable(Table):
    """Rows in memory; one that is no pair says so when it is read.

    Args:
        path: the file, for messages. rows: cells of the columns. lines: line of every row. columns: what `rows` hold.
        bad: why a row could not be read at all, by its number.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        rows: Sequence[tuple],
        lines: Sequence[int],
        columns: Sequence[str],
        options: Options,
        bad: Mapping[int, str],
    ) -> None:
        self._path, self._rows, self._lines, self._bad = path, rows, lines, bad
        self._builder = options.builder(schema, path.parent)
        self._columns = columns
        self.schemas = [replace(schema, rows=len(rows))]
        values = [None] * len(rows)
        if schema.dataset is not None:
            values = [str(v).strip() if v not in (None, "") else None for v in self.values(schema.dataset)]
        self.datasets, self.names = named_datasets(values, options.name)

    @property
    def unread(self) -> Collection[int]:
        """See `Table`."""
        return self._bad.keys()

    def values(self, column: str) -> list[Any]:
        """See `Table`."""
        place = list(self._columns).index(column)
        return [row[place] if row else None for row in self._rows]

    def _pair(self, row: int) -> Pair:
        if (reason := self._bad.get(row)) is not None:
            raise BadRowError(f"{self.where(row)}: {reason}", what=self.where(row))
        return self._builder.pair(dict(zip(self._columns, self._rows[row], strict=True)), self.where(row))

    def where(self, row: int) -> str:
        """See `Table`."""
        return f"{self._path.name}, line {self._lines[row]}"


def open_csv(path: Path, options: Options) -> Table:
    """A CSV or TSV file with a header; the separator is the one of `,` `;` and tab that the header uses most.

    Raises:
        TableError: no header, no row that can be read, a column twice, or not UTF-8.
    """
    if csv.field_size_limit() < _MAX_CELL:
        csv.field_size_limit(_MAX_CELL)
    first = next(_lines(path), "")
    if not first.strip():
        raise TableError(f"{path} is empty; its first line must name the columns, e.g. image,text")
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    # Strict: an open quote would otherwise swallow the rest of the file without a word.
    reader = csv.reader(_lines(path), delimiter=separator, strict=True)
    rows, lines, bad = [], [], {}
    try:
        header = [cell.strip() or f"column {i}" for i, cell in enumerate(next(reader), 1)]
        if twice := [column for column, times in Counter(header).items() if times > 1]:
            raise TableError(f"{path.name}, line 1: column {', '.join(twice)} occurs twice")
        for row in filter(None, reader):
            if len(row) != len(header):
                bad[len(rows)] = f"{len(row)} cells, and the header has {len(header)}"
            rows.append(row if len(row) == len(header) else ())
            lines.append(reader.line_num)
    except csv.Error as error:
        hint = "is a quote left open?"
        if "new-line character" in str(error):
            hint = "a carriage return (CR) stands inside a line; save the file with one kind of line ends"
        raise TableError(f"{path.name}, line {reader.line_num}: {error}; {hint}") from error
    if not rows:
        raise TableError(f"{path} holds a header and no pairs")
    good = _good(path, rows, lines, bad)
    found = []
    for place, column in enumerate(header):
        found.append(Column(column, _kind_of(column, [row[place] for row in good])))
        passages = (_parsed(row[place]) for row in good[:_LOOKED_AT]) if read_name(column) else ()
        found += [Column(f"{column}.{field}", "field") for field in fields_of(passages)]
    schema = infer(path.name, found, options.columns, options.ignore)
    typed, kept = _typed(rows, header, schema, bad)
    return follow(RowTable(path, schema, typed, lines, kept, options, bad), schema, options.wanted)


def _good(path: Path, rows: Sequence[Any], lines: Sequence[int], bad: Mapping[int, str]) -> list[Any]:
    """The rows that could be read; raises TableError where there is none."""
    good = [row for number, row in enumerate(rows) if number not in bad]
    if not good:
        more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
        raise TableError(f"{path.name}, line {lines[0]}: {bad[0]}{more}")
    return good


def _parsed(cell: str) -> Any:
    """A cell that is a JSON list; None for others."""
    try:
        return json.loads(cell) if cell.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return None


def _kind_of(column: str, cells: Sequence[str]) -> str:
    kind = _kind_of_cells(cells)
    return label_kind(kind, cells) if column.lower() in LABELS else kind


def _typed(
    rows: Sequence[Sequence[str]], header: Sequence[str], schema: Schema, bad: dict[int, str]
) -> tuple[list[tuple], list[str]]:
    """Cells of the columns that are read, and their names; numbers and JSON lists where the column's name says so.

    Args:
        bad: rows without cells; those with a cell that is no list are added.
    """
    lists = {part.column for part in schema.parts if part.many} | {schema.teacher_scores}
    # A column of further positives may hold one in each cell.
    for column in {part.column for part in schema.also} & lists:
        cells = [row[header.index(column)].strip() for row in rows if row]
        if not any(cell.startswith("[") for cell in cells):
            lists.discard(column)
    kept = kept_columns(schema)
    places = [(header.index(column), column) for column in kept]
    typed = []
    for number, row in enumerate(rows):
        read: list[Any] = []
        for place, column in places if row else ():
            cell: Any = row[place]
            if column == schema.score and _kind_of_cells([cell]) in ("int", "float"):
                cell = float(cell)
            elif column in lists and cell.strip():
                try:
                    cell = json.loads(cell)
                except (ValueError, RecursionError):
                    cell = None
                if not isinstance(cell, list):
                    bad[number] = f'the {column} must be a JSON list, e.g. ["a", "b"]'
            elif column in lists:
                cell = None
            read.append(cell)
        typed.append(tuple(read))
    return typed, kept


def open_jsonl(path: Path, options: Options) -> Table:
    """A file with a JSON object a line; a key that a line lacks is an empty cell.

    Raises:
        TableError: no line that is a JSON object, or not UTF-8.
    """
    rows, lines, bad = [], [], {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        lines.append(number)
        rows.append({})
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except _TwiceError as error:
            bad[len(rows) - 1] = f"column {error} occurs twice"
        except (ValueError, RecursionError) as error:
            bad[len(rows) - 1] = f"no JSON: {getattr(error, 'msg', error)}"
        else:
            if isinstance(row, dict):
                rows[-1] = row
            else:
                bad[len(rows) - 1] = f"{type(row).__name__} and no JSON object; write {{…}} on every line"
    if not rows:
        raise TableError(f"{path} is empty; write a JSON object a line, e.g. {{'image': …, 'text': …}}")
    good = _good(path, rows, lines, bad)
    names = dict.fromkeys(key for row in rows for key in row)
    found = []
    for key in names:
        values = [row.get(key) for row in good]
        kind = _kind_of_values(values)
        found.append(Column(key, label_kind(kind, values) if key.lower() in LABELS else kind))
        found += [Column(f"{key}.{field}", "field") for field in fields_of(values)] if read_name(key) else []
    schema = infer(path.name, found, options.columns, options.ignore)
    kept = kept_columns(schema)
    cells = [tuple(row.get(column) for column in kept) for row in rows]
    return follow(RowTable(path, schema, cells, lines, kept, options, bad), schema, options.wanted)


class _TwiceError(Exception):
    """A JSON object has a key twice."""


def _object(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        raise _TwiceError(next(key for key, times in Counter(key for key, _ in entries).items() if times > 1))
    return found


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        start = file.read(_HEAD)
        file.seek(0)
        # Some programs end lines with a carriage return alone.
        carriage = b"\r" in start and b"\n" not in start
        lines = (line + b"\n" for line in file.read().split(b"\r")) if carriage else file
        for number, line in enumerate(lines, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TableError(
                    f"{path.name}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); save the file as UTF-8"
                ) from None


def _kind_of_cells(cells: Iterable[str]) -> str:
    """ "int" or "float" where every cell that is not empty is such a number; "text" else."""
    kind = ""
    for cell in map(str.strip, cells):
        if _WHOLE.fullmatch(cell):
            kind = kind or "int"
        elif cell:
            try:
                float(cell)
            except ValueError:
                return "text"
            kind = "float"
    return kind


def _kind_of_values(values: Iterable[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        return "float" if float in kinds else "int"
    return "text" if kinds == {str} else ""
