"""What Arrow's types are to a table, and ParquetReader: rows of a Parquet file, a few at a time."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from zoo.errors import TableError
from zoo.shards.facts import is_plain
from zoo.strangers.parquet import PagesError, chunks_of
from zoo.tables.bounds import DEEPEST, LEAST_ROWS, MAX_COLUMNS, MAX_LINE, ROWS_A_BYTE
from zoo.tables.cells import EXACT
from zoo.tables.pages import plan, sizes_of, too_large
from zoo.tables.reading import Format, RawRow, RowReader
from zoo.tables.schema import Column

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 64  # rows
NO_TEXT = "a text is not UTF-8"
UNLIKE = "a value is none that Python has"
UNLIKE_PYTHON = (
    OverflowError,
    ArithmeticError,
    LookupError,
    ValueError,
)  # of texts; the year 300,000; a zone that nobody knows


@dataclass
class ParquetReader(RowReader):
    """A Parquet file. Cells are Python's values of Arrow's; times in nanoseconds, which Python has not, stay Arrow's."""

    schema: "pa.Schema | None" = None

    @classmethod
    def open(cls, path: Path, told: Format, name: str, constants: Mapping[str, Any]) -> Self:
        """Reads the schema.

        Raises:
            TableError: the file is damaged, or two columns have one name.
        """
        schema = read_schema(path)
        reader = cls(path, name or path.name, told=told, schema=schema)
        reader.constants = {key: value for key, value in constants.items() if key not in schema.names}
        reader.columns = [*schema.names, *reader.constants]
        return reader

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
        """See `RowReader`; a row with a text that is not UTF-8 is a bad one, and so are those of a damaged row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = [name for name in self.schema.names if columns is None or name in columns]
        number, footer = 0, read_footer(self.path)
        for group in range(footer.num_row_groups):
            stop, problem = number + footer.row_group(group).num_rows, ""
            try:
                how = plan(self.path, "", footer, group, wanted, _BATCH)
                # Small buffers: without them a row group of images would come into memory as a whole.
                options = {"read_dictionary": how.paths, "pre_buffer": False, "buffer_size": 2**20}
                with pq.ParquetFile(self.path, metadata=footer, **options) as file:
                    for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=wanted):
                        yield from self._rows_of(batch, wanted, how.vast, number)
                        number += len(batch)
            except (pa.ArrowException, OSError, TableError) as error:
                said = isinstance(error, TableError)
                problem = str(error) if said else f"row group {group} is damaged or cut off: {error}"
            for lost in range(number, stop) if problem else ():
                yield RawRow(lost, 0, f"{self.name}, row {lost}", {}, problem)
            number = stop

    def _rows_of(
        self, batch: "pa.RecordBatch", wanted: Sequence[str], vast: Collection[str], first: int
    ) -> Iterator[RawRow]:
        held: dict[str, dict[Any, Any]] = {}
        few = {name: _values(batch.column(name)) for name in wanted if name not in vast}
        sizes = sum((sizes_of(batch.column(name)) for name in wanted if name in vast), np.zeros(len(batch), np.int64))
        for at in range(len(batch)):
            where = f"{self.name}, row {first + at}"
            if sizes[at] > MAX_LINE:
                yield RawRow(first + at, 0, where, {}, too_large(sizes[at]))
                continue
            # Of columns whose rows may be vast, one row at a time is Python's, and equal texts are one.
            cells = {
                name: few[name][at] if name in few else _shared(batch.column(name), at, held.setdefault(name, {}))
                for name in wanted
            }
            bad = next((value.why for value in cells.values() if isinstance(value, _Unreadable)), "")
            yield RawRow(first + at, 0, where, {} if bad else cells | self.constants, bad)

    def types(self, guesses: dict[str, Any] | None = None) -> "dict[str, pa.DataType]":
        """See `RowReader`."""
        import pyarrow as pa

        kinds = {int: pa.int64(), str: pa.string(), type(None): pa.null()}
        found = {field.name: field.type for field in self.schema}
        return found | {key: kinds.get(type(value), pa.string()) for key, value in self.constants.items()}

    def count(self) -> int:
        """See `RowReader`."""
        return read_footer(self.path).num_rows

    def exact(self, column: str) -> bool:
        """See `RowReader`; by the footer, which says the least and the greatest value."""
        if column not in self.schema.names or kind_of_type(self.schema.field(column).type) != "int":
            return True
        try:
            with self.path.open("rb") as file:
                leaves = [leaf for group in chunks_of(file) for leaf in group]
        except PagesError:
            return False
        found = [leaf.whole for leaf in leaves if leaf.path_in_schema == column and leaf.num_values]
        return all(ends is not None and EXACT >= ends[1] >= ends[0] >= -EXACT for ends in found)

    def found(self) -> list[Column]:
        """See `RowReader`; a numbered class is its number."""
        columns = [column_of(field, self.schema, {}) for field in self.schema]
        return [*columns, *(Column(key, "text") for key in self.constants)]


class _Unreadable(NamedTuple):
    """In the place of a value that cannot be read: why."""

    why: str


def _values(column: "pa.Array") -> list[Any]:
    """The values of a column as Python has them; in place of a text that is not UTF-8 a mark, and times beyond Python's as they are."""
    if getattr(column.type, "unit", "") == "ns":
        return [value if value.is_valid else None for value in column]
    try:
        return column.to_pylist()
    except UNLIKE_PYTHON:
        return [_value(value) for value in column]


