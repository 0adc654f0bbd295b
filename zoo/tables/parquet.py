"""ParquetTable: Parquet files, read a row group at a time."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import BadRowError, TableError
from zoo.tables.arrow import (
    NO_TEXT,
    UNLIKE,
    UNLIKE_PYTHON,
    class_names,
    column_of,
    kind_of_type,
    passage_type,
    read_footer,
    read_schema,
    together,
)
from zoo.tables.bounds import MAX_LINE
from zoo.tables.cells import PASSAGE, label_kind
from zoo.tables.fences import outside_note
from zoo.tables.files import Constants, names_of
from zoo.tables.names import LABELS
from zoo.tables.options import Options
from zoo.tables.pages import listed, plan, sizes_of, too_large
from zoo.tables.pairs import Pair
from zoo.tables.schema import Column, Schema, infer
from zoo.tables.table import MOST, Table, named_datasets, one_dataset, spread

if TYPE_CHECKING:
    import pyarrow as pa

BUDGET = 256 * 2**20  # bytes of row groups that are kept


class RowGroups:
    """Row groups of Parquet files; the last ones that were read are kept, up to `budget` bytes and one at least.

    Memory is that of the largest row group: writers make them of hundreds or thousands of rows.

    Args:
        files: read as one table. columns: those that are read. constants: cells that all rows of a file share.
    """

    def __init__(
        self,
        files: Sequence[Path],
        columns: Sequence[str] | None = None,
        budget: int = BUDGET,
        constants: Constants = MappingProxyType({}),
    ) -> None:
        self.files, self.columns, self.budget, self.constants = list(files), columns, budget, constants
        self.names = names_of(self.files, constants)
        self._footers = [read_footer(path) for path in self.files]
        self.groups = [(f, g) for f, footer in enumerate(self._footers) for g in range(footer.num_row_groups)]
        counts = [self._footers[f].row_group(g).num_rows for f, g in self.groups]
        # Rows up to the end of each group: a row's group is found by bisection.
        self.ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        starts = np.concatenate([[0], np.cumsum([footer.num_rows for footer in self._footers])])
        self._file_starts = starts.astype(np.int64)
        self._kept: OrderedDict[int, Future] = OrderedDict()
        self._large: dict[int, int] = {}  # rows whose texts are too large, and how large they are
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def place(self, row: int) -> tuple[int, int]:
        """Row group of a row, and the row's number in it."""
        group = int(np.searchsorted(self.ends, row, side="right"))
        return group, row - (int(self.ends[group - 1]) if group else 0)

    def where(self, row: int) -> str:
        """The place of a row in words; rows of a file count from 0."""
        file = self.groups[self.place(row)[0]][0]
        return f"{self.names[file]}, row {row - int(self._file_starts[file])}"

    def blocks(self) -> list[range]:
        """Rows of every row group."""
        ends = self.ends.tolist()
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]

    def cells(self, row: int) -> dict[str, Any]:
        """The cells of a row.

        Raises:
            TableError: the file is damaged.
        """
        group, own = self.place(row)
        return self.row_of(self._group(group), own, row)

    def row_of(self, table: "pa.Table", own: int, row: int) -> dict[str, Any]:
        """A row of a row group; raises BadRowError where a text is not UTF-8, or the texts are too large."""
        if (size := self._large.get(row)) is not None:
            raise BadRowError(f"{self.where(row)}: {too_large(size)}", what=self.where(row))
        try:
            return table.slice(own, 1).to_pylist()[0] if table.num_columns else {}
        except UNLIKE_PYTHON as error:
            why = NO_TEXT if isinstance(error, UnicodeDecodeError) else UNLIKE
            raise BadRowError(f"{self.where(row)}: {why}") from None

    def _group(self, group: int) -> "pa.Table":
        with self._lock:
            future = self._kept.get(group)
            mine = future is None
            if mine:
                future = self._kept[group] = Future()
            self._kept.move_to_end(group)
        if mine:  # others that want it wait for this thread, not for the lock
            try:
                future.set_result(self.read(group, self.columns))
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    self._kept.pop(group, None)
            self._forget()
        return future.result()

    def _forget(self) -> None:
        with self._lock:
            sizes = {g: f.result().nbytes for g, f in self._kept.items() if f.done() and not f.exception()}
            total = sum(sizes.values())
            # Oldest first, and never the last: one row group is kept even where it alone is over the budget.
            for group, size in list(sizes.items())[:-1]:
                if total <= self.budget:
                    break
                del self._kept[group]
                total -= size

    @property
    def kept_bytes(self) -> int:
        """Bytes of the row groups that are in memory."""
        with self._lock:
            return sum(f.result().nbytes for f in self._kept.values() if f.done() and not f.exception())

    def read(self, group: int, columns: Sequence[str] | None) -> "pa.Table":
        """A row group from disk; texts that would be many copies of a few are a dictionary.

        Raises:
            TableError: it is damaged, or made to fill the memory.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        file, own = self.groups[group]
        constants = self.constants.get(self.files[file], {})
        own_columns = None if columns is None else [name for name in columns if name not in constants]
        try:
            # A reader each: pyarrow does not promise that one may be shared by threads.
            footer, name = self._footers[file], self.names[file]
            how = plan(self.files[file], name, footer, own, own_columns, None)
            with pq.ParquetFile(self.files[file], metadata=footer, read_dictionary=how.paths) as reader:
                table = reader.read_row_group(own, columns=own_columns, use_threads=False)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise TableError(f"{self.names[file]}, row group {own} is damaged or cut off: {error}") from error
        if how.vast:
            self._note_large(table, how.vast, int(self.ends[group]) - table.num_rows)
        if not constants:
            return table
        found = dict(zip(table.column_names, table.columns, strict=True))
        rows = self._footers[file].row_group(own).num_rows
        same = {
            name: pa.array([value] * rows) for name, value in constants.items() if columns is None or name in columns
        }
        return pa.table(found | same)

    def _note_large(self, table: "pa.Table", columns: Collection[str], first: int) -> None:
        held = [table[column] for column in columns if column in table.column_names]
        sizes = sum(np.concatenate([sizes_of(chunk) for chunk in column.chunks]) for column in held)
        for own in np.flatnonzero(np.asarray(sizes) > MAX_LINE).tolist():
            self._large[first + own] = int(sizes[own])

    def full_columns(self, group: int) -> set[str]:
        """Columns of bytes of which the footer says that no value of the group is null."""
        file, own = self.groups[group]
        footer = self._footers[file].row_group(own)
        full = set()
        with contextlib.suppress(UnicodeDecodeError):  # a damaged footer
            for leaf in map(footer.column, range(footer.num_columns)):
                name, _, field = leaf.path_in_schema.partition(".")
                if field in ("", "bytes") and leaf.statistics is not None and leaf.statistics.null_count == 0:
                    full.add(name)
        return full


class ParquetTable(Table):
    """Parquet files with the same columns.

    A row group is read when one of its rows is asked for, and the last ones are kept: a sampler that follows `blocks`
    reads each once. A row that is no pair raises BadRowError when it is read.

    Raises:
        TableError: no file, no rows, a damaged file, other columns in a further file, or columns that make no pairs.
    """

    def __init__(self, files: Sequence[Path], options: Options, constants: Constants = MappingProxyType({})) -> None:
        schemas = [read_schema(path) for path in files]
        own = dict(zip(files, schemas, strict=True))
        left = {
            path: {k: v for k, v in keys.items() if k not in own[path].names}
            for path, keys in constants.items()
            if path in own
        }
        self._groups = RowGroups(files, constants=left)
        source = files[0].name if len(files) == 1 else f"{files[0].name} … {files[-1].name} ({len(files)} files)"
        if not len(self._groups):
            raise TableError(f"{files[0] if len(files) == 1 else source} holds no rows")
        arrow = together(schemas)
        self._classes = class_names(arrow)
        found = [column for field in arrow for column in self._columns(field, arrow)]
        found += [Column(name, "text") for name in left.get(files[0], ())]
        schema = infer(source, found, options.columns, options.ignore)
        _check_types(source, schema, arrow)
        _check_same(own, arrow, schema, left)
        self._groups.columns = list(schema.used)
        # Columns of bytes whose modality is known without them.
        told = {part.column for part in schema.parts if part.modality != "media"}
        self._bytes = {field.name for field in arrow if field.name in told and kind_of_type(field.type) == "media"}
        self.schemas = [replace(schema, rows=len(self._groups))]
        self._builder = options.builder(schema, files[0].parent)
        if options.given is None:  # the user's own table
            named = [part.column for part in schema.parts if part.modality != "text" and part.column in arrow.names]
            texts = [column for column in named if kind_of_type(arrow.field(column).type) == "text"]
            note = outside_note((name for column in texts for name in self.values(column)), self._builder.root)
            self.schemas = [replace(self.schemas[0], notes=(*self.schemas[0].notes, *filter(None, [note])))]
        if schema.dataset is None:
            self.datasets, self.names = one_dataset(options.name, len(self._groups))
        else:
            # NaN, which is no equal of itself, is what pandas makes of an empty cell.
            values = [str(v).strip() if v is not None and v == v else None for v in self.values(schema.dataset)]
            self.datasets, self.names = named_datasets(values, options.name)

    def _columns(self, field: "pa.Field", arrow: "pa.Schema") -> list[Column]:
        """A column, and the fields of the passages in it that are not read."""
        column = column_of(field, arrow, self._classes)
        if field.name.lower() in LABELS:
            # Of a long column of words the first rows nearly always tell, if they hold any.
            first = self._classes.get(field.name) or self.values(field.name, groups=1)
            told = label_kind(column.kind, first)
            if field.name not in self._classes and (told != column.kind or all(value is None for value in first)):
                told = label_kind(column.kind, self.values(field.name))
            column = replace(column, kind=told)
        passage = passage_type(field.type)
        names = [] if passage is None else [passage.field(i).name for i in range(passage.num_fields)]
        return [column, *(Column(f"{field.name}.{name}", "field") for name in names if name not in PASSAGE)]

    def values(self, column: str, groups: int | None = None) -> list[Any]:
        """See `Table`; nothing else is read. `groups`: of so many row groups."""
        reads = (self._groups.read(group, [column]) for group in range(len(self._groups.groups))[:groups])
        try:
            values = [value for table in reads if column in table.column_names for value in listed(table[column])]
        except UnicodeDecodeError as error:
            raise TableError(f"{self._groups.files[0].name}: a value of column {column} is not UTF-8") from error
        names = self._classes.get(column)
        if names is None:
            return values
        return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None for v in values]

    def _pair(self, row: int) -> Pair:
        return self._builder.pair(self._named(self._groups.cells(row)), self.where(row))

    def _named(self, cells: dict[str, Any]) -> dict[str, Any]:
        for column, names in self._classes.items():
            number = cells.get(column)
            if isinstance(number, int):
                cells[column] = names[number] if 0 <= number < len(names) else None
        return cells

    def where(self, row: int) -> str:
        """See `Table`."""
        return self._groups.where(row)

    def blocks(self) -> list[range]:
        """See `Table`."""
        return self._groups.blocks()

    def problems(self, limit: int = 20, most: int | None = MOST, keep: np.ndarray | None = None) -> list[str]:
        """See `Table`. Bytes are read only where the file does not say that all are there."""
        schema = self.schemas[0]
        found: list[str] = []
        for block in spread(self.blocks(), most):
            if keep is not None and not keep[block.start : block.stop].any():
                continue
            group = self._groups.place(block.start)[0]
            full = self._groups.full_columns(group) & self._bytes
            there = {column: b"\0" for column in schema.used if column in full}
            try:
                table = self._groups.read(group, [column for column in schema.used if column not in there])
            except TableError as error:
                found.append(str(error))
                continue
            for row in block:
                if len(found) >= limit:
                    return found
                if keep is not None and not keep[row]:
                    continue
                try:
                    cells = self._groups.row_of(table, row - block.start, row)
                    self._builder.pair({**self._named(cells), **there}, self.where(row))
                except BadRowError as error:
                    found.append(str(error))
        return found


def _check_types(source: str, schema: Schema, arrow: "pa.Schema") -> None:
    classes = class_names(arrow)
    for part in schema.parts:
        if part.column not in arrow.names:  # the key of a partition
            continue
        kind = "text" if part.column in classes else kind_of_type(arrow.field(part.column).type)
        wanted = ("text", "") if part.modality == "text" else ("text", "media", "")
        if kind not in wanted:
            what = "text" if part.modality == "text" else "bytes or paths"
            raise TableError(f"{source}: column {part.column} holds {arrow.field(part.column).type}, not {what}")


def _check_same(own: "Mapping[Path, pa.Schema]", arrow: "pa.Schema", schema: Schema, constants: Constants) -> None:
    """Whether all files have the columns that are read, and the same in them.

    Raises:
        TableError: one has not what another has, or something else: read on, it would be lost without a word.
    """
    classes = class_names(arrow)
    for column in schema.used:
        having = [path for path, other in own.items() if column in other.names]
        for path, other in own.items():
            if column not in other.names:
                if column in constants.get(path, {}):
                    continue
                raise TableError(
                    f"{path} has no column {column}, and {having[0].name} has; its columns: {', '.join(other.names)}. Read "
                    f"them apart, each as a source of its own, or leave the column out: --ignore {column}"
                )
            kind, whole = other.field(column).type, arrow.field(column).type
            if kind_of_type(kind) not in ("", kind_of_type(whole)):
                raise TableError(
                    f"column {column} is {kind} in {path.name} and {whole} in {having[0].name}; files that are read together "
                    "must agree"
                )
            if class_names(other).get(column) != classes.get(column):
                raise TableError(
                    f"the numbers of column {column} name other classes in {path.name} than in {having[0].name}; files that "
                    "are read together must agree"
                )
