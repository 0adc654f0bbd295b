"""A folder of pictures as a source: walked in sorted order, one directory's names in memory at a time."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from zoo.bulk.errors import FileNameError, UnreadableFolderError
from zoo.bulk.sources import Record, SourceFacts, stamp
from zoo.errors import InputError
from zoo.media import IMAGE_SUFFIXES, kind_of

# Pictures by name that the zoo cannot decode: they must appear in the quarantine, not vanish.
UNREAD_SUFFIXES = frozenset({".heic", ".heif", ".jxl", ".jp2", ".svg"})
CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class FolderSource(SourceFacts):
    """Every picture below a folder.

    Files with a picture's suffix are inputs, whatever they hold. Other files are inputs if they begin like a
    picture, otherwise they are only counted in `ignored`, as are hidden files and folders and linked folders
    (which may lead in circles). The attribute `folder` is the picture's folder inside the source, "" at the top.
    """

    exclude: Path | None = None

    @classmethod
    def open(cls, path: Path, *, exclude: Path | None = None) -> Self:
        """A source over `path`; nothing is read yet."""
        import pyarrow as pa

        source = cls(path, path.resolve(), "image", None, pa.schema([("folder", pa.string())]))
        source.exclude = exclude.resolve() if exclude else None
        return source

    def count(self) -> int:
        """Number of inputs; also fills `ignored`."""
        self.ignored = Counter()
        return sum(1 for _ in self._walk(self.ignored))

    def records(self) -> Iterator[Record]:
        """One record for each picture, sorted by path, level by level."""
        for relative, error in self._walk(Counter()):
            yield self._record(relative, error)

    def _record(self, relative: str, error: InputError | None) -> Record:
        path = self.root / relative
        name = relative.replace(os.sep, "/")
        readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if readable != name:
            error = FileNameError(
                f"{readable} has a name that is not Unicode; rename it and run the command again", what=readable
            )
        try:
            status = path.stat()
            mark = stamp(readable, status.st_size, status.st_mtime_ns)
        except OSError:
            # A dangling link or a file that vanished: the encoder names the reason.
            mark = stamp(readable, "absent")
        return Record(
            id=readable,
            reference=readable,
            value=None if error else path,
            stamp=mark,
            attributes=(readable.rpartition("/")[0],),
            error=error,
        )

    def _walk(self, ignored: Counter[str]) -> Iterator[tuple[str, InputError | None]]:
        """Relative paths of inputs in order, with an error for each folder that cannot be opened."""
        pending: list[tuple[str, bool]] = [("", True)]
        while pending:
            relative, is_folder = pending.pop()
            if not is_folder:
                yield relative, None
                continue
            try:
                entries = self._entries(relative, ignored)
            except OSError as error:
                reason = error.strerror or str(error)
                yield relative or ".", UnreadableFolderError(f"{relative or '.'}: {reason}", what=relative)
                continue
            # A stack: the first in order has to lie on top.
            pending.extend(reversed(entries))

    def _entries(self, relative: str, ignored: Counter[str]) -> list[tuple[str, bool]]:
        kept = []
        with os.scandir(self.root / relative) as listing:
            for entry in listing:
                path = os.path.join(relative, entry.name) if relative else entry.name
                if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                    ignored["hidden"] += 1
                elif entry.is_dir(follow_symlinks=False):
                    if Path(entry.path) != self.exclude:
                        kept.append((path, True))
                elif entry.is_dir():
                    ignored["linked-folder"] += 1
                elif _is_picture(entry):
                    kept.append((path, False))
                else:
                    ignored["not-a-picture"] += 1
        return sorted(kept)


def _is_picture(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES:
        return True
    try:
        return kind_of(Path(entry.path)) == "image"
    except InputError:
        return False
