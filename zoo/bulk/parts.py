"""Parts of a source as inputs: a vector for each page of a document, each second or frame of a video, each second of audio."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from zoo.bulk.sources import Record, Source, stamp
from zoo.bulk.tables import attribute_names
from zoo.errors import ArgumentError, InputError, TableError
from zoo.inputs.document import page_count
from zoo.inputs.excerpts import PAGE_SIDE, DocumentPage, Excerpt
from zoo.inputs.frames import iter_frames
from zoo.inputs.item import Item
from zoo.inputs.kinds import kind_of
from zoo.inputs.sampling import frame_indices
from zoo.inputs.spacing import WAYS, Per, Spacing, audio_length, video_length

WHOLE = "document"
"""`per` of documents that have one vector each."""
_MEDIA = ("document", "video", "audio")


class _Part(NamedTuple):
    """One part: what is embedded of the medium, its number, and its place as it stands beside the vector."""

    value: Any
    number: int
    place: tuple[Any, ...]


class PartSource:
    """The parts of every document, video or audio of another source, in its order; ids are those of the whole with the part's number.

    Beside each vector are the columns of the source, and `page`, counted from 1, or `start` and `end` in seconds. What has no parts,
    an image among documents, is an input as it is.

    Args:
        whole: the source. per: "page", "second" or "frame". spacing: of the parts.

    Raises:
        TableError: the source holds nothing of which there are such parts.
    """

    def __init__(self, whole: Source, per: Per, spacing: Spacing) -> None:
        import pyarrow as pa

        kinds = whole.kind.split("+")
        self.media = [kind for kind in kinds if (kind, per) in WAYS] or (["media"] if "media" in kinds else [])
        mixed = per == "page" and "image" in kinds  # images, of which some are pages
        if len(self.media) > 1 or not (self.media or mixed):
            raise TableError(f"{whole.path} holds {whole.kind}, of which there is no {per}; leave --per out")
        self.whole, self.per, self.spacing = whole, per, spacing
        added = [("page", pa.int64())] if per == "page" else [("start", pa.float64()), ("end", pa.float64())]
        names = attribute_names([*whole.schema.names, *(name for name, _ in added)])
        types = [*whole.schema.types, *(kind for _, kind in added)]
        self.schema: pa.Schema = pa.schema(list(zip(names, types, strict=True)))
        self.columns = names[len(whole.schema) :]
        read = "image" if per in ("page", "frame") else None
        self.kind = "+".join(dict.fromkeys((read or kind) if kind in self.media else kind for kind in kinds))
        self._counts: dict[bytes, int] = {}

    def __getattr__(self, name: str) -> Any:
        """What is not of parts, as the whole source has it."""
        return getattr(self.whole, name)

    def facts(self) -> dict[str, Any]:
        """What the parts are, as the fingerprint of the vectors says it."""
        return {"per": self.per, **_settings(self.per, self.spacing)}

    def count(self) -> int:
        """How many parts there are, bad ones included; of videos nearly."""
        self.whole.count()
        return sum(self._count(record) for record in self.whole.records())

    def records(self) -> Iterator[Record]:
        """A record for each part, and one for each whole that cannot be read; what follows a part that cannot is left out."""
        nothing = (None,) * len(self.columns)
        for record in self.whole.records():
            medium = self._medium(record)
            if medium is None:
                yield replace(record, attributes=(*record.attributes, *nothing))
                continue
            number = 0
            try:
                for part in self._parts(medium[1]):
                    number = part.number
                    own = stamp(record.stamp, *(repr(value) for value in part.place))
                    value = part.value
                    if isinstance(record.value, Item):
                        rest = replace(record.value, **{medium[0]: None})
                        value = replace(rest, **{WAYS[medium[0], self.per]: value})
                    yield Record(
                        f"{record.id}#{number}", record.reference, value, own, (*record.attributes, *part.place)
                    )
            except InputError as error:
                own = stamp(record.stamp, "bad", str(number))
                lost = f"{record.id}#{number}+" if number else record.id
                yield Record(lost, record.reference, None, own, (*record.attributes, *nothing), error)

    def described(self) -> dict[str, Any]:
        """See `Source`."""
        return {**self.whole.described(), "kind": self.kind, "parts": {"per": self.per, "columns": self.columns}}

    def _medium(self, record: Record) -> tuple[str, Any] | None:
        """The modality and the value of what has parts; None where nothing of it has, or it cannot be read."""
        if record.error is not None:
            return None
        if isinstance(record.value, Item):
            found = [(name, value) for name in _MEDIA if (value := getattr(record.value, name)) is not None]
        else:
            found = [(self.media[0], record.value)] if self.media and self.media != ["media"] else []
        if not found and isinstance(record.value, Path | bytes):
            try:
                found = [(kind_of(record.value), record.value)]
            except InputError:  # which embedding it names
                return None
        return next((one for one in found if (one[0], self.per) in WAYS), None)

    def _parts(self, source: Any) -> Iterator[_Part]:
        if self.per == "page":
            for number in range(1, page_count(source) + 1):
                yield _Part(DocumentPage(source, number), number, (number,))
        elif self.per == "frame":
            for number, frame in enumerate(iter_frames(source, fps=self.spacing.fps), 1):
                yield _Part(frame.pixels, number, (frame.seconds, frame.end))
        else:
            for number, (start, end) in enumerate(self.spacing.segments(_length(source)), 1):
                yield _Part(Excerpt(source, start, end - start), number, (start, end))

    def _count(self, record: Record) -> int:
        medium = self._medium(record)
        if medium is None:
            return 1
        if record.stamp not in self._counts:
            try:
                self._counts[record.stamp] = self._number(medium[1])
            except InputError:
                self._counts[record.stamp] = 1
        return self._counts[record.stamp]

    def _number(self, source: Any) -> int:
        if self.per == "page":
            return page_count(source)
        if self.per == "second":
            return len(self.spacing.segments(_length(source)))
        length = video_length(source)
        return len(frame_indices(length.total, length.total, self.spacing.fps, length.fps))


def _length(source: Path | bytes) -> float:
    return audio_length(source) if kind_of(source) == "audio" else video_length(source).seconds


def _settings(per: str, spacing: Spacing) -> dict[str, Any]:
    """What the parts of this kind follow."""
    if per == "second":
        return {"seconds": spacing.seconds, "hop": spacing.hop}
    return {"fps": spacing.fps} if per == "frame" else {"max_side": PAGE_SIDE}


def parted(
    source: Source, per: str | None, seconds: float | None, hop: float | None, fps: float | None
) -> tuple[Source, dict[str, Any]]:
    """The source in parts, where it is to be, and what a fingerprint says of it; by default documents page by page.

    Args:
        per: as of `embed_dataset`. seconds, hop, fps: of the parts.

    Raises:
        ArgumentError: numbers that are not of these parts. TableError: there are no such parts.
    """
    kinds = source.kind.split("+")
    if per is None:
        if given := [name for name, value in (("seconds", seconds), ("hop", hop), ("fps", fps)) if value is not None]:
            raise ArgumentError(f"{given[0]} is of --per {'frame' if given[0] == 'fps' else 'second'}; say that, too")
        if "document" not in kinds and not getattr(source, "documents", False):
            return source, {}
        per = "page"
    spacing = Spacing.of(per, seconds, hop, fps)
    if per == WHOLE:
        if "document" not in kinds and not getattr(source, "documents", False):
            raise TableError(f"{source.path} holds {source.kind}, and no documents; leave --per out")
        return source, {"parts": {"per": WHOLE, **_settings(per, spacing)}}
    found = PartSource(source, per, spacing)  # type: ignore[arg-type]
    return found, {"parts": found.facts()}
