"""Locks on files in folders that others may have made: no link is followed, and a file is made or taken, never emptied."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from zoo.strangers.folders import Place

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TAKEN = (errno.EACCES, errno.EAGAIN)
_NONE_HERE = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # Lustre without `-o flock`, some of FUSE
_SOFT = ".soft"


class Held(Exception):
    """Somebody else holds a lock."""


@contextlib.contextmanager
def locked(place: Place, *, wait: float | None = 0.0, every: float = 0.01) -> Iterator[None]:
    """Holds a lock on a file, which is made if need be and never written into; the lock vanishes with its process.

    Args:
        wait: seconds to wait for another one, None for ever. every: seconds between two attempts.

    Raises:
        Held: another one holds it. OSError: the file cannot be made. UnsafeFolderError: it is a link, FIFO or device.
    """
    descriptor = place.descriptor(os.O_RDWR | os.O_CREAT)
    try:
        if fcntl is None:
            with _locked_by_path(place.path, wait):
                yield
            return
        try:
            _take(descriptor, place, wait, every)
        except OSError as error:
            if error.errno not in _NONE_HERE:
                raise
        else:
            yield
            return
        with _locked_by_existence(place, wait):
            yield
    finally:
        os.close(descriptor)


def for_many(place: Place, *, make: bool = False) -> int | None:
    """A descriptor of a file that many may lock at once, None where there is none; raises UnsafeFolderError."""
    for flags in (os.O_RDWR | os.O_CREAT if make else os.O_RDWR, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return place.descriptor(flags)
    return None


def _take(descriptor: int, place: Place, wait: float | None, every: float) -> None:
    """Waits for the lock of an open file."""
    last = None if wait is None else time.monotonic() + wait
    while not _locks(descriptor):
        if last is not None and time.monotonic() >= last:
            raise Held(str(place))
        time.sleep(every)


def _locks(descriptor: int) -> bool:
    """Whether an exclusive lock could be had."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


@contextlib.contextmanager
def _locked_by_existence(place: Place, wait: float | None) -> Iterator[None]:
    """Where a disk knows no locks: the lock is a file beside it that tells who holds it, made with O_EXCL, and is let go if that
    process died."""
    from filelock import SoftFileLock, Timeout

    beside = place.parent / f"{place.name}{_SOFT}"
    if beside.kind() is not None:
        os.close(beside.descriptor(os.O_RDONLY))  # raises for a link, a FIFO or a device
    try:
        with SoftFileLock(beside.path, timeout=-1 if wait is None else wait):
            yield
    except Timeout:
        raise Held(str(place)) from None


@contextlib.contextmanager
def _locked_by_path(path: Path, wait: float | None) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(path, timeout=-1 if wait is None else wait):
            yield
    except Timeout:
        raise Held(str(path)) from None
