"""The images, videos, audio files or documents below a folder, in one order for training and for bulk: sorted by path, level by level."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from zoo.errors import InputError, OutsideError, TableError, UnreadableFolderError
from zoo.inputs.kinds import AUDIO_SUFFIXES, DOCUMENT_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_of
from zoo.tables.fences import Fence
from zoo.tables.walking import Entry, entries, unread

# Images by name that the zoo cannot decode: they must be set aside, not vanish.
UNREAD_SUFFIXES = frozenset({".jxl", ".jp2", ".svg"})
Kind = Literal["image", "video", "audio", "document", "page"]
"""Of files; "page" is images and documents, whose pages are images."""
_SUFFIXES = {
    "image": IMAGE_SUFFIXES | UNREAD_SUFFIXES,
    "video": VIDEO_SUFFIXES,
    "audio": AUDIO_SUFFIXES,
    "document": DOCUMENT_SUFFIXES,
    "page": IMAGE_SUFFIXES | UNREAD_SUFFIXES | DOCUMENT_SUFFIXES,
}
_OTHERS = {
    "image": "not-a-picture",
    "video": "not-a-video",
    "audio": "not-audio",
    "document": "not-a-document",
    "page": "neither-picture-nor-document",
}
CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def walk_images(
    root: Path,
    ignored: Counter[str] | None = None,
    exclude: Path | None = None,
    kind: Kind = "image",
    fence: Fence | None = None,
) -> Iterator[tuple[str, InputError | None]]:
    """Relative paths of images, or of another kind of files, in order, with an error for each folder that cannot be opened, and for each entry of which
    it cannot be told what it is.

    Files with the suffix of the kind are of it, whatever they hold; other files are if they begin like one. Hidden files and
    folders are none, and linked folders, which may lead in circles, are not entered.

    Args:
        ignored: counts what is not of the kind. exclude: a folder that is not entered. fence: the folder out of which no link
            is followed; None follows them all.

    Raises:
        TableError: the folder itself cannot be opened.
    """
    ignored = Counter() if ignored is None else ignored
    pending: list[tuple[str, bool, InputError | None]] = [("", True, None)]
    while pending:
        relative, is_folder, error = pending.pop()
        if not is_folder:
            yield relative, error
            continue
        # A stack: the first in order has to lie on top.
        pending.extend(
            sorted(_kept(root, relative, ignored, exclude, kind, fence), key=lambda one: one[0], reverse=True)
        )


def _kept(
    root: Path, relative: str, ignored: Counter[str], exclude: Path | None, kind: Kind, fence: Fence | None
) -> Iterator[tuple[str, bool, InputError | None]]:
    """(path, whether to enter it, error) of what counts in one folder."""
    for entry in entries(root / relative, relative, fence):
        path = os.path.join(relative, entry.name)
        if isinstance(entry.error, UnreadableFolderError):
            if not relative:
                raise TableError(f"{root} cannot be opened ({entry.error}): was it taken away, or is it not mounted?")
            yield relative, False, entry.error
        elif entry.name.startswith(".") or entry.name.lower() in CLUTTER:
            ignored["hidden"] += 1
        elif entry.is_folder and entry.linked:
            ignored["linked-folder"] += 1
        elif isinstance(entry.error, OutsideError) and os.path.splitext(entry.name)[1].lower() not in _SUFFIXES[kind]:
            ignored[_OTHERS[kind]] += 1  # it is not opened to see what it is
        elif entry.error is not None:
            yield path, False, entry.error
        elif entry.is_folder:
            if entry.path != exclude:
                yield path, True, None
        elif (found := _is_of(kind, entry, path)) is True:
            yield path, False, None
        elif found is False:
            ignored[_OTHERS[kind]] += 1
        else:
            yield path, False, found


def _is_of(kind: Kind, entry: Entry, path: str) -> bool | InputError:
    """Whether a file is of a kind, or why that cannot be told."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in _SUFFIXES[kind]:
        return True
    try:
        found = kind_of(entry.path)
        return found in ("image", "document") if kind == "page" else found == kind
    except InputError as error:
        cause = error.__cause__
        # What is gone is nothing: a link that leads nowhere, or a file that went during the walk.
        return unread(path, cause) if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError) else False
    except OSError as error:
        return unread(path, error)
