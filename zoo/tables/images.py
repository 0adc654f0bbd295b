"""The images below a folder, in one order for training and for bulk: sorted by path, level by level."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import InputError
from zoo.media import IMAGE_SUFFIXES, kind_of

# Images by name that the zoo cannot decode: they must be set aside, not vanish.
UNREAD_SUFFIXES = frozenset({".heic", ".heif", ".jxl", ".jp2", ".svg"})
CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class UnreadableFolderError(InputError):
    """A folder inside the source that may not be opened."""

    code = "unreadable-folder"


def walk_images(
    root: Path, ignored: Counter[str] | None = None, exclude: Path | None = None
) -> Iterator[tuple[str, InputError | None]]:
    """Relative paths of images in order, with an error for each folder that cannot be opened.

    Files with an image's suffix are images, whatever they hold; other files are if they begin like one. Hidden files and
    folders are none, and linked folders, which may lead in circles, are not entered.

    Args:
        ignored: counts what is no image, by kind. exclude: a folder that is not entered.
    """
    ignored = Counter() if ignored is None else ignored
    pending: list[tuple[str, bool]] = [("", True)]
    while pending:
        relative, is_folder = pending.pop()
        if not is_folder:
            yield relative, None
            continue
        try:
            entries = _entries(root, relative, ignored, exclude)
        except OSError as error:
            reason = error.strerror or str(error)
            yield relative or ".", UnreadableFolderError(f"{relative or '.'}: {reason}", what=relative)
            continue
        # A stack: the first in order has to lie on top.
        pending.extend(reversed(entries))


def _entries(root: Path, relative: str, ignored: Counter[str], exclude: Path | None) -> list[tuple[str, bool]]:
    kept = []
    with os.scandir(root / relative) as listing:
        for entry in listing:
            path = os.path.join(relative, entry.name) if relative else entry.name
            if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                ignored["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                if Path(entry.path) != exclude:
                    kept.append((path, True))
            elif entry.is_dir():
                ignored["linked-folder"] += 1
            elif _is_image(entry):
                kept.append((path, False))
            else:
                ignored["not-a-picture"] += 1
    return sorted(kept)


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES:
        return True
    try:
        return kind_of(Path(entry.path)) == "image"
    except InputError:
        return False
