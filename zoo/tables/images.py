"""The images, videos, audio files or documents below a folder, in one order for training and for bulk: sorted by path, level by level."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Self

from zoo.errors import InputError, OutsideError, TableError, UnreadableFolderError
from zoo.inputs.kinds import AUDIO_SUFFIXES, DOCUMENT_SUFFIXES, IMAGE_SUFFIXES, TEXT_SUFFIXES, VIDEO_SUFFIXES, kind_of
from zoo.tables.fences import Fence
from zoo.tables.walking import Entry, entries, unread

# Images by name that the zoo cannot decode: they must be set aside, not vanish.
UNREAD_SUFFIXES = frozenset({".jxl", ".jp2", ".svg"})
Kind = Literal["image", "video", "audio", "document", "text", "page"]
"""Of files; "page" is images and documents, whose pages are images."""
_SUFFIXES = {
    "image": IMAGE_SUFFIXES | UNREAD_SUFFIXES,
    "video": VIDEO_SUFFIXES,
    "audio": AUDIO_SUFFIXES,
    "document": DOCUMENT_SUFFIXES,
    "text": TEXT_SUFFIXES,
}
_OTHERS = {
    "image": "not-an-image",
    "video": "not-a-video",
    "audio": "not-audio",
    "document": "not-a-document",
    "page": "neither-image-nor-document",
}
CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class _Wanted(NamedTuple):
    """What a walk looks for: kinds of files, the suffixes that they have, and what a file that is no medium counts as."""

    kinds: frozenset[str]
    suffixes: frozenset[str]
    other: str

    @classmethod
    def of(cls, kind: "Kind | Collection[Kind]") -> Self:
        """Of one kind, "page", or several."""
        named = isinstance(kind, str)
        kinds = frozenset(("image", "document") if kind == "page" else (kind,) if named else kind)
        return cls(
            kinds, frozenset().union(*map(_SUFFIXES.get, kinds)), _OTHERS.get(kind, "other") if named else "other"
        )


def kind_by_name(name: str) -> str | None:
    """The kind of a file as its suffix says it, "text" among them; None where that says nothing."""
    suffix = os.path.splitext(name)[1].lower()
    return next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), None)


def walk_images(
    root: Path,
    ignored: Counter[str] | None = None,
    exclude: Path | None = None,
    kind: "Kind | Collection[Kind]" = "image",
    fence: Fence | None = None,
) -> Iterator[tuple[str, InputError | None]]:
    """Relative paths of images, or of other kinds of files, in order, with an error for each folder that cannot be opened, and for each entry of which
    it cannot be told what it is.

    Files with the suffix of the kind are of it, whatever they hold; other files are if they begin like one. Hidden files and
    folders are none, and linked folders, which may lead in circles, are not entered.

    Args:
        ignored: counts what is not of the kind: other media by theirs, as what else it is the rest. exclude: a folder that is not entered. fence: the folder out of which no link
            is followed; None follows them all.

    Raises:
        TableError: the folder itself cannot be opened.
    """
    ignored = Counter() if ignored is None else ignored
    wanted = _Wanted.of(kind)
    pending: list[tuple[str, bool, InputError | None]] = [("", True, None)]
    while pending:
        relative, is_folder, error = pending.pop()
        if not is_folder:
            yield relative, error
            continue
        # A stack: the first in order has to lie on top.
        pending.extend(
            sorted(_kept(root, relative, ignored, exclude, wanted, fence), key=lambda one: one[0], reverse=True)
        )


def _kept(
    root: Path, relative: str, ignored: Counter[str], exclude: Path | None, wanted: _Wanted, fence: Fence | None
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
        elif isinstance(entry.error, OutsideError) and os.path.splitext(entry.name)[1].lower() not in wanted.suffixes:
            ignored[wanted.other] += 1  # it is not opened to see what it is
        elif entry.error is not None:
            yield path, False, entry.error
        elif entry.is_folder:
            if entry.path != exclude:
                yield path, True, None
        elif isinstance(found := _found(wanted, entry, path), InputError):
            yield path, False, found
        elif found in wanted.kinds:
            yield path, False, None
        else:
            ignored[found] += 1


def _found(wanted: _Wanted, entry: Entry, path: str) -> str | InputError:
    """The kind of a file, or as what it is counted; or why that cannot be told."""
    if os.path.splitext(entry.name)[1].lower() in wanted.suffixes:
        return next(iter(wanted.kinds))  # which of them is asked when it is embedded
    try:
        return kind_of(entry.path)
    except InputError as error:
        cause = error.__cause__
        # What is gone is nothing: a link that leads nowhere, or a file that went during the walk.
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            return unread(path, cause)
    except OSError as error:
        return unread(path, error)
    told = kind_by_name(entry.name)
    return told if told == "text" and wanted.other == "other" else wanted.other
