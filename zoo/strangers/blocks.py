"""Bytes from a confined process through memory that both sides see: through a pipe each page is copied twice, by the kernel.

The memory is a row of blocks. Whoever writes fills the next one and says so; whoever reads copies it out, and says that it is free
again. The reader looks at each byte once: what the writer, which a crafted item may have taken over, does meanwhile to a block is as
if it had been written so. It can make the memory neither shorter nor longer, which would end the reader. (Standard library only.)
"""

import mmap
import os
import socket
from contextlib import suppress
from typing import BinaryIO

BLOCK, BLOCKS = 2**20, 4
LEAST = 2**16  # bytes of what goes this way; less is sooner in a pipe
_READY = _FREE = b"\0"


class Shared:
    """The memory, on the side of whoever reads.

    Attributes:
        file: its descriptor, which the other process gets, and then `given`.
    """

    def __init__(self) -> None:
        import fcntl

        self.file = os.memfd_create("zoo-blocks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.file, BLOCK * BLOCKS)
            fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._memory = mmap.mmap(self.file, BLOCK * BLOCKS, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.file)
            raise
        self._next = 0

    def given(self) -> None:
        """The other process has the file."""
        os.close(self.file)

    def take(self, view: memoryview) -> None:
        """Copies the next block, or what the view has room for of it."""
        start = BLOCK * self._next
        view[:] = memoryview(self._memory)[start : start + len(view)]
        self._next = (self._next + 1) % BLOCKS


def shared() -> Shared | None:
    """None where the system has no such memory."""
    with suppress(ImportError, AttributeError, OSError, ValueError):
        return Shared()
    return None


def parts(view: memoryview) -> list[memoryview]:
    """Bytes as what one block takes each."""
    return [view[start : start + BLOCK] for start in range(0, len(view), BLOCK)]


def received(wait: memoryview) -> bool:
    """Whether the byte that came says that a block is filled."""
    return bytes(wait) == _READY


def set_free(to: socket.socket) -> None:
    """Says that a block was copied."""
    to.sendall(_FREE)


class Filled:
    """The memory, on the side of whoever writes.

    Args:
        file: its descriptor. says: gets a byte for every block that is filled. hears: where one comes for every block that is free.
    """

    def __init__(self, file: int, says: BinaryIO, hears: socket.socket) -> None:
        self._memory = mmap.mmap(file, BLOCK * BLOCKS)
        os.close(file)
        self._says, self._hears = says, hears
        self._next = self._taken = 0

    def put(self, content: memoryview) -> None:
        """Bytes, as the reader takes them."""
        for part in parts(content):
            if self._taken == BLOCKS:
                self._wait()
            start = BLOCK * self._next
            self._memory[start : start + len(part)] = part
            self._next, self._taken = (self._next + 1) % BLOCKS, self._taken + 1
            self._says.write(_READY)
            self._says.flush()

    def settle(self) -> None:
        """Waits until all is taken: what the reader says next is no answer to this."""
        while self._taken:
            self._wait()

    def _wait(self) -> None:
        heard = self._hears.recv(self._taken)
        if not heard:
            raise EOFError
        self._taken -= len(heard)
