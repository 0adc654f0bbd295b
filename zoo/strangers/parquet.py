"""What a Parquet file grows to, determined by its pages before one of them is unpacked; the footer may say anything.

Each column of a row group is a chain of pages, and each page begins with a header in Thrift's compact form: how many bytes
it has packed, how many unpacked, and how its values are written. A reader takes the memory that this header asks for.

The footer is read here, too: pyarrow's view of a column (`RowGroupMetaData.column`) ends the process where some of its facts
contradict each other. It is no exception, and nothing catches it.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

# Headers have some 50 bytes, and with the least and greatest value of a text column as many more as these have.
_LONGEST_HEADER = 1 << 20
_FIRST_LOOK = 1 << 12
_DEEPEST = 16
_KEPT = 4  # files whose footer is not read again: one that is read by row groups asks for each
MOST_COLUMNS = 20_000  # leaves times row groups, and pages besides: more are no table that somebody reads
MOST_PAGES = 1_000_000
# A value is stored as what it shares with the one before: a page of these grows without bound.
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


class Chunk(NamedTuple):
    """A column of a row group, as the footer has it; the names are pyarrow's.

    Attributes:
        path_in_schema: names of the column and of what lies in it, with dots. num_values: how many, nulls included.
        least, most: the bytes of its least and greatest value; None where the footer does not say them.
    """

    path_in_schema: str
    physical_type: str
    compression: str
    num_values: int
    total_compressed_size: int
    data_page_offset: int
    dictionary_page_offset: int | None
    least: bytes | None
    most: bytes | None

    @property
    def whole(self) -> tuple[int, int] | None:
        """The least and the greatest value of a column of whole numbers; None where the footer does not say them."""
        if self.least is None or self.most is None or len(self.least) not in (4, 8) or len(self.most) not in (4, 8):
            return None
        return int.from_bytes(self.least, "little", signed=True), int.from_bytes(self.most, "little", signed=True)


_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")


def chunks_of(file: BinaryIO) -> list[list[Chunk]]:
    """The columns of every row group of a Parquet file; of the last few files they are kept.

    Raises:
        PagesError: its footer is damaged.
    """
    about = os.fstat(file.fileno())
    size, key = about.st_size, (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if key in _last:
        return _last[key]
    file.seek(max(0, size - 8))
    length, end = struct.unpack("<i4s", file.read(8).rjust(8, b"\0"))
    if end != b"PAR1" or not 0 < length <= size - 8:
        raise PagesError("it has no whole footer")
    file.seek(size - 8 - length)
    try:
        found = _Compact(file.read(length), keep=True).row_groups()
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise PagesError("its footer is damaged") from error
    while len(_last) >= _KEPT:
        _last.pop(next(iter(_last)), None)
    _last[key] = found
    return found


_last: dict[tuple[int, ...], list[list[Chunk]]] = {}


def _chunk(column: dict[int, Any]) -> Chunk:
    facts = column[3]
    about = facts.get(12) or {}
    numbers = [facts[place] for place in (5, 7, 9)] + [facts.get(11) or 0]
    if not all(isinstance(number, int) for number in numbers):
        raise PagesError("its footer is damaged")
    ends = [about.get(new, about.get(old)) for new, old in ((6, 2), (5, 1))]
    return Chunk(
        ".".join(name.decode() for name in facts[3]),
        _TYPES[facts[1]],
        _CODECS[facts[4]],
        *numbers[:3],
        numbers[3] or None,
        *(end if isinstance(end, bytes) else None for end in ends),
    )


def read_pages(file: BinaryIO, most: int) -> Pages:
    """Walks the headers of all pages of a file.

    Args:
        file: opened for reading. most: bytes that all pages may have unpacked.

    Raises:
        PagesError: they would have more, or are damaged.
    """
    size, total, encodings, pages = file.seek(0, 2), 0, set(), 0
    columns = [column for group in chunks_of(file) for column in group]
    if len(columns) > MOST_COLUMNS:
        raise PagesError(f"its row groups have {len(columns):,} columns together")
    for column in columns:
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


def pages_of(file: BinaryIO, column: Chunk, size: int) -> Iterator[Page]:
    """The pages of a column of a row group, in order; nothing is unpacked.

    Args:
        size: bytes of the file.

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


def _span(column: Chunk) -> tuple[int, int]:
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
    """Thrift's compact form; raises IndexError where it ends too early or is none.

    Args:
        keep: whether texts and lists are kept; else they are passed over.
    """

    def __init__(self, data: bytes, keep: bool = False) -> None:
        self.data, self.keep, self.at = data, keep, 0

    def row_groups(self) -> list[list[Chunk]]:
        """The columns of every row group, where the whole is a footer."""
        found: list[list[Chunk]] = []
        for number, kind in self._fields():
            if (number, kind) != (4, 9):
                self._value(kind, 1)
                continue
            for _ in self._entries():
                found.append([])
                for inner, sort in self._fields():
                    if (inner, sort) == (1, 9):
                        found[-1] += [_chunk(self.struct(2)) for _ in self._entries()]
                    else:
                        self._value(sort, 2)
        return found

    def _fields(self) -> Iterator[tuple[int, int]]:
        """The number and the kind of each field of a struct; who asks reads its value."""
        number = 0
        while head := self.data[self.at]:
            self.at += 1
            number = number + (head >> 4) if head >> 4 else self._whole()
            yield number, head & 15
        self.at += 1

    def _entries(self) -> range:
        """As many as a list of structs has; who asks reads them."""
        head = self.data[self.at]
        self.at += 1
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if head & 15 != 12 or count > len(self.data):
            raise IndexError
        return range(count)

    def struct(self, depth: int) -> dict[int, Any]:
        """A struct: its values by their field numbers."""
        if depth > _DEEPEST:
            raise IndexError
        return {number: self._value(kind, depth) for number, kind in self._fields()}

    def _varint(self) -> int:
        data, at = self.data, self.at
        byte = data[at]
        value, shift = byte & 127, 7
        while byte > 127:
            at += 1
            byte = data[at]
            value |= (byte & 127) << shift
            shift += 7
            if shift > 70:
                raise IndexError
        self.at = at + 1
        return value

    def _whole(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (4, 5, 6):
            return self._whole()
        if kind in (1, 2):
            return kind == 1
        if kind == 12:
            return self.struct(depth + 1)
        if kind in (9, 10):
            return self._list(depth + 1)
        if kind not in (3, 7, 8):  # a byte, eight bytes, a text; a map is in no page header and no footer
            raise IndexError
        length = {3: 1, 7: 8}.get(kind) or self._varint()
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise IndexError
        return self.data[start : self.at] if self.keep else None

    def _list(self, depth: int) -> list[Any] | None:
        if depth > _DEEPEST:
            raise IndexError
        head = self.data[self.at]
        self.at += 1
        kind, count = head & 15, head >> 4
        if count == 15:
            count = self._varint()
        if count > len(self.data):  # each entry has a byte at least
            raise IndexError
        found = []
        for _ in range(count):
            if kind in (1, 2):
                self.at += 1
                value: Any = self.data[self.at - 1] == 1
            else:
                value = self._value(kind, depth)
            if self.keep:
                found.append(value)
        return found if self.keep else None
