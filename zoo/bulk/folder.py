"""A folder of images as a source: walked in sorted order, one directory's names in memory at a time."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from zoo.bulk.errors import FileNameError, SourceError
from zoo.bulk.sources import ALL, Record, Source, SourceFacts, check_kind, check_read, stamp
from zoo.errors import InputError
from zoo.tables.folder import split_folder
from zoo.tables.images import walk_images
from zoo.tables.options import Options


@dataclass
class Images:
    """A folder of images, before anything is read."""

    path: Path
    options: Options
    exclude: Path | None
    notes: list[str] = field(default_factory=list)
    columns: Collection[str] = ()
    ignored: Collection[str] = ()
    reads: frozenset[str] = frozenset()

    def check(self, asked: Sequence[str], kind: str | None) -> None:
        """See `Opened`."""
        self.choose(asked, kind, ALL)

    def choose(self, asked: Sequence[str], kind: str | None, modalities: Collection[str]) -> Source:
        """See `Opened`."""
        check_kind(kind)
        if asked or kind not in (None, "image"):
            what = f"kind={kind}" if kind not in (None, "image") else "column"
            raise SourceError(f"{self.path} is a folder, whose images are embedded: it takes no {what}")
        check_read(self.path, "image", modalities)
        split = self.options.split
        folder = self.path if split is None else split_folder(self.path, split, must=True)[0]
        source = FolderSource.open(folder, exclude=self.exclude)
        source.notes = list(self.notes)
        return source


def holds_images(folder: Path, exclude: Path | None) -> bool:
    """Whether there is an image below a folder."""
    return any(error is None for _, error in walk_images(folder, exclude=exclude and exclude.resolve()))


@dataclass
class FolderSource(SourceFacts):
    """Every image below a folder; see `walk_images`.

    The attribute `folder` is the image's folder inside the source, "" at the top.
    """

    exclude: Path | None = None

    @classmethod
    def open(cls, path: Path, *, exclude: Path | None = None) -> Self:
        """A source over `path`; nothing is read yet."""
        import pyarrow as pa

        schema = pa.schema([("folder", pa.string())])
        exclude = exclude.resolve() if exclude else None
        return cls(path, path.resolve(), "image", None, schema, base=path.resolve(), exclude=exclude)

    def count(self) -> int:
        """Number of inputs; also fills `ignored`."""
        self.ignored = Counter()
        return sum(1 for _ in walk_images(self.root, self.ignored, self.exclude))

    def records(self) -> Iterator[Record]:
        """One record for each image, sorted by path, level by level."""
        for relative, error in walk_images(self.root, exclude=self.exclude):
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
