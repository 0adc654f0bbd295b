"""Files that were found to be in order are not read again for it: the user's own cache remembers them, never their folder.

A file is known by where it lies and by what the system says of it: device, number, size, time of writing and time of change.
The last one no archive and no program sets: whoever changes a file, or puts another one in its place, changes it. So what is
remembered was found of these very bytes; a note in a stranger's folder could not say that.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

VERSION = 1  # of what the checks look for; with another one all is looked at again
MOST_FOLDERS = 1_000  # remembered; the oldest are forgotten
LONGEST = 8 << 20  # bytes of what is remembered of one folder; then it is begun anew
# A file that changed a moment ago may change again within the same tick of the clock.
SETTLED = 2.0
MOST_KNOWN = 200_000  # in a process that goes on writing

_known: set[str] = set()  # in this process
_read: set[Path] = set()


def key_of(kind: str, files: Iterable[tuple[Path, os.stat_result]]) -> str:
    """What a check of some files together is remembered by.

    Args:
        kind: of the check. files: where each lies, and what `os.fstat` says of what was opened there.
    """
    digest = hashlib.blake2b(f"{VERSION} {kind}".encode(), digest_size=16)
    for path, about in files:
        facts = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        digest.update(b"\0" + os.fsencode(os.path.abspath(path)) + repr(facts).encode())
    return digest.hexdigest()


def is_settled(about: os.stat_result) -> bool:
    """Whether a file is old enough to be remembered by its times."""
    return time.time() - max(about.st_mtime, about.st_ctime) > SETTLED


def is_known(folder: Path, key: str) -> bool:
    """Whether a check of files in this folder was remembered, in this process or an earlier one."""
    if key in _known:
        return True
    note = _note_of(folder)
    if note is not None and note not in _read:
        _read.add(note)
        with contextlib.suppress(OSError):
            _known.update(note.read_text(encoding="ascii", errors="replace").split())
    return key in _known


def remember(folder: Path, key: str, *, settled: bool = True) -> None:
    """Notes that a check of files in this folder went well.

    Args:
        settled: whether the files may be remembered beyond this process (see `is_settled`).
    """
    if key in _known:
        return
    note = _note_of(folder)
    if len(_known) >= MOST_KNOWN:
        _known.clear()
        _read.clear()
    _known.add(key)
    if note is None or not settled:
        return
    with contextlib.suppress(OSError):  # a cache that cannot be written: looked at again in the next process
        if not note.parent.is_dir():
            note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with note.open("a", encoding="ascii") as file:
            if file.tell() > LONGEST:
                file.truncate(0)
            elif not file.tell():
                _forget(note.parent)
            file.write(key + "\n")


def _forget(folder: Path) -> None:
    """Removes the oldest notes, where there are many."""
    notes = [entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    for entry in sorted(notes, key=lambda entry: entry.stat().st_mtime)[: max(0, len(notes) - MOST_FOLDERS)]:
        with contextlib.suppress(OSError):
            os.unlink(entry.path)


def _note_of(folder: Path) -> Path | None:
    """Where is written what was checked in a folder; None where the user has no cache."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    name = hashlib.blake2b(os.fsencode(os.path.realpath(folder)), digest_size=16).hexdigest()
    return Path(base) / "embedding-zoo" / "checked" / name
