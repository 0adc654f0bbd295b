"""Folders that were made on this machine, by this user: the one proof for who may be told what a folder's own files name.

A folder made here holds a random name; the user's own state says which folder it was given to, by what the system calls it. A
stranger who packs a folder knows no such name, and one who was given the name has not the folder that it belongs to.
"""

import contextlib
import json
import os
import secrets
from pathlib import Path

from zoo.errors import UnsafeFolderError
from zoo.strangers.folders import Place

MARK = ".zoo-made"
MOST = 1_000  # notes, before those of vanished folders are looked for
ADOPT = "if the folder is your own, say so once: zoo search DIR --adopt"  # an earlier version's, or a copy
_LONGEST = 200  # bytes
_LETTERS = frozenset("0123456789abcdef")


def made_here(folder: Path | str) -> bool:
    """Whether `mark` was called for this folder, on this machine; a copy is another folder, a moved one is the same."""
    place = Place.of(folder) / MARK
    try:
        name = place.read(_LONGEST).decode("ascii").strip()
        noted = _note_of(name)
        if noted is None:
            return False
        facts = json.loads(noted.read_bytes())
        about = os.stat(folder)
    except (OSError, ValueError, UnsafeFolderError):
        return False
    if not isinstance(facts, dict) or facts.get("inode") != about.st_ino:
        return False
    # The number of a disk may be another one after a restart, and a folder may have been moved: not both.
    return facts.get("device") == about.st_dev or facts.get("path") == os.path.realpath(folder)


def mark(folder: Path | str) -> None:
    """Notes that a folder was made here; nothing where the folder or the user's state cannot be written."""
    if made_here(folder):
        return
    name = secrets.token_hex(16)
    note = _note_of(name)
    if note is None:
        return
    about = os.stat(folder)
    facts = {"path": os.path.realpath(folder), "device": about.st_dev, "inode": about.st_ino}
    with contextlib.suppress(OSError, UnsafeFolderError):
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(note.parent)
        (Place(note.parent) / note.name).write(json.dumps(facts).encode())
        (Place.of(folder) / MARK).write(f"{name}\n".encode())


def forget(folder: Path | str) -> None:
    """Takes the note of a folder back that is about to be removed."""
    with contextlib.suppress(OSError, ValueError, UnsafeFolderError):
        note = _note_of((Place.of(folder) / MARK).read(_LONGEST).decode("ascii").strip())
        if note is not None:
            note.unlink(missing_ok=True)


def _sweep(notes: Path) -> None:
    """Where there are many notes, removes those of folders that are not there any more."""
    names = os.listdir(notes)
    for name in names if len(names) > MOST else ():
        with contextlib.suppress(OSError, ValueError):
            if not os.path.exists(json.loads((notes / name).read_bytes())["path"]):
                (notes / name).unlink()


def _note_of(name: str) -> Path | None:
    """Where the user's state speaks of a name; None where there is none, or it is no such name."""
    if len(name) != 32 or not _LETTERS.issuperset(name):
        return None
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(base) / "embedding-zoo" / "made" / name
