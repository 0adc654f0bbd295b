"""Generations: an index that is built anew grows beside the one in use, and takes its place in one step.

    index/exact/current     the number of the generation in use
    index/exact/000003/     that generation
    index/exact/000002/     an older one, removed once nobody reads it
    index/exact/000004/     a later one, unfinished: another process builds it, or one that was killed did

Without a file `current` generation 0 is in use: the folder itself, which is where older versions kept the index. No number
is ever used again for something else.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar

from zoo.errors import IndexStateError
from zoo.index.base import FACTS
from zoo.index.locks import LEASE, LOCK, Lease
from zoo.shards.folder import full_disk_named
from zoo.strangers.folders import Place

CURRENT = "current"
# What generation 0 may consist of. The facts go first: a folder without them is no index.
OLD_LAYOUT = (FACTS, "vectors.bin", "segments", "vectors.lance", LOCK, LEASE)
LONGEST = 64  # bytes of the file that says which is in use
Opened = TypeVar("Opened")


def current(home: Place) -> int:
    """The number of the generation in use; raises IndexStateError where the file that says so is damaged."""
    try:
        text = (home / CURRENT).read_text(LONGEST).strip()
        if not text.isascii() or not text.isdigit():
            raise ValueError(f"it holds {text!r:.40}, not the number of a generation")
        return int(text)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:
        raise IndexStateError(
            f"{home / CURRENT} is damaged ({error}); delete {home} to build the index anew"
        ) from error


def folder_of(home: Place, number: int) -> Place:
    """Where a generation lies."""
    return home / f"{number:06d}" if number else home


def unfinished(home: Place) -> int | None:
    """The number of a generation that is being built, or was when its builder was killed."""
    return max((number for number in _numbers(home) if number > current(home)), default=None)


def next_number(home: Place) -> int:
    """A number that was never used."""
    return max([current(home), *_numbers(home)]) + 1


def swap(home: Place, number: int) -> None:
    """Puts a generation into use."""
    with full_disk_named(home):
        (home / CURRENT).write(f"{number}\n".encode())


def opened(home: Place, open_one: Callable[[Place], Opened]) -> Opened:
    """The generation in use, opened by a function that takes a lease on it; again where it was replaced meanwhile."""
    while True:
        number = current(home)
        try:
            found = open_one(folder_of(home, number))
        except IndexStateError:
            if current(home) == number:
                raise
            continue
        # Only what is no longer in use is ever removed: the lease came in time.
        if current(home) == number:
            return found


def check_in_use(folder: Place) -> None:
    """Raises IndexStateError where another generation has taken the place of this one: its rows would be lost."""
    number = int(folder.name) if _is_number(folder.name) else 0
    if current(folder) or (number and current(folder.parent) > number):
        raise IndexStateError(
            f"{folder} was replaced: the index has been built anew since it was opened, and what is written here would be "
            "lost. Searches go on; to write, open it again"
        )


def sweep(home: Place) -> None:
    """Removes what is no longer in use and nobody reads. The caller is the only builder."""
    number = current(home)
    for older in _numbers(home):
        if older < number:
            _remove(folder_of(home, older), [folder_of(home, older)])
    if number and any((home / name).kind() for name in OLD_LAYOUT):
        _remove(home, [home / name for name in OLD_LAYOUT])


def older(home: Place) -> bool:
    """Whether files of a generation that is no longer in use are there: somebody reads it."""
    number = current(home)
    return any(one < number for one in _numbers(home)) or (number > 0 and (home / FACTS).kind() is not None)


def drop(home: Place, number: int) -> None:
    """Removes a generation that never was in use."""
    with contextlib.suppress(OSError):
        folder_of(home, number).remove_tree()


def _remove(folder: Place, places: list[Place]) -> None:
    lease = Lease(folder, make=True)
    with lease.alone() as alone:
        for place in places if alone else ():
            with contextlib.suppress(OSError):
                place.remove_tree() if place.kind() == "folder" else place.remove()
    lease.close()


def _numbers(home: Place) -> list[int]:
    return sorted(int(name) for name in home.names() if _is_number(name)) if home.is_folder() else []


def _is_number(name: str) -> bool:
    return len(name) >= 6 and name.isascii() and name.isdigit()
