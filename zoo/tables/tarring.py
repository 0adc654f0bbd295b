"""A tar file as `tarfile` reads its headers, which believes whatever they say: how long names and further headers are."""

import os
import re
import tarfile
from pathlib import Path
from typing import Self

_SHORT = 2**14  # bytes of a further header, whatever stands in it; most have a hundred
_LONG = 2**20
_DIGITS = re.compile(rb"\d{256}")


class Headers:
    """An open tar, of which no more is read at once than there is, and no more than a header may be.

    A header says how long the next one is (a long name, extended facts), and `tarfile` asks for as many bytes at once. Extended
    facts are searched by expressions that take quadratic time on what is no such fact, so that long ones are looked at first.
    """

    name = ""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file; past its end is its end."""
        return self._file.seek(min(offset, self._size) if whence == 0 else offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """As of a file.

        Raises:
            tarfile.ReadError: a header that is none.
        """
        if size <= _SHORT:
            return self._file.read(max(size, 0))
        if size > _LONG:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        content = self._file.read(size)
        if _DIGITS.search(content) or not _is_extended(content):
            raise tarfile.ReadError(f"a header of {size:,} bytes that holds no extended facts")
        return content


def _is_extended(content: bytes) -> bool:
    """Whether it is records of a length, a space, a name, "=", a value and a line end, and zeros after them."""
    content = content.rstrip(b"\0")
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 10)
        length = content[at:space] if space > at else b""
        end = at + int(length) if length.isdigit() else at
        if end <= space or content[end - 1 : end] != b"\n" or content.find(b"=", space, end) < 0:
            return False
        at = end
    return True
