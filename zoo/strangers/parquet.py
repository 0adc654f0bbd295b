"""What a Parquet file grows to, told by its pages before one of them is unpacked; the footer may say anything.

Each column of a row group is a chain of pages, and each page begins with a header in Thrift's compact form: how many bytes
it has packed, how many unpacked, and how its values are written. A reader takes the memory that this header asks for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

# Headers have some 50 bytes, and with the least and greatest value of a text column as many more as these have.
_LONGEST_HEADER = 1 << 20
_FIRST_LOOK = 1 << 12
_DEEPEST = 16
MOST_COLUMNS = 20_000  # leaves times row groups, and pages besides: more are no table that somebody reads
MOST_PAGES = 1_000_000
# A value is told by what it shares with the one before: a page of these grows without bound.
SHARED_PREFIXES = 7


class PagesError(ValueError):
    """The pages are damaged, or grow too much; the message says which column."""


@dataclass(frozen=True)
class Pages:
    """What a file's pages say.

    Attributes:
        bytes: of all pages unpacked. encodings: the numbers of Parquet's `Encoding` that occur.
    """

    bytes: int
    encodings: frozenset[int]


class Page(NamedTuple):
    """One page.

    Attributes:
        at: where its bytes begin, after its header. packed, unpacked: how many they are.
        header: whole numbers, truth values and structs of the header by the numbers of their fields.
    """

    at: int
    packed: int
    unpacked: int
    header: dict[int, Any]


def read_pages(file: BinaryIO, footer: Any, most: int) -> Pages:
    """Walks the headers of all pages of a file.

    Args:
        file: opened for reading. footer: pyarrow's FileMetaData of it. most: bytes that all pages may have unpacked.

    Raises:
        PagesError: they would have more, or are damaged.
    """
    file.seek(0, 2)
    size, total, encodings, pages = file.tell(), 0, set(), 0
    if footer.num_row_groups * footer.num_columns > MOST_COLUMNS:
        raise PagesError(f"it has {footer.num_row_groups:,} row groups of {footer.num_columns:,} columns")
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            for page in pages_of(file, column, size):
                total, pages = total + page.unpacked, pages + 1
                encodings |= _encodings(page.header)
                if total > most or pages > MOST_PAGES:
                    raise PagesError(
                        f"its {size:,} bytes would become over {most:,} in memory (column {column.path_in_schema!r})"
                        if total > most
                        else f"it has over {MOST_PAGES:,} pages"
                    )
    return Pages(total, frozenset(encodings))


def pages_of(file: BinaryIO, column: Any, size: int) -> Iterator[Page]:
    """The pages of a column of a row group, in order; nothing is unpacked.

    Args:
        column: pyarrow's ColumnChunkMetaData. size: bytes of the file.

    Raises:
        PagesError: they lie outside the file, or are damaged.
    """
    at, stop = _span(column)
    if not 0 <= at <= stop <= size:
        raise PagesError(f"column {column.path_in_schema!r} lies outside the file")
    while at < stop:
        header, length = _header(file, at, min(stop - at, _LONGEST_HEADER), column.path_in_schema)
        packed, unpacked = header.get(3), header.get(2)
        if not isinstance(packed, int) or not isinstance(unpacked, int) or packed < 0 or unpacked < 0:
            raise PagesError(f"column {column.path_in_schema!r} has a damaged page")
        yield Page(at + length, packed, unpacked, header)
        at += length + packed


def _span(column: Any) -> tuple[int, int]:
    """Where the pages of a column of a row group begin and end, as readers tell it."""
    start, first = column.data_page_offset, column.dictionary_page_offset
    if first and 0 < first < start:
        start = first
    return start, start + column.total_compressed_size


def _encodings(header: dict[int, Any]) -> set[int]:
    found = set()
    for kind, place in ((5, 2), (7, 2), (8, 4)):  # data page, dictionary page, data page of the second version
        about = header.get(kind)
        if isinstance(about, dict) and isinstance(about.get(place), int):
            found.add(about[place])
    return found


def _header(file: BinaryIO, at: int, most: int, name: str) -> tuple[dict[int, Any], int]:
    """The header of a page, by the numbers of its fields, and how many bytes it has."""
    for look in (_FIRST_LOOK, _LONGEST_HEADER):
        file.seek(at)
        reader = _Compact(file.read(min(look, most)))
        try:
            return reader.struct(0), reader.at
        except IndexError:
            if look >= most:
                break
    raise PagesError(f"column {name!r} has a damaged page")


class _Compact:
    """Thrift's compact form; raises IndexError where it ends too early or is none."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        """A struct: whole numbers, truth values and structs by their field numbers; texts and lists are passed over."""
        if depth > _DEEPEST:
            raise IndexError
        found, number = {}, 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._whole()
            found[number] = self._value(head & 15, depth)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise IndexError

    def _whole(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            return self._whole()
        if kind == 12:
            return self.struct(depth + 1)
        if kind in (9, 10):
            return self._list(depth)
        if kind not in (3, 7, 8):  # a byte, eight bytes, a text; a map is in no page header
            raise IndexError
        length = {3: 1, 7: 8}.get(kind) or self._varint()
        self.at += length
        if self.at > len(self.data):
            raise IndexError
        return None

    def _list(self, depth: int) -> None:
        head = self._byte()
        for _ in range(head >> 4 if head >> 4 < 15 else self._varint()):
            if head & 15 in (1, 2):
                self._byte()
            else:
                self._value(head & 15, depth + 1)
