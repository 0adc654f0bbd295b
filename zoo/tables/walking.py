"""What lies in a folder, entry by entry: one that cannot be looked at hides none of the others."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zoo.errors import InputError, OutsideError, UnreadableEntryError, UnreadableFolderError
from zoo.tables.fences import Fence


class Entry(NamedTuple):
    """One entry of a folder.

    Attributes:
        linked: whether it is a link. is_folder, is_file: what it is, or leads to; neither are pipes and links to nothing.
        error: why it is not known what it is.
    """

    path: Path
    linked: bool = False
    is_folder: bool = False
    is_file: bool = False
    error: InputError | None = None

    @property
    def name(self) -> str:
        """Its name in the folder."""
        return self.path.name


def entries(folder: Path, relative: str = "", fence: Fence | None = None) -> Iterator[Entry]:
    """The entries of a folder, in no order; what cannot be looked at comes with an error in its place, and so do links that lead out.

    A folder that cannot be opened, or not read to its end, is an entry itself: the last one.

    Args:
        relative: what messages call the folder, "" for the top. fence: the folder out of which no link is followed.
    """
    try:
        with os.scandir(folder) as listing:
            for found in listing:
                yield _entry(found, os.path.join(relative, found.name), fence)
    except OSError as error:
        yield Entry(folder, error=UnreadableFolderError(_told(relative or ".", error), what=relative))


def _entry(found: os.DirEntry[str], name: str, fence: Fence | None) -> Entry:
    path = Path(found.path)
    try:
        if fence is not None and found.is_symlink() and (found.is_dir() or found.is_file()) and fence.leaves(path):
            return Entry(path, True, found.is_dir(), error=OutsideError(fence.refusal(name), what=name))
        return Entry(path, found.is_symlink(), found.is_dir(), found.is_file())
    except OSError as error:  # of a link: to itself, through a file, over-long
        return Entry(path, error=UnreadableEntryError(_told(name, error), what=name))


def listed(folder: Path, odd: list[InputError], root: Path | None = None, fence: Fence | None = None) -> list[Entry]:
    """The entries of a folder that can be looked at, by name; the errors of the others go into `odd`.

    Args:
        root: from where messages name them, by default the folder. fence: as in `entries`.
    """
    relative = "" if root in (None, folder) else os.path.relpath(folder, root)
    found = sorted(entries(folder, relative, fence), key=lambda entry: entry.name)
    odd += [entry.error for entry in found if entry.error is not None and not entry.name.startswith(".")]
    return [entry for entry in found if entry.error is None]


def unread(name: str, error: OSError) -> UnreadableEntryError:
    """The error of an entry that cannot be opened."""
    return UnreadableEntryError(_told(name, error), what=name)


def _told(name: str, error: OSError) -> str:
    return f"{name}: {error.strerror or error}"
