"""RowTable: CSV, TSV and JSONL files; texts and paths are kept in memory, the files that they name are not."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.errors import BadRowError, TableError
from zoo.tables.cells import fields_of, json_list, label_kind
from zoo.tables.fences import outside_note
from zoo.tables.files import Constants, names_of
from zoo.tables.names import LABELS, read_name
from zoo.tables.options import Options
from zoo.tables.pairs import Pair
from zoo.tables.readers import open_reader
from zoo.tables.schema import Column, Schema, infer
from zoo.tables.splits import follow, kept_columns
from zoo.tables.table import Table, named_datasets

_LOOKED_AT = 256  # rows whose passages tell what fields they have
_WHOLE = re.compile(r"[+-]?\d+")


class RowTable(Table):
    """Rows in memory; one that is no pair says so when it is read.

    Args:
        path: the file. name: of it, for messages. rows: cells of the columns. lines: line of every row. columns: what `rows` hold.
        bad: why a row could not be read at all, by its number.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        schema: Schema,
        rows: Sequence[tuple],
        lines: Sequence[int],
        columns: Sequence[str],
        options: Options,
        bad: Mapping[int, str],
    ) -> None:
        self._name, self._rows, self._lines, self._bad = name, rows, lines, bad
        self._builder = options.builder(schema, path.parent)
        self._columns = columns
        self.schemas = [replace(schema, rows=len(rows))]
        values = [None] * len(rows)
        if schema.dataset is not None:
            values = [str(v).strip() if v is not None else None for v in self.values(schema.dataset)]
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
        return f"{self._name}, line {self._lines[row]}"


def open_rows(path: Path, options: Options, constants: Constants) -> Table:
    """A CSV, TSV or JSONL file; a key that a line of JSONL lacks is an empty cell.

    Args:
        constants: cells that all rows of the file share.

    Raises:
        TableError: no header, no row that can be read, a column twice, an encoding or a separator that is not clear, or a
            quote left open.
    """
    (name,) = names_of([path], constants)
    reader = open_reader(path, options.format, name, constants.get(path, {}))
    typed = not reader.spelled
    rows: list[Any] = []
    lines, bad = [], {}
    for row in reader.rows():  # of CSV the cells alone: one dictionary per row would be several times their size
        rows.append(row.cells if typed else tuple(row.cells.values()))
        lines.append(row.line)
        if row.problem:
            bad[row.number] = row.problem
    good = [row for number, row in enumerate(rows) if number not in bad]
    if not good:
        raise _without_rows(path, name, typed, lines, bad)
    present = _present(good) if typed else {}
    places = {column: place for place, column in enumerate(reader.columns or present)}
    found = []
    for key, place in places.items():
        cells = present[key] if typed else [row[place] for row in good]
        kind = _kind_of_values(cells) if typed else _kind_of_cells(cells)
        found.append(Column(key, label_kind(kind, cells) if key.lower() in LABELS else kind))
        if read_name(key):
            passages = cells if typed else map(json_list, cells[:_LOOKED_AT])
            found += [Column(f"{key}.{field}", "field") for field in fields_of(passages)]
    schema = infer(name, found, options.columns, options.ignore)
    notes = [*reader.notes]
    if options.given is None:  # the user's own table
        media = [part.column for part in schema.parts if part.modality != "text" and part.column in places]
        names = (row.get(column) if typed else row[places[column]] for row in good for column in media)
        notes += filter(None, [outside_note(names, options.root or path.parent)])
    schema = replace(schema, notes=(*schema.notes, *notes))
    kept = kept_columns(schema)
    if typed:
        cut = [tuple(map(row.get, kept)) for row in rows]
    else:
        lists = _lists(schema, good, places)
        wanted = [(column, places[column]) for column in kept]
        cut = [
            tuple(_cell(row[place], column, number, schema, lists, bad) for column, place in wanted) if row else ()
            for number, row in enumerate(rows)
        ]
    table = RowTable(path, name, schema, cut, lines, kept, options, bad)
    table.reads = reader.reads
    return follow(table, schema, options.wanted)


def _present(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The cells that are there, by column."""
    present: dict[str, list[Any]] = {}
    for row in rows:
        for key, value in row.items():
            present.setdefault(key, []).append(value)
    return present


def _without_rows(path: Path, name: str, typed: bool, lines: Sequence[int], bad: Mapping[int, str]) -> TableError:
    """The error for a file of which no row can be read."""
    if bad:
        more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
        return TableError(f"{name}, line {lines[0]}: {bad[0]}{more}")
    hint = "is empty; write a JSON object a line, e.g. {'image': …, 'text': …}"
    return TableError(f"{path} {hint if typed else 'holds a header and no pairs'}")


def _lists(schema: Schema, rows: Sequence[Sequence[str]], places: Mapping[str, int]) -> set[str]:
    """The columns whose cells are JSON lists."""
    lists = {part.column for part in schema.parts if part.many} | ({schema.teacher_scores} - {None})
    # A column of further positives may hold one in each cell.
    for column in {part.column for part in schema.extra_positives} & lists:
        if not any(row[places[column]].lstrip().startswith("[") for row in rows):
            lists.discard(column)
    return lists


def _cell(cell: Any, column: str, row: int, schema: Schema, lists: Collection[str], bad: dict[int, str]) -> Any:
    """A cell of CSV: a number or a list where the column's name says so, else its text.

    Args:
        bad: why rows are none; a cell that is no list is added.
    """
    if column == schema.score and _kind_of_cells([cell]) in ("int", "float"):
        return float(cell)
    if column not in lists:
        return cell
    if not cell.strip():
        return None
    found = json_list(cell)
    if found is None:
        bad[row] = f'the {column} must be a JSON list, e.g. ["a", "b"]'
    return found


def _kind_of_cells(cells: Iterable[str]) -> str:
    """ "int" or "float" where every cell that is not empty is such a number; "text" else."""
    kind = ""
    for cell in (str(cell).strip() for cell in cells if cell is not None):
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
    kinds = {float if isinstance(value, float) else type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        return "float" if float in kinds else "int"
    return "text" if kinds == {str} else ""
