"""CsvReader: rows of CSV and TSV files; separator and quoting are found on the rows, or the remedy is named."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from zoo.callers import warn
from zoo.errors import TableError
from zoo.tables.bounds import MAX_COLUMNS, MAX_LINE, MAX_VALUES
from zoo.tables.cells import Guess
from zoo.tables.files import suffix_of
from zoo.tables.lines import text_lines, undecoded
from zoo.tables.reading import Format, RawRow, RowReader
from zoo.tables.schema import Column

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CELL = MAX_LINE
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_LOOKED_AT = 200  # lines, for the separator
_LOOKED_INTO = 2**22  # letters of them
_SURE = 3  # separators inside a cell that stand as in rows
_LONG = 10  # lines of a cell, in a table of one column
_SAID = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # Excel's own first line


@dataclass
class CsvReader(RowReader):
    """A CSV or TSV file with a header.

    A cell that begins with a quote ends with one, and may run over lines; nothing is guessed where it does not. In a TSV
    file whose lines all have the header's number of cells when quotes are letters (5" disk), they are.
    """

    spelled: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset({"encoding", "separator"})

    separator: str = ","
    quoted: bool = True
    skipped: int = 0  # lines before the header
    _doubted: bool = False

    @classmethod
    def open(cls, path: Path, told: Format, name: str, constants: Mapping[str, Any]) -> Self:
        """Finds out how the file is written, and reads its header.

        Raises:
            TableError: no header, a column twice, no encoding or separator that is clear, or a quote left open.
        """
        if csv.field_size_limit() < MAX_CELL:
            csv.field_size_limit(MAX_CELL)
        reader = cls(path, name or path.name, told=told)
        reader.constants = dict(constants)
        reader._note_encoding()
        head = _head(path, told.encoding)
        said = _SAID.fullmatch(head[0]) if head else None
        if said is not None:
            reader.skipped, head = 1, head[1:]
        if not head or not head[0].strip():
            raise TableError(f"{path} is empty; its first line must name the columns, e.g. image,text")
        if problem := undecoded(head[0]):
            raise TableError(f"{path.name}, line 1: {problem}; say the file's --encoding, e.g. utf-16-le or cp1252")
        tsv = suffix_of(path) == ".tsv"
        reader.separator = told.separator or (said[1] if said else _separator(path, head, tsv))
        if len(reader.separator) != 1 or reader.separator in '"\r\n':
            raise TableError(f"a separator is one letter, such as ';', not {reader.separator!r}")
        if reader.separator not in (("\t",) if tsv else (",", "\t")):
            reader.notes.append(f"cells are separated by {reader.separator!r}")
        if reader.separator == "\t":
            reader._judge_quotes()
        return reader._with_header()

    def _with_header(self) -> Self:
        _, header = next(self._records(), (0, []))
        self.columns = [cell.strip() or f"column {place}" for place, cell in enumerate(header, 1)]
        if twice := [column for column, times in Counter(self.columns).items() if times > 1]:
            raise TableError(
                f"{self.name}, line {self.skipped + 1}: column {', '.join(twice)} occurs twice; every column needs a name of "
                "its own"
            )
        self._width = len(self.columns)
        if self._width > MAX_COLUMNS:
            raise TableError(
                f"{self.name} has {self._width:,} columns; at most {MAX_COLUMNS:,} are read: keep those you need, or say another "
                "--separator"
            )
        self.constants = {key: value for key, value in self.constants.items() if key not in self.columns}
        self.columns += self.constants
        return self

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
        """See `RowReader`; a row with more or fewer cells than the header is a bad one."""
        width, number = self._width, -1
        header = self.columns[:width]
        records = self._records()
        previous, _ = next(records)
        for line, cells in records:
            start, previous = previous + 1, line
            if not cells or (width > 1 and len(cells) == 1 and not cells[0].strip()):
                continue  # a blank line
            number += 1
            found = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
            problem = f"{found}, and the header has {width}" if len(cells) != width else ""
            problem = problem or next(filter(None, map(undecoded, cells)), "")
            if line > start:
                self._doubt(start, line, cells)
            where = f"{self.name}, line {line}"
            found = {} if problem else dict(zip(header, cells, strict=True)) | self.constants
            yield RawRow(number, line, where, found, problem)

    def types(self, guesses: dict[str, Guess] | None = None) -> "dict[str, pa.DataType]":
        """See `RowReader`; reads the file."""
        guesses = {} if guesses is None else guesses
        seeing = [guesses.setdefault(column, Guess()) for column in self.columns]
        self._count = 0
        for row in self.rows():
            self._count += 1
            for guess, cell in zip(seeing, row.cells.values(), strict=False):
                guess.see_cell(cell) if isinstance(cell, str) else guess.see_value(cell)
        return {column: guess.arrow() for column, guess in zip(self.columns, seeing, strict=True)}

    def found(self) -> list[Column]:
        """See `RowReader`."""
        return [Column(name, "text") for name in self.columns]

    def count(self) -> int:
        """See `RowReader`."""
        if not hasattr(self, "_count"):
            self._count = sum(1 for _ in self.rows())
        return self._count

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """The line at which each record ends, and its cells; the header is the first."""
        lines = islice(text_lines(self.path, self.told.encoding), self.skipped, None)
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        # Strict: an open quote would otherwise swallow the rest of the file without a word.
        record = [0]
        counted = _counted(lines, self.separator, record)
        reader = csv.reader(counted, delimiter=self.separator, quoting=quoting, strict=True)
        while True:
            record[0] = 0
            start = self.skipped + reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise self._unreadable(start, self.skipped + reader.line_num, error) from error
            if cells is None:
                return
            yield self.skipped + reader.line_num, cells

    def _unreadable(self, start: int, line: int, error: csv.Error) -> TableError:
        if "new-line character" in str(error):
            hint = "a carriage return (CR) stands inside a line; save the file with one kind of line ends"
            return TableError(f"{self.name}, line {line}: {error}; {hint}")
        if "field larger" in str(error):
            return TableError(
                f"{self.name}, line {start}: a cell of more than {MAX_CELL:,} letters; is a quote left open?"
            )
        upto = f" (read up to line {line})" if line > start else ""
        return TableError(
            f"{self.name}, line {start}: {error}{upto}; is a quote left open? A cell that begins with a quote must end with "
            'one, and a quote inside it is written twice ("")'
        )

    def _doubt(self, start: int, line: int, cells: Sequence[str]) -> None:
        """Looks at a cell that runs over lines: a quote that was left open ends where the next one stands, if that fits.

        Raises:
            TableError: its lines are rows, more than chance would have it, and nobody has said how the file is written.
        """
        lines = [cell.splitlines() for cell in cells if "\n" in cell]
        inside = [text for one in lines for text in one[1:-1]]
        alike = [text for one in lines for text in one[1:] if text.count(self.separator) == self._width - 1]
        told = (
            f"{self.name}, line {start}: a quoted cell runs to line {line}, and {len(alike)} of its lines look like rows of "
            "their own; is a quote left open there?"
        )
        if self._width == 1:
            surely, maybe = False, len(inside) > _LONG
        else:
            # All lines inside look like rows, and together they hold so many separators that a text would
            # hardly do so by chance.
            surely = len(inside) * (self._width - 1) >= _SURE and set(inside) <= set(alike)
            maybe = bool(alike)
        if surely and self.told.separator is None:
            raise TableError(f"{told} If these lines are one text, say --separator {self.separator!r}")
        if (maybe or surely) and not self._doubted:
            self._doubted = True
            warn(told)

    def _judge_quotes(self) -> None:
        """Whether quotes are letters: where all lines have the header's number of cells so, and as cells in quotes some do not."""
        width, plain, any_quotes = 0, True, False
        for number, line in enumerate(islice(text_lines(self.path, self.told.encoding), self.skipped, None)):
            if number == 0:
                width = line.count("\t") + 1
            elif line.strip("\r\n"):
                plain = plain and line.count("\t") == width - 1
                any_quotes = any_quotes or line.startswith('"') or '\t"' in line
        if not any_quotes or not plain:
            return
        try:
            numbered = enumerate(self._records(), self.skipped + 1)
            whole = all(line == at and len(cells) in (0, width) for at, (line, cells) in numbered)
        except TableError:
            whole = False
        if not whole:
            self.quoted = False
            self.notes.append('quotes are read as letters: every line is a row of its own so (5" disk)')