def _shared(column: "pa.Array", row: int, held: dict[Any, Any]) -> Any:
    """A cell; of a dictionary an entry that was met before in `held` is the same object."""
    import pyarrow.types as types

    place = column.indices[row].as_py() if types.is_dictionary(column.type) else None
    if place is None:
        return _values(column.slice(row, 1))[0]
    if place not in held:
        held[place] = _values(column.slice(row, 1))[0]
    return held[place]


def _value(value: "pa.Scalar") -> Any:
    import pyarrow.types as types

    try:
        return value.as_py()
    except UNLIKE_PYTHON as error:
        if isinstance(error, UnicodeDecodeError):
            return _Unreadable(NO_TEXT)
        return value if types.is_temporal(value.type) else _Unreadable(UNLIKE)


def read_footer(path: Path) -> Any:
    """The footer of a Parquet file; raises TableError where it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} is no Parquet file, or damaged (no readable Parquet footer): {error}") from error
    counts = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    size, rows = path.stat().st_size, footer.num_rows
    if min(counts, default=0) < 0 or sum(counts) != rows:
        raise TableError(
            f"{path} is damaged: its footer speaks of {rows:,} rows, and its row groups of {sum(counts):,}"
        )
    if rows > LEAST_ROWS and rows > ROWS_A_BYTE * size:
        raise TableError(
            f"{path} speaks of {rows:,} rows in {size:,} bytes, over {ROWS_A_BYTE} in each, and so is damaged or made to fill the "
            "memory"
        )
    return footer


def read_schema(path: Path) -> "pa.Schema":
    """The Arrow schema of a Parquet file.

    Raises:
        TableError: it is none, or two of its columns have one name: all but one of them would be lost.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} is no Parquet file, or damaged (no readable Parquet footer): {error}") from error
    if len(schema.names) > MAX_COLUMNS:
        raise TableError(
            f"{path} has {len(schema.names):,} columns; at most {MAX_COLUMNS:,} are read: keep those you need"
        )
    if deep := next((field.name for field in schema if _is_deep(field.type)), None):
        raise TableError(f"{path}: column {deep} nests lists and objects more than {DEEPEST} deep")
    if twice := [name for name, times in Counter(schema.names).items() if times > 1]:
        raise TableError(f"{path.name}: column {', '.join(twice)} occurs twice; every column needs a name of its own")
    return schema


def _is_deep(kind: "pa.DataType") -> bool:
    import pyarrow.types as types

    level = [kind]
    for _ in range(DEEPEST):
        level = [one.field(place).type for one in level if types.is_nested(one) for place in range(one.num_fields)]
        if not level:
            return False
    return True


