"""Tables as sources: lines of text, CSV, JSON lines and Parquet, read in one pass after another, never as a whole."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.bulk.columns import TypeGuess, attribute_names, choose_column, from_cell, from_json, printable
from zoo.bulk.errors import BadRowError, SourceError
from zoo.bulk.sources import Kind, Record, SourceFacts, stamp
from zoo.errors import EmptyTextError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CELL = 64 * 2**20


class LinesSource(SourceFacts):
    """A text file with one text per line; blank lines are counted in `ignored`. The attribute `text` is the line."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """A source over the file; nothing is read yet."""
        import pyarrow as pa

        return cls(path, path.resolve().parent, "text", None, pa.schema([("text", pa.string())]))

    def count(self) -> int:
        """Number of lines that are not blank; also fills `ignored`."""
        self.ignored = Counter()
        kept = 0
        for line in _lines(self.path):
            kept += bool(line.strip())
            self.ignored["blank-line"] += not line.strip()
        self.ignored += Counter()  # drops a zero
        return kept

    def records(self) -> Iterator[Record]:
        """One record for each line; the id is the line's number, counted from 0."""
        for number, line in enumerate(_lines(self.path)):
            if line.strip():
                reference = f"{self.path.name}#{number}"
                yield Record(str(number), reference, line, stamp(line), (printable(line),))


class TableSource(SourceFacts):
    """What CSV, JSON lines and Parquet share: a chosen column, and the others kept as attributes."""

    names: list[str]  # of the columns kept as attributes, as the file spells them

    def _describe(self, types: list["pa.DataType"]) -> None:
        import pyarrow as pa

        self.schema = pa.schema(list(zip(attribute_names(self.names), types, strict=True)))

    def _record(self, row: int, value: Any, attributes: tuple[Any, ...], error: InputError | None = None) -> Record:
        reference = f"{self.path.name}#{row}"
        marks: list[str | bytes | int] = [repr(attributes)]
        if error is None and value in (None, ""):
            kind = EmptyTextError if self.kind == "text" else BadRowError
            error = kind(f"row {row} of {self.path.name} has nothing in column {self.column!r}", what=reference)
        if error is not None:
            return Record(str(row), reference, None, stamp("bad", repr(value), *marks), attributes, error)
        if self.kind == "image" and isinstance(value, str):
            reference = printable(value)
            value = self.root / value
            marks.append(_file_mark(value))
        mark = value if isinstance(value, bytes) else str(value)
        if isinstance(value, Path):
            mark = reference  # not the absolute path: the folder may be moved
        return Record(str(row), reference, value, stamp(mark, *marks), attributes)


def _file_mark(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def _lines(path: Path) -> Iterator[str]:
    # Only \n and \r\n end a line: str.splitlines would also cut at form feeds and Unicode separators.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n").removesuffix("\r")


class CsvSource(TableSource):
    """A CSV or TSV file with a header. The separator is the one of `,` `;` and tab that the header uses most."""

    separator: str
    header: list[str]

    @classmethod
    def open(cls, path: Path, column: str | None, kind: Kind | None, modalities: frozenset[str]) -> Self:
        """Reads the header, then the file once for the columns' types."""
        import pyarrow as pa

        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline(MAX_CELL)
        if not first.strip():
            raise SourceError(f"{path} is empty; expected a CSV file whose first line names its columns")
        separator = max(",;\t", key=first.count) if path.suffix.lower() != ".tsv" else "\t"
        header = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
        twice = [name for name, times in Counter(header).items() if times > 1]
        if twice or "" in header:
            raise SourceError(f"{path}: every column needs a name of its own; {twice or 'an empty name'} in the header")
        chosen, kind = choose_column(path.name, header, column, kind, modalities)
        source = cls(path, path.resolve().parent, kind, chosen, pa.schema([]))
        source.separator, source.header, source.names = separator, header, header
        source._infer()
        return source

    def _infer(self) -> None:
        import pyarrow as pa

        guesses = [TypeGuess() for _ in self.header]
        self._rows = 0
        for cells in self._cells():
            self._rows += 1
            if len(cells) <= len(guesses):
                for guess, cell in zip(guesses, cells, strict=False):
                    guess.see_cell(cell)
        types = [guess.arrow() for guess in guesses]
        types[self.header.index(self.column)] = pa.string()  # a text is a text, even "1984"
        self._describe(types)

    def _cells(self) -> Iterator[list[str]]:
        if csv.field_size_limit() < MAX_CELL:
            csv.field_size_limit(MAX_CELL)
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, delimiter=self.separator)
            next(rows, None)
            try:
                yield from (cells for cells in rows if cells)
            except csv.Error as error:
                raise SourceError(f"{self.path}, line {rows.line_num}: not readable as CSV: {error}") from error

    def count(self) -> int:
        """Number of rows under the header, as found when the types were read."""
        return self._rows

    def records(self) -> Iterator[Record]:
        """One record for each row; the id is the row's number under the header, counted from 0."""
        width, place, types = len(self.header), self.header.index(self.column), self.schema.types
        for row, cells in enumerate(self._cells()):
            if len(cells) > width:
                message = f"row {row} of {self.path.name} has {len(cells)} fields; the header names {width}"
                yield self._record(row, None, (None,) * width, BadRowError(message, what=f"{self.path.name}#{row}"))
                continue
            cells = cells + [None] * (width - len(cells))
            attributes = tuple(from_cell(cell, kind) for cell, kind in zip(cells, types, strict=True))
            yield self._record(row, cells[place], attributes)