def _head(path: Path, encoding: str | None) -> list[str]:
    """The first lines of a file; fewer where they are long."""
    head, letters = [], 0
    for line in islice(text_lines(path, encoding), _LOOKED_AT):
        head.append(line)
        letters += len(line)
        if letters > _LOOKED_INTO:
            break
    return head


def _counted(lines: Iterator[str], separator: str, record: list[int]) -> Iterator[str]:
    """The lines, with the letters of the record so far in `record`, which its reader sets to 0.

    Raises:
        TableError: a record is too long, or has far more cells than any header.
    """
    for line in lines:
        record[0] += len(line)
        if record[0] > MAX_LINE and record[0] > len(line):
            raise csv.Error(f"a row of more than {MAX_LINE:,} letters")
        if len(line) > MAX_VALUES and line.count(separator) > MAX_VALUES:
            raise csv.Error(f"a row of more than {MAX_VALUES:,} cells")
        yield line


def _separator(path: Path, head: Sequence[str], tsv: bool) -> str:
    """The separator under which the header has several cells, and most of the first rows have as many.

    Raises:
        TableError: two are as likely.
    """
    widths = {mark: _widths(head, mark) for mark in _SEPARATORS}
    shares = {mark: found[1:].count(found[0]) / (len(found) - 1 or 1) for mark, found in widths.items()}
    wide = [mark for mark, found in widths.items() if found[0] > 1]
    fitting = [mark for mark in wide if shares[mark] > 0 or len(widths[mark]) == 1]
    if tsv and "\t" in fitting:
        return "\t"
    likely = [mark for mark in fitting if shares[mark] == max(shares[other] for other in fitting)]
    if len(likely) > 1:
        names = " or ".join(f"a {_SEPARATORS[mark]}" for mark in likely)
        said = " or ".join(f"--separator {mark!r}" for mark in likely)
        raise TableError(
            f"{path.name}: its cells could be separated by {names}; say which: {said} (separator={likely[0]!r})"
        )
    if fitting:
        return likely[0]
    if wide:  # no row fits: they will be named
        return max(wide, key=head[0].count)
    alone = [mark for mark, found in widths.items() if set(found) == {1}]  # a table of one column
    usual = "\t" if tsv else ","
    return usual if usual in alone or not alone else alone[0]


def _widths(head: Sequence[str], mark: str) -> list[int]:
    """The number of cells of the first records; as far as they can be read, and without the last, which may be cut."""
    widths = []
    try:
        for cells in csv.reader(head, delimiter=mark, strict=True):
            if cells:
                widths.append(len(cells))
    except csv.Error:
        pass
    return widths or [1]
