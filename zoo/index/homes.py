"""Where the index of a folder of vectors lies: in the folder, if both were made here; otherwise in the user's cache.

    ~/.cache/embedding-zoo/indexes/<folder>/about.json    which folder it is of
    ~/.cache/embedding-zoo/indexes/<folder>/exact/        as `index/exact/` in a folder that was made here

Searching what others made so writes nothing into it, and trusts no index that came with it. What is in the cache is of the
shards as they were seen: by their names, sizes and times, of which the system's own time of change is nobody's to choose.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.callers import warn
from zoo.errors import ReadOnlyIndexError, ZooError
from zoo.index import generations
from zoo.index.locks import Lease
from zoo.shards.folder import full_disk_named
from zoo.strangers.folders import Place
from zoo.strangers.locks import Held, locked
from zoo.strangers.made import made_here, mark

if TYPE_CHECKING:
    from zoo.index.store import Store

INDEX = "index"
ABOUT = "about.json"
# Bytes that all indexes in the cache may take; beyond that those go that were not opened for longest.
MOST = 16 * 2**30
_KEY = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Home:
    """Where an index of a backend lies.

    Attributes:
        own: whether that is in the folder of the vectors. lives: goes with this object, and so does a temporary folder.
    """

    place: Place
    own: bool
    lives: Any = field(default=None, repr=False, compare=False)


def homes_of(folder: Path, backend: str, *, adopt: bool) -> Iterator[Home]:
    """Where the index may lie, best first; the next is asked for where one cannot be written.

    Args:
        adopt: the user says that the folder is his own: from now on it counts as made here, with the index in it.

    Raises:
        UnsafeFolderError: the index that came with a folder is or holds a link, a FIFO or a device.
    """
    index = Place.of(folder) / INDEX
    if adopt:
        Place.of(folder).check_tree()
        mark(folder)
        if index.is_folder():
            mark(index.path)
    if made_here(folder) and (index.kind() is None or _is_ours(index)):
        yield Home(index / backend, own=True)
    else:
        index.check_tree()
    if (cache := _cache()) is not None:
        yield Home(cache / _key(folder) / backend, own=False)
    with contextlib.suppress(OSError):
        lives = tempfile.TemporaryDirectory(prefix="zoo-index-")
        yield Home(Place.of(lives.name) / "once" / backend, own=False, lives=lives)


def prepare(home: Home, folder: Path) -> None:
    """Makes what is above a home; says where the index lies if that is not in the folder, and it is not there yet.

    Raises:
        ReadOnlyIndexError: it cannot lie there. DiskFullError: for want of space.
    """
    above = home.place.parent
    try:
        with full_disk_named(above):
            new = above.kind() is None
            above.make()
            if not home.own and new:
                (above / ABOUT).write(json.dumps({"folder": str(folder.absolute())}).encode())
            if not home.own:
                os.utime(above.path)  # when it was last asked for
    except OSError as error:
        raise ReadOnlyIndexError(f"the index cannot be written into {above}: {error.strerror or error}") from error
    if home.own:
        if not made_here(above.path):
            mark(above.path)
            if not made_here(above.path):
                raise ReadOnlyIndexError(f"the index cannot be written into {above}")
        return
    if not generations.current(home.place):
        _tell(home, folder)


def _tell(home: Home, folder: Path) -> None:
    unused = ", and the index that lies in it is not used" if (Place.of(folder) / INDEX).kind() else ""
    if made_here(folder):
        said = f"no index can be written into {folder}"
    else:
        said = f"{folder} is not known to be made here, so nothing is written into it{unused}"
    kept = (
        "is made for this process alone: the user's cache cannot be written"
        if home.lives
        else "lies in the user's cache"
    )
    remedy = (
        "" if made_here(folder) else ". If it is your own, say so once: zoo search --adopt (open_index(adopt=True))"
    )
    warn(f"{said}; its index {kept}{remedy}")


def tidy(home: Home, kinds: "Sequence[type[Store]]") -> None:
    """Removes indexes from the cache that were not opened for longest, where all of them take more than MOST bytes.

    Those whose folder is gone go first. One that is open, or being built, stays, and so does one into which rows were upserted.
    """
    mine = home.place.parent
    if home.own or home.lives is not None:
        return
    with contextlib.suppress(OSError):
        cache = mine.parent
        kept = [cache / name for name, kind in cache.kinds() if kind == "folder" and _KEY.fullmatch(name)]
        sizes = {place: _size(place) for place in kept}
        total = sum(sizes.values())
        for place in sorted((place for place in kept if place != mine), key=_use):
            if total <= MOST:
                return
            if _removed(place, kinds):
                total -= sizes[place]


def _use(place: Place) -> tuple[bool, int]:
    """Whether its folder is there, and when it was last asked for."""
    status = place.status()
    try:
        there = os.path.exists((place / ABOUT).read_json()["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        there = False
    return there, status.st_mtime_ns if status else 0


def _size(place: Place) -> int:
    """Bytes of all files below."""
    total, waiting = 0, [place]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(FileNotFoundError):
            for name in folder.names():
                status = (folder / name).status()
                if status is not None and stat.S_ISDIR(status.st_mode):
                    waiting.append(folder / name)
                elif status is not None:
                    total += status.st_size
    return total


def _removed(place: Place, kinds: "Sequence[type[Store]]") -> bool:
    """Removes one from the cache, unless somebody builds or reads it, or it holds what cannot be built again."""
    with contextlib.ExitStack() as held:
        try:
            for name in [name for name, kind in place.kinds() if kind == "folder"]:
                held.enter_context(locked(place / f".lock-{name}"))
                if any(_has_own_rows(place / name, kind) for kind in kinds if kind.backend == name):
                    return False
                lease = Lease(generations.folder_of(place / name, generations.current(place / name)), make=True)
                held.callback(lease.close)
                if not held.enter_context(lease.alone()):
                    return False
            place.remove_tree()
        except (Held, OSError, ZooError):
            return False
    return True


def _has_own_rows(home: Place, kind: "type[Store]") -> bool:
    try:
        with kind.open_at(home) as index:
            return any(True for _ in index.own_rows())
    except ImportError:  # its engine is not installed any more: nobody can tell
        return True
    except (ZooError, OSError):
        return False


def _is_ours(index: Place) -> bool:
    """Whether the folder of indexes was made here, or is still empty: made, and not yet marked."""
    return index.is_folder() and (made_here(index.path) or not index.names())


def _cache() -> Place | None:
    """Where the user's cache keeps indexes; None for a user who has no folder."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Place.of(Path(base) / "embedding-zoo" / "indexes")


def _key(folder: Path) -> str:
    """A name for a folder: its path, and which folder lies there."""
    about = os.stat(folder)
    told = f"{about.st_dev} {about.st_ino} {os.path.realpath(folder)}"
    return hashlib.blake2b(told.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