class JsonlSource(TableSource):
    """One JSON object per line; blank lines are skipped, lists and objects kept as their JSON text."""

    @classmethod
    def open(cls, path: Path, column: str | None, kind: Kind | None, modalities: frozenset[str]) -> Self:
        """Reads the file once for the columns and their types."""
        import pyarrow as pa

        source = cls(path, path.resolve().parent, "text", None, pa.schema([]))
        guesses: dict[str, TypeGuess] = {}
        source._rows = 0
        for _, value in source._objects():
            source._rows += 1
            if isinstance(value, dict):
                for name, cell in value.items():
                    guesses.setdefault(name, TypeGuess()).see_value(cell)
        if not guesses:
            raise SourceError(f'{path} holds no JSON object; expected one per line, such as {{"text": "a cat"}}')
        source.names = list(guesses)
        source.column, source.kind = choose_column(path.name, source.names, column, kind, modalities)
        source._describe([guess.arrow() for guess in guesses.values()])
        return source

    def _objects(self) -> Iterator[tuple[int, Any]]:
        row = 0
        for line in _lines(self.path):
            if line.strip():
                try:
                    yield row, json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield row, error
                row += 1

    def count(self) -> int:
        """Number of lines that are not blank, as found when the types were read."""
        return self._rows

    def records(self) -> Iterator[Record]:
        """One record for each line that is not blank; the id is its number among them, counted from 0."""
        types = self.schema.types
        for row, value in self._objects():
            if not isinstance(value, dict):
                why = f"is no JSON: {value}" if isinstance(value, Exception) else f"is {type(value).__name__}"
                error = BadRowError(f"row {row} of {self.path.name} {why}; expected an object", what=repr(value)[:80])
                yield self._record(row, None, (None,) * len(types), error)
                continue
            attributes = tuple(from_json(value.get(name), kind) for name, kind in zip(self.names, types, strict=True))
            content = value.get(self.column)
            error = None
            if content is not None and not isinstance(content, str):
                message = (
                    f"row {row} of {self.path.name}: {self.column!r} is {type(content).__name__}, expected a string"
                )
                error = BadRowError(message, what=repr(content)[:80])
            yield self._record(row, content, attributes, error)


class ParquetSource(TableSource):
    """A Parquet file. Pictures may be bytes, a struct with a field `bytes`, or paths; other bytes are left out."""

    @classmethod
    def open(cls, path: Path, column: str | None, kind: Kind | None, modalities: frozenset[str]) -> Self:
        """Reads the schema."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{path} is no readable Parquet file: {error}") from error
        binary = [field.name for field in schema if _holds_bytes(field.type)]
        chosen, kind = choose_column(path.name, schema.names, column, kind, modalities, binary)
        source = cls(path, path.resolve().parent, kind, chosen, pa.schema([]))
        kept = [field for field in schema if field.name not in binary]
        source.names = [field.name for field in kept]
        source._describe([_attribute_type(field.type) for field in kept])
        return source

    def count(self) -> int:
        """Number of rows, from the file's footer."""
        import pyarrow.parquet as pq

        return pq.read_metadata(self.path).num_rows

    def records(self) -> Iterator[Record]:
        """One record for each row; the id is the row's number, counted from 0."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = self.schema.types
        row = 0
        # Small buffers: without them a row group of pictures would come into memory as a whole.
        file = pq.ParquetFile(self.path, pre_buffer=False, buffer_size=2**20)
        with file:
            for batch in file.iter_batches(batch_size=64, columns=list(dict.fromkeys([*self.names, self.column]))):
                columns = batch.to_pydict()
                kept = [columns[name] for name in self.names]
                for values in zip(columns[self.column], *kept, strict=True):
                    content = values[0]
                    if isinstance(content, dict):  # a picture as `datasets` stores it
                        content = content.get("bytes") or content.get("path")
                    attributes = tuple(
                        from_json(value, kind) if pa.types.is_string(kind) else value
                        for value, kind in zip(values[1:], types, strict=True)
                    )
                    yield self._record(row, content, attributes, self._wrong_type(row, content))
                    row += 1

    def _wrong_type(self, row: int, content: Any) -> InputError | None:
        expected = (str,) if self.kind == "text" else (str, bytes)
        if content is None or isinstance(content, expected):
            return None
        message = f"row {row} of {self.path.name}: {self.column!r} holds {type(content).__name__}, expected {self.kind}"
        return BadRowError(message, what=repr(content)[:80])


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _attribute_type(kind: "pa.DataType") -> "pa.DataType":
    """Numbers, booleans and times as they are; everything else as text, nested values as JSON."""
    import pyarrow as pa

    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_temporal)
    return kind if any(test(kind) for test in plain) else pa.string()
