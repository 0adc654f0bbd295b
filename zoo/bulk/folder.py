"""A folder of images, of videos or of audio as a source: walked in sorted order, one directory's names in memory at a time."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from zoo.bulk.sources import ALL, Record, Source, SourceFacts, check_kind, check_read, stamp
from zoo.errors import FileNameError, InputError, OutsideError, TableError
from zoo.inputs.kinds import DOCUMENT_SUFFIXES
from zoo.tables.fences import Fence
from zoo.tables.folder import split_folder
from zoo.tables.images import Kind, walk_images
from zoo.tables.options import Options

_KINDS: tuple[Kind, ...] = ("image", "video", "audio", "document")


@dataclass
class Images:
    """A folder of images, or of videos or audio where they are asked for, before anything is read."""

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
        if asked or kind not in (None, *_KINDS):
            what = "column" if asked else f"kind={kind}"
            raise TableError(
                f"{self.path} is a folder, whose images, videos, audio or documents are embedded: it takes no {what}"
            )
        pages = kind is None and "document" in modalities and modalities is not ALL
        read = [one for one in _KINDS[:3] if one in modalities]
        if kind is None and len(read) == 1:
            kind = read[0]  # all that this model reads of files
        check_read(self.path, kind or next(iter(read), "image"), modalities)
        split = self.options.split
        fence = replace(self.options, given=self.path).fence
        folder = self.path if split is None else split_folder(self.path, split, must=True, fence=fence)[0]
        # Which kind is meant can only be told once it is known what the model reads.
        if kind is None and "image" not in read:
            found = [one for one in read if holds(folder, one, self.exclude, fence)]
            if len(found) > 1:
                raise TableError(
                    f"{folder} holds videos and audio; to embed the one or the other, say --kind video or --kind audio"
                )
            kind = found[0] if found else read[0]
        if pages and kind in (None, "image") and _holds_pdf(folder, self.exclude, fence):
            kind = "page" if holds(folder, "image", self.exclude, fence) else "document"
        if kind is None and modalities is not ALL and not holds(folder, "image", self.exclude, fence):
            for other, what in (("video", "videos"), ("audio", "audio")):
                if holds(folder, other, self.exclude, fence):
                    raise TableError(f"{folder} holds {what} and no images; to embed the {what}, say --kind {other}")
        source = FolderSource.open(folder, exclude=self.exclude, kind=kind or "image", fence=fence)
        source.notes, source.outside = list(self.notes), self.options.allow_outside
        if kind == "page":
            source.notes.append("PDFs are embedded too, as their pages (--kind image: images alone)")
        return source


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
    """Every image, every video, all audio or every document below a folder, or images and documents; see `walk_images`.

    The attribute `folder` is the file's folder inside the source, "" at the top.
    """

    exclude: Path | None = None
    fence: Fence | None = None
    documents: bool = False  # among the images

    @classmethod
    def open(cls, path: Path, *, exclude: Path | None = None, kind: Kind = "image", fence: Fence | None = None) -> Self:
        """A source over `path`, whose links do not lead out of the fence; nothing is read yet."""
        import pyarrow as pa

        schema = pa.schema([("folder", pa.string())])
        exclude = exclude.resolve() if exclude else None
        given = {"base": path.resolve(), "exclude": exclude, "fence": fence, "documents": kind == "page"}
        return cls(path, path.resolve(), "image" if kind == "page" else kind, None, schema, **given)

    @property
    def _walked(self) -> Kind:
        return "page" if self.documents else self.kind  # type: ignore[return-value]

    def count(self) -> int:
        """Number of inputs; also fills `ignored`."""
        self.ignored = Counter()
        return sum(1 for _ in walk_images(self.root, self.ignored, self.exclude, self._walked, self.fence))

    def records(self) -> Iterator[Record]:
        """One record for each file, sorted by path, level by level."""
        for relative, error in walk_images(self.root, exclude=self.exclude, kind=self._walked, fence=self.fence):
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
