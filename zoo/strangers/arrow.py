"""Arrow files whose rows lie in them as they are: none is packed, so that none takes more memory than the file has bytes.

The `Footer` at the end of a file says where its record batches lie, and each begins with a `Message`; both are FlatBuffers,
of which the few fields that tell it are read here.
"""

import struct
from typing import BinaryIO

MOST_BATCHES = 10_000
LONGEST_FOOTER = 96 << 20  # bytes; the schema's own notes are in it
_LONGEST_MESSAGE = 4 << 20
_END = b"ARROW1"
_BLOCK = struct.Struct("<qi4xq")  # where a message begins, its length, the length of what follows it
# Numbers of fields in the schema of the format (File.fbs, Message.fbs).
_DICTIONARIES, _BATCHES, _HEADER_TYPE, _HEADER, _COMPRESSION = 2, 3, 1, 2, 3
_DATA = 1  # of a dictionary batch: the record batch that holds the entries
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


class PackedError(ValueError):
    """An Arrow file is damaged, or its rows are packed."""


def check_plain(file: BinaryIO) -> None:
    """Raises PackedError where an Arrow file holds compressed rows, or is none."""
    size = file.seek(0, 2)
    try:
        file.seek(max(0, size - 10))
        length, end = struct.unpack("<i6s", file.read(10))
        if end != _END or not 0 < length <= min(LONGEST_FOOTER, size - 10):
            raise PackedError("it is no whole Arrow file")
        file.seek(size - 10 - length)
        footer = _Buffer(file.read(length))
        root = footer.root()
        for field in (_DICTIONARIES, _BATCHES):
            start, count = footer.vector(root, field)
            if count > MOST_BATCHES:
                raise PackedError(f"it has {count:,} batches of rows")
            for number in range(count):
                at, message, body = _BLOCK.unpack_from(footer.data, start + number * _BLOCK.size)
                if not (at >= 0 and 8 < message <= _LONGEST_MESSAGE and body >= 0 and at + message + body <= size):
                    raise PackedError("a batch of its rows lies outside the file")
                file.seek(at)
                _check_message(file.read(message))
    except (struct.error, IndexError, OverflowError) as error:
        raise PackedError("it is no whole Arrow file") from error
    finally:
        file.seek(0)


def _check_message(content: bytes) -> None:
    message = _Buffer(content[8:] if content[:4] == b"\xff\xff\xff\xff" else content[4:])
    root = message.root()
    kind, batch = message.byte(root, _HEADER_TYPE), message.table(root, _HEADER)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        raise PackedError("a batch of its rows is none")
    if kind == _DICTIONARY_BATCH:
        batch = message.table(batch, _DATA)
    if message.at(batch, _COMPRESSION):
        raise PackedError("its rows are compressed, as no index writes them")


class _Buffer:
    """A FlatBuffer; raises struct.error or IndexError where it leads outside."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def root(self) -> int:
        """Where its root table lies."""
        return self._u32(0)

    def at(self, table: int, field: int) -> int:
        """Where a field of a table lies, 0 where it is not there."""
        vtable = table - self._unpack("<i", table)
        if vtable < 0 or table < 0:
            raise IndexError
        slot = 4 + 2 * field
        offset = self._unpack("<H", vtable + slot) if slot < self._unpack("<H", vtable) else 0
        return table + offset if offset else 0

    def byte(self, table: int, field: int) -> int:
        """A field of one byte."""
        at = self.at(table, field)
        return self.data[at] if at else 0

    def table(self, table: int, field: int) -> int:
        """Where a field that is a table lies."""
        at = self.at(table, field)
        if not at:
            raise IndexError
        return at + self._u32(at)

    def vector(self, table: int, field: int) -> tuple[int, int]:
        """Where the entries of a list begin, and how many there are."""
        at = self.at(table, field)
        if not at:
            return 0, 0
        start = at + self._u32(at)
        return start + 4, self._u32(start)

    def _u32(self, at: int) -> int:
        return self._unpack("<I", at)

    def _unpack(self, kind: str, at: int) -> int:
        if at < 0:
            raise IndexError
        return struct.unpack_from(kind, self.data, at)[0]
