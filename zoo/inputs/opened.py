"""A file that a process with limits reads, by an open descriptor alone: it learns no name, and none that it could open another by."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from zoo.errors import MissingFileError

_IN_MEMORY = 64 * 2**20  # bytes that take no way through a disk


@contextmanager
def opened(source: Path | bytes) -> Iterator[BinaryIO]:
    """The source, open to read.

    Raises:
        MissingFileError: a path that cannot be opened.
    """
    if isinstance(source, Path):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # none waits for a FIFO
        try:
            file = open(source, "rb", opener=lambda path, _: os.open(path, flags))  # noqa: SIM115
        except OSError as error:
            raise MissingFileError(f"{source} cannot be read: {error.strerror or error}", what=str(source)) from error
        with file:
            yield file
        return
    in_memory = hasattr(os, "memfd_create") and len(source) < _IN_MEMORY
    with os.fdopen(os.memfd_create("media"), "w+b") if in_memory else tempfile.TemporaryFile(prefix="zoo-") as file:
        file.write(source)
        file.flush()
        yield file
