"""Fence: which of the files that a table names, or that a folder links to, are opened. It depends on who named the table.

A table that the user names himself may name files anywhere, and the run says how many lie outside its folder. A table that was
found in a folder, an archive or a data set of the Hub speaks for whoever made that: nothing outside of it is opened, unless the
user says where the files begin (`root`) or that they may be anywhere (`allow_outside`).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MOST_FOLDERS = 10_000  # remembered at once


class Fence:
    """A folder outside of which nothing is opened.

    Args:
        folder: the folder; of an archive its file, inside of which no path leads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = os.path.realpath(folder)
        self._blobs = _blobs_of(self._root)
        self._known: dict[str, bool] = {}

    def leaves(self, path: Path | str) -> bool:
        """Whether a path leads out, links followed; False for what can be no path."""
        text = os.fspath(path)
        head, tail = os.path.split(text)
        try:
            if tail in ("", ".", ".."):
                return not self._holds(os.path.realpath(text))
            if (inside := self._known.get(head)) is None:
                if len(self._known) >= _MOST_FOLDERS:
                    self._known.clear()
                inside = self._known[head] = self._holds(os.path.realpath(head))
            if not os.path.islink(text):
                return not inside
            target = os.path.realpath(text)
            # Files of huggingface_hub's cache are links by design, made by the client.
            return not (self._holds(target) or (inside and _under(target, self._blobs)))
        except ValueError:
            return False

    def _holds(self, real: str) -> bool:
        return real == self._root or _under(real, (self._root,))

    def refusal(self, name: str) -> str:
        """Why a file is not opened, and the way on; `name` is how it was named."""
        kind = "the archive" if os.path.isfile(self._root) else "the folder"
        return (
            f"{name!r} leads out of {kind} {self.folder}, and what a folder or archive names is opened inside of it alone; say where "
            "such files begin (--root DIR, root=DIR), or that they may lie anywhere (--allow-outside, allow_outside=True)"
        )


def outside_note(names: Iterable[Any], folder: Path) -> str:
    """ "37 of 600 files lie outside DIR"; "" where none does.

    Args:
        names: cells of the user's own table; of lists all, and what is no text is none. folder: where relative paths begin.
    """
    root, count, outside = os.path.abspath(folder), 0, 0
    for cell in names:
        for name in cell if isinstance(cell, list) else (cell,):
            if not isinstance(name, str) or not name.strip():
                continue
            count += 1
            plain = not os.path.isabs(name) and ".." not in name
            outside += not (plain or _under(os.path.normpath(os.path.join(root, name.strip())), (root,)))
    return outside_told(outside, count, folder)


def outside_told(outside: int, count: int, folder: Path) -> str:
    """The same of numbers that are known."""
    return f"{outside:,} of {count:,} files lie outside {folder}" if outside else ""


def _blobs_of(root: str) -> tuple[str, ...]:
    """Where the links of a snapshot in huggingface_hub's cache lead: its repository's blobs, and those that all share."""
    parts = Path(root).parts
    for depth in range(len(parts) - 1, 1, -1):
        if parts[depth - 1] == "snapshots" and parts[depth - 2].startswith(("datasets--", "models--")):
            repository = os.path.join(*parts[: depth - 1])
            return os.path.join(repository, "blobs"), os.path.join(os.path.dirname(repository), "blobs")
    return ()


def _under(real: str, roots: Iterable[str]) -> bool:
    return any(real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
