"""A folder of files, of one kind or of several, as a source: walked in sorted order, one directory's names in memory at a time."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from zoo.bulk.kinds import PLURALS, KindSource, holds_another
from zoo.bulk.sources import ALL, Record, Source, SourceFacts, check_kind, check_read, stamp
from zoo.errors import FileNameError, InputError, OutsideError, TableError
from zoo.inputs.kinds import DOCUMENT_SUFFIXES
from zoo.tables.fences import Fence
from zoo.tables.folder import split_folder
from zoo.tables.images import Kind, walk_images
from zoo.tables.options import Options

_MEDIA: tuple[Kind, ...] = ("image", "video", "audio")


@dataclass
class Images:
    """A folder of images, videos, audio, documents and texts, or of one of these, before anything is read."""

    path: Path
    options: Options
    exclude: Path | None
    notes: list[str] = field(default_factory=list)
    columns: Collection[str] = ()
    ignored: Collection[str] = ()
    reads: frozenset[str] = frozenset()

    def check(self, asked: Sequence[str], kind: "str | Sequence[str] | None") -> None:
        """See `Opened`."""
        self.choose(asked, kind, ALL)

    def choose(self, asked: Sequence[str], kind: "str | Sequence[str] | None", modalities: Collection[str]) -> Source:
        """See `Opened`; by default every kind of file that the model reads, texts where it reads several media."""
        said = tuple(dict.fromkeys([kind] if isinstance(kind, str) else kind or ()))
        for one in said:
            check_kind(one)
        if asked:
            raise TableError(
                f"{self.path} is a folder, whose images, videos, audio, documents or texts are embedded: it takes no column"
            )
        read = [one for one in _MEDIA if one in modalities]
        split = self.options.split
        fence = replace(self.options, given=self.path).fence
        folder = self.path if split is None else split_folder(self.path, split, must=True, fence=fence)[0]
        if not said and not read and "text" in modalities and holds(folder, "text", self.exclude, fence):
            said = ("text",)
        for one in said or read[:1] or ("image",):
            check_read(self.path, one, modalities)
        kinds = said or ((read[0],) if modalities is ALL else self._usual(folder, read, modalities, fence))
        single = len(kinds) == 1 and kinds[0] != "text"
        files = FolderSource.open(
            folder,
            exclude=self.exclude,
            kind=kinds[0] if single else kinds,
            fence=fence,
            outside=self.options.allow_outside,
        )
        source: Source = files if single else KindSource(files, kinds)
        source.notes += self.notes
        if not said and set(kinds) == {"image", "document"}:
            source.notes.append("PDFs are embedded too, as their pages (--kind image: images alone)")
        elif not said and len(kinds) > 1:
            listed = ", ".join(PLURALS[one] for one in PLURALS if one in kinds)
            source.notes.append(f"embedding every kind of file that the model reads: {listed} (--kind K: those alone)")
        return source

    def one_kind(self, said: "str | Sequence[str] | None", modalities: Collection[str]) -> "str | Sequence[str] | None":
        """The kind of files that a model embeds which has a vector of a text for each kind that it is compared with.

        Raises:
            TableError: several are said, or lie there and none is said: one query could not be compared with all.
        """
        read = [one for one in _MEDIA if one in modalities]
        fence = replace(self.options, given=self.path).fence
        several = said is not None and not isinstance(said, str) and len(set(said)) > 1
        found = (
            said if several else [one for one in read if said is None and holds(self.path, one, self.exclude, fence)]
        )
        if len(found) > 1:
            raise TableError(
                f"{self.path} holds {' and '.join(PLURALS[one] for one in found)}, and this model has another vector of a text for "
                f"each that it is compared with: to embed one of them into a folder of its own, say "
                f"{' or '.join(f'--kind {one}' for one in found)}"
            )
        return said if said is not None or len(read) < 2 else (found or read)[0]

    def _usual(
        self, folder: Path, read: Sequence[Kind], modalities: Collection[str], fence: Fence | None
    ) -> tuple[Kind, ...]:
        """The kinds of files that are embedded where none is said."""
        if len(read) > 1:  # they may come to lie there one day, and then nothing else changes
            return (*read, *(kind for kind in ("document", "text") if kind in modalities))
        if "document" in modalities and _holds_pdf(folder, self.exclude, fence):
            return ("image", "document") if holds(folder, "image", self.exclude, fence) else ("document",)
        return (read[0],)


def holds(folder: Path, kind: Kind, exclude: Path | None, fence: Fence | None) -> bool:
    """Whether there is an image, a video or audio, below a folder; no link out of the fence is followed."""
    walked = walk_images(folder, exclude=exclude and exclude.resolve(), kind=kind, fence=fence)
    return any(error is None for _, error in walked)


def _holds_pdf(folder: Path, exclude: Path | None, fence: Fence | None) -> bool:
    """Whether there is a file below a folder that is called a PDF; none is opened to see what it is."""
    walked = walk_images(folder, exclude=exclude and exclude.resolve(), kind="page", fence=fence)
    return any(error is None and os.path.splitext(name)[1].lower() in DOCUMENT_SUFFIXES for name, error in walked)


@dataclass
class FolderSource(SourceFacts):
    """Every image, every video, all audio or every document below a folder, or all files of several kinds; see `walk_images`.

    The attribute `folder` is the file's folder inside the source, "" at the top.
    """

    exclude: Path | None = None
    fence: Fence | None = None
    walked: "Kind | Sequence[Kind]" = "image"

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        exclude: Path | None = None,
        kind: "Kind | Sequence[Kind]" = "image",
        fence: Fence | None = None,
        outside: bool = False,
    ) -> Self:
        """A source over `path`, whose links do not lead out of the fence; nothing is read yet."""
        import pyarrow as pa

        schema = pa.schema([("folder", pa.string())])
        exclude = exclude.resolve() if exclude else None
        given = {"base": path.resolve(), "exclude": exclude, "fence": fence, "walked": kind, "outside": outside}
        return cls(path, path.resolve(), kind if isinstance(kind, str) else "media", None, schema, **given)

    def count(self) -> int:
        """Number of inputs; also fills `ignored`."""
        self.ignored = Counter()
        return sum(1 for _ in walk_images(self.root, self.ignored, self.exclude, self.walked, self.fence))

    def records(self) -> Iterator[Record]:
        """One record for each file, sorted by path, level by level."""
        for relative, error in walk_images(self.root, exclude=self.exclude, kind=self.walked, fence=self.fence):
            yield self._record(relative, error)

    def looked(self, record: Record) -> Record:
        """See `Source`: what holds something else than its folder's kind is an error."""
        return holds_another(record, self.kind)

    def _record(self, relative: str, error: InputError | None) -> Record:
        path = self.root / relative
        name = relative.replace(os.sep, "/")
        readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if readable != name:
            error = FileNameError(
                f"{readable} has a name that is not Unicode; rename it and run the command again", what=readable
            )
        try:
            status = path.stat() if not isinstance(error, OutsideError) else path.lstat()
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