def together(schemas: "Sequence[pa.Schema]") -> "pa.Schema":
    """The columns of all files that are read as one table, each as the first of them has it that holds a value in it."""
    import pyarrow as pa

    fields: dict[str, pa.Field] = {}
    for field in (field for schema in schemas for field in schema):
        if field.name not in fields or pa.types.is_null(fields[field.name].type):
            fields[field.name] = field
    return pa.schema(list(fields.values()), metadata=schemas[0].metadata)


def kept_type(kind: "pa.DataType") -> "pa.DataType | None":
    """The type as which a column is kept beside vectors: its own; of a dictionary that of its values; None for bytes.

    Numbers, decimals, truth values, dates, times and UUIDs keep theirs. Everything else is text, nested values as JSON.
    """
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return kept_type(kind.value_type)
    if is_plain(kind):
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return kept_type(kind.storage_type)
    return None if holds_bytes(kind) else pa.string()


def keeps(wider: "pa.DataType", kind: "pa.DataType", exact: bool = False) -> bool:
    """Whether a type has every value of another that Arrow would promote to it: int64 to double and uint64 to int64 have not.

    Args:
        exact: whether whole numbers are known to be small enough for a double.
    """
    import pyarrow.types as types

    if types.is_floating(wider):
        digits = {16: 11, 32: 24, 64: 53}[wider.bit_width]
        whole = types.is_integer(kind) and (exact or kind.bit_width <= digits)
        return whole or types.is_floating(kind) or types.is_null(kind)
    if types.is_integer(wider) and types.is_integer(kind) and wider != kind:
        signs = types.is_signed_integer(wider), types.is_signed_integer(kind)
        return signs[0] == signs[1] or (signs[0] and wider.bit_width > kind.bit_width)
    return True


def holds_bytes(kind: "pa.DataType") -> bool:
    """Whether a column holds bytes, bare, as the `datasets` library keeps media, or anywhere in lists and objects."""
    import pyarrow.types as types

    if types.is_nested(kind):
        return any(holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return types.is_fixed_size_binary(kind) or kind_of_type(kind) == "media"


def kind_of_type(kind: "pa.DataType") -> str:
    """What a column holds, as `Column.kind` says it; a list is what it lists."""
    import pyarrow.types as types

    if _lists(kind):
        return kind_of_type(kind.value_type)
    if types.is_dictionary(kind):
        return kind_of_type(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "media"
    if passage_type(kind) is not None:
        return "text"
    if types.is_struct(kind) and {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}:
        return "media"
    if types.is_integer(kind):
        return "int"
    if types.is_null(kind):
        return ""
    return "float" if types.is_floating(kind) or types.is_decimal(kind) else "other"


def passage_type(kind: "pa.DataType") -> "pa.StructType | None":
    """The type of a passage, a struct with a text in it, alone or in a list; None for other types."""
    import pyarrow.types as types

    if _lists(kind):
        return passage_type(kind.value_type)
    return kind if types.is_struct(kind) and kind.get_field_index("text") >= 0 else None


def _lists(kind: "pa.DataType") -> bool:
    import pyarrow.types as types

    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(test(kind) for test in tests)


def class_names(arrow: "pa.Schema") -> dict[str, list[str]]:
    """Names of numbered classes by column."""
    return {
        column: [str(name) for name in feature["names"]]
        for column, feature in _features(arrow).items()
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list) and column in arrow.names
    }


def column_of(field: "pa.Field", arrow: "pa.Schema", classes: Mapping[str, Sequence[str]]) -> Column:
    """A column as it was found."""
    kind = "text" if field.name in classes else kind_of_type(field.type)
    told = str(_features(arrow).get(field.name, {}).get("_type", "")).lower()
    return Column(field.name, kind, told if told in ("image", "audio", "video") else "")


def _features(arrow: "pa.Schema") -> dict[str, Any]:
    """What the `datasets` library notes about the columns."""
    try:
        features = json.loads((arrow.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {column: feature for column, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
