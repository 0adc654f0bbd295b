"""Who may do what in the folder of an index: one writer at a time, and no file removed that somebody reads."""

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

from zoo.bulk.shards import full_disk_named, sync_folder
from zoo.index.base import IndexStateError

try:
    import fcntl
except ImportError:  # Windows; see Lease
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
LEASE = ".lease"
# Seconds that a writer waits for another one, and how often it looks.
WAIT = 10.0
EVERY = 0.01


@contextlib.contextmanager
def writers_lock(folder: Path) -> Iterator[None]:
    """Holds a folder for one writer among all handles, threads and processes; vanishes with its process.

    Raises:
        IndexStateError: another one writes for longer than WAIT seconds, or the folder cannot be written into.
        DiskFullError: no space for the lock file.
    """
    from filelock import FileLock, Timeout

    if not folder.is_dir():  # which the lock would make again
        raise gone(folder)
    lock = FileLock(folder / LOCK, timeout=WAIT, poll_interval=EVERY)
    try:
        with full_disk_named(folder):
            lock.acquire()
    except Timeout:
        raise IndexStateError(
            f"another process is writing to {folder} (waited {WAIT:g} s); wait until it is finished, then repeat the call"
        ) from None
    except OSError as error:
        raise IndexStateError(f"the index cannot be written into {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def gone(folder: Path) -> IndexStateError:
    """The error where the files vanished beneath an open index."""
    return IndexStateError(f"{folder} is gone: somebody has removed the index; open or make it again")


class Lease:
    """Says that somebody reads a folder, until it is closed, garbage-collected, or its process ends.

    It is a shared lock on a file in the folder; whoever wants to remove files asks for the exclusive one. A folder that
    cannot be written into is read without a lease: nobody can remove anything there either. Where there are no such locks
    (Windows, some network folders) nothing is ever removed; to free the space, delete the folder `index` while nobody
    uses it.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = _opened(folder / LEASE)
        self._close = weakref.finalize(self, os.close, self._descriptor) if self._descriptor is not None else None
        self._lockable = False
        with contextlib.suppress(OSError):
            if fcntl is not None and self._descriptor is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)  # waits while somebody removes
                self._lockable = True

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody else reads the folder; if so, nobody begins to until the block ends."""
        if not self._lockable:
            yield False
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        try:
            yield alone
        finally:
            # Changing from one kind to the other gives up the first, so the shared one is always taken again.
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Gives the folder free."""
        if self._close is not None:
            self._close()
        self._lockable = False


def _opened(path: Path) -> int | None:
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    return None


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, durably.

    Raises:
        IndexStateError: that is not possible. DiskFullError: for want of space.
    """
    missing = [folder, *folder.parents]
    missing = missing[: next((at for at, one in enumerate(missing) if one.exists()), 0)]
    try:
        with full_disk_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for one in missing:
                sync_folder(one.parent)
    except OSError as error:
        raise IndexStateError(f"the index cannot be written into {folder}: {error.strerror or error}") from error
