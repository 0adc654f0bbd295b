"""Who may do what in the folder of an index: one writer at a time, and no file removed that somebody reads."""

import contextlib
import os
import weakref
from collections.abc import Iterator

from zoo.errors import IndexStateError, ReadOnlyIndexError
from zoo.shards.folder import full_disk_named
from zoo.strangers.folders import Place
from zoo.strangers.locks import Held, for_many, locked

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
def writers_lock(folder: Place) -> Iterator[None]:
    """Holds a folder for one writer among all handles, threads and processes; vanishes with its process.

    Raises:
        IndexStateError: another one writes for longer than WAIT seconds, or the folder cannot be written into.
        DiskFullError: no space for the lock file.
    """
    if not folder.is_folder():
        raise gone(folder)
    with contextlib.ExitStack() as held:
        try:
            with full_disk_named(folder):
                held.enter_context(locked(folder / LOCK, wait=WAIT, every=EVERY))
        except Held:
            raise IndexStateError(
                f"another process is writing to {folder} (waited {WAIT:g} s); wait until it is finished, then repeat the call"
            ) from None
        except OSError as error:
            raise ReadOnlyIndexError(f"the index cannot be written into {folder}: {error.strerror or error}") from error
        yield


def gone(folder: Place) -> IndexStateError:
    """The error where the files vanished beneath an open index."""
    return IndexStateError(f"{folder} is gone: somebody has removed the index; open or make it again")


class Lease:
    """Says that somebody reads a folder, until it is closed, garbage-collected, or its process ends.

    It is a shared lock on a file in the folder, which writers make; whoever wants to remove files asks for the exclusive
    one. A folder without one, or where it cannot be opened, is read without a lease: reading writes nothing. Where there are
    no such locks (Windows, some network folders) nothing is ever removed; to free the space, delete the folder `index` while
    nobody uses it.
    """

    def __init__(self, folder: Place, *, make: bool = False) -> None:
        self._descriptor = for_many(folder / LEASE, make=make)
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


def make_folder(folder: Place) -> None:
    """Makes a folder and those above it, durably.

    Raises:
        IndexStateError: that is not possible. DiskFullError: for want of space.
    """
    try:
        with full_disk_named(folder):
            folder.make()
    except OSError as error:
        raise ReadOnlyIndexError(f"the index cannot be written into {folder}: {error.strerror or error}") from error
