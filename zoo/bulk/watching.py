"""Keeping a folder of vectors as its source is: the source is looked at again and again, and what has changed is embedded."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

from zoo.bulk.job import BulkReport
from zoo.bulk.models import one_model
from zoo.errors import ArgumentError, FolderError, MissingFileError, SourceChangedError, TableError, ZooError
from zoo.shards.folder import ShardFolder
from zoo.strangers.locks import Held, locked

WATCH = ".watch"  # the lock of the one that watches
# What may pass by itself: a source that is being written, is empty or not mounted, a folder that another process writes.
_PASSING = (SourceChangedError, MissingFileError, TableError, FolderError)


def watch(
    embed: Callable[[], BulkReport],
    source: Path | str,
    out: Path | str,
    *,
    every: float,
    say: Callable[[str], None],
    told: Callable[[BulkReport], None],
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Calls `embed`, and again whenever the source has changed and is at rest, until it is interrupted.

    A source is at rest when two looks at it, `every` seconds apart, find the same names, sizes and times. What may pass, such as an
    empty source, is said once, and nothing is removed for it. The model is opened once.

    Args:
        embed: `embed_dataset` of this source into this folder, with `update`. say: what went wrong. told: what a run has done.
        wait: sleeps.

    Raises:
        ArgumentError: the source is no folder or file. FolderError: another process watches for the same folder.
        KeyboardInterrupt: the folder is whole then. What `embed` raises that does not pass, such as a full disk.
    """
    if not Path(source).exists():
        raise ArgumentError(f"{source} is no folder or file of this machine, which --watch could look at")
    with one_model():
        seen = before = look(source)
        told(embed())
        with _alone(out):
            said = ""
            while True:
                wait(every)
                now = look(source)
                if now == before and now != seen:
                    problem = _again(embed, told)
                    if problem not in ("", said):
                        say(f"{problem}; watching goes on")
                    # What was not embedded is tried again, and said once.
                    said, seen = problem, b"" if problem else now
                before = now


@contextlib.contextmanager
def _alone(out: Path | str) -> Iterator[None]:
    """Holds the lock of the one that watches; raises FolderError where another process has it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(ShardFolder(out).place / WATCH))
        except Held:
            raise FolderError(f"another process watches a source for {out} already; one is enough") from None
        yield


def _again(embed: Callable[[], BulkReport], told: Callable[[BulkReport], None]) -> str:
    """What a run has met that may pass; "" where it is done."""
    try:
        told(embed())
    except ZooError as error:
        if not isinstance(error, _PASSING):
            raise
        return str(error)
    return ""


def look(source: Path | str) -> bytes:
    """A digest of the names, sizes and times of a file, or of all files below a folder; links are looked through once."""
    digest, waiting, known = blake2b(digest_size=16), [str(source)], set[tuple[int, int]]()
    while waiting:
        place = waiting.pop()
        try:
            about = os.stat(place)
            if not os.path.isdir(place):
                digest.update(repr((place, about.st_size, about.st_mtime_ns)).encode("utf-8", "surrogatepass"))
            elif (about.st_dev, about.st_ino) not in known:  # else a link leads in a circle
                known.add((about.st_dev, about.st_ino))
                waiting += sorted(os.path.join(place, name) for name in os.listdir(place))
        except OSError as error:
            digest.update(f"{place} {error.errno}".encode("utf-8", "surrogatepass"))
    return digest.digest()
