"""Parts of a source as inputs: a vector for each page of a document, each second or frame of a video, each second of audio."""

from collections.abc import Iterator, Mapping, Sequence
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
from zoo.inputs.spacing import PERS, WAYS, Per, Spacing, audio_length, video_length

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
        source: the source. ways: of which media there are which parts, {"document": "page", "audio": "second"}. spacing: of the
            parts. whole: whether documents beside them have one vector each.
    """

    def __init__(self, source: Source, ways: Mapping[str, Per], spacing: Spacing, *, whole: bool = False) -> None:
        import pyarrow as pa

        kinds = source.kind.split("+")
        self.whole, self.ways, self.spacing, self._documents = source, dict(ways), spacing, whole
        self.media = [kind for kind in kinds if kind in ways]
        pers = set(self.ways.values())
        added = [("page", pa.int64())] if "page" in pers else []
        added += [("start", pa.float64()), ("end", pa.float64())] if pers - {"page"} else []
        names = attribute_names([*source.schema.names, *(name for name, _ in added)])
        types = [*source.schema.types, *(kind for _, kind in added)]
        self.schema: pa.Schema = pa.schema(list(zip(names, types, strict=True)))
        self.columns = names[len(source.schema) :]
        read = {kind: WAYS[kind, ways[kind]] for kind in self.media}  # type: ignore[index]
        self.kind = "+".join(dict.fromkeys(read.get(kind, kind) for kind in kinds))
        # Of each whole by its stamp: its pages, or its seconds, which to know is to decode it; a job walks the source several times.
        self._lengths: dict[bytes, float] = {}
        self._counts: dict[bytes, int] = {}

    def __getattr__(self, name: str) -> Any:
        """What is not of parts, as the whole source has it."""
        return getattr(self.whole, name)

    def facts(self) -> dict[str, Any]:
        """What the parts are, as the fingerprint of the vectors says it."""
        pers = [per for per in (*PERS, WHOLE) if per in self.ways.values() or (per == WHOLE and self._documents)]
        settings = {name: value for per in pers for name, value in _settings(per, self.spacing).items()}
        return {"per": pers[0] if len(pers) == 1 else pers, **settings}

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
            kind, source = medium
            if self.whole.kinds is not None:
                record = self.whole.marked(record, kind)  # type: ignore[attr-defined]
            number = 0
            try:
                for part in self._parts(record, kind, source):
                    number = part.number
                    own = stamp(record.stamp, *(repr(value) for value in part.place))
                    value = part.value
                    if isinstance(record.value, Item):
                        rest = replace(record.value, **{kind: None})
                        value = replace(rest, **{WAYS[kind, self.ways[kind]]: value})
                    yield Record(
                        f"{record.id}#{number}",
                        record.reference,
                        value,
                        own,
                        (*record.attributes, *self._placed(kind, part.place)),
                    )
            except InputError as error:
                own = stamp(record.stamp, "bad", str(number))
                lost = f"{record.id}#{number}+" if number else record.id
                yield Record(lost, record.reference, None, own, (*record.attributes, *nothing), error)

    def looked(self, record: Record) -> Record:
        """See `Source`; a part has been looked at."""
        return self.whole.looked(record) if isinstance(record.value, Path) else record

    def described(self) -> dict[str, Any]:
        """See `Source`."""
        parts = {"per": self.facts()["per"], "columns": self.columns}
        return {**self.whole.described(), "kind": self.kind, "parts": parts}

    def _placed(self, kind: str, place: tuple[Any, ...]) -> tuple[Any, ...]:
        """The place of a part in the columns of all: those of other parts are empty."""
        if len(place) == len(self.columns):
            return place
        return (*place, None, None) if self.ways[kind] == "page" else (None, *place)

    def _medium(self, record: Record) -> tuple[str, Any] | None:
        """The modality and the value of what has parts; None where nothing of it has, or it cannot be read."""
        if record.error is not None:
            return None
        if isinstance(record.value, Item):
            found = [(name, value) for name in _MEDIA if (value := getattr(record.value, name)) is not None]
        elif self.whole.kinds is not None and isinstance(record.value, Path):
            try:
                found = [(self.whole.sort(record), record.value)]  # type: ignore[attr-defined]
            except InputError:  # as the look at it says
                return None
        elif self.media:
            found = [(self.media[0], record.value)]
        else:
            found = []
            if isinstance(record.value, Path | bytes):
                try:
                    found = [(kind_of(record.value), record.value)]
                except InputError:  # which embedding it names
                    return None
        return next((one for one in found if one[0] in self.ways), None)

    def _length(self, record: Record, kind: str, source: Any) -> float:
        """Pages of a document, seconds of a video or of audio; what has no length raises each time."""
        if record.stamp not in self._lengths:
            measured = page_count(source) if self.ways[kind] == "page" else _seconds(kind, source)
            self._lengths[record.stamp] = measured
        return self._lengths[record.stamp]

    def _parts(self, record: Record, kind: str, source: Any) -> Iterator[_Part]:
        if self.ways[kind] == "page":
            for number in range(1, int(self._length(record, kind, source)) + 1):
                yield _Part(DocumentPage(source, number), number, (number,))
        elif self.ways[kind] == "frame":
            for number, frame in enumerate(iter_frames(source, fps=self.spacing.fps), 1):
                yield _Part(frame.pixels, number, (frame.seconds, frame.end))
        else:
            for number, (start, end) in enumerate(self.spacing.segments(self._length(record, kind, source)), 1):
                yield _Part(Excerpt(source, start, end - start), number, (start, end))

    def _count(self, record: Record) -> int:
        medium = self._medium(record)
        if medium is None:
            return 1
        if record.stamp not in self._counts:
            try:
                self._counts[record.stamp] = self._number(record, *medium)
            except InputError:
                self._counts[record.stamp] = 1
        return self._counts[record.stamp]

    def _number(self, record: Record, kind: str, source: Any) -> int:
        if self.ways[kind] == "page":
            return int(self._length(record, kind, source))
        if self.ways[kind] == "second":
            return len(self.spacing.segments(self._length(record, kind, source)))
        length = video_length(source)
        return len(frame_indices(length.total, length.total, self.spacing.fps, length.fps))


def _seconds(kind: str, source: Path | bytes) -> float:
    return audio_length(source) if kind == "audio" else video_length(source).seconds


def _settings(per: str, spacing: Spacing) -> dict[str, Any]:
    """What the parts of this kind follow."""
    if per == "second":
        return {"seconds": spacing.seconds, "hop": spacing.hop}
    return {"fps": spacing.fps} if per == "frame" else {"max_side": PAGE_SIDE}


def parted(
    source: Source,
    per: "str | Sequence[str] | None",
    seconds: float | None,
    hop: float | None,
    fps: float | None,
) -> tuple[Source, dict[str, Any]]:
    """The source in parts, where it is to be, and what a fingerprint says of it; by default documents page by page.

    Args:
        per: as of `embed_dataset`. seconds, hop, fps: of the parts.

    Raises:
        ArgumentError: numbers that are not of these parts. TableError: there are no such parts.
    """
    asked = list(dict.fromkeys([per] if isinstance(per, str) else per or ()))
    given = {name: value for name, value in (("seconds", seconds), ("hop", hop), ("fps", fps)) if value is not None}
    if {"page", WHOLE} <= set(asked):
        raise ArgumentError("per is page and document, and a document has either a vector for each page or one for all")
    if given and not asked:
        name = next(iter(given))
        raise ArgumentError(f"{name} is of --per {'frame' if name == 'fps' else 'second'}; say that, too")
    spacing = Spacing.of(asked or ["page"], seconds, hop, fps)
    held = _held(source)
    documents = "document" in held
    ways: dict[str, Per] = {}
    for one in sorted(asked):  # "frame" before "second", which then is of audio alone
        found = [kind for kind in held or _MEDIA if (kind, one) in WAYS and kind not in ways]
        images = one == "page" and "image" in held  # of which some are pages
        if not (documents if one == WHOLE else found or images):
            what = "there are no documents" if one == WHOLE else f"there is no {one}"
            raise TableError(f"{source.path} holds {_told(source)}, of which {what}; leave --per {one} out")
        ways |= dict.fromkeys(found, one)  # type: ignore[arg-type]
    if documents and WHOLE not in asked:
        ways.setdefault("document", "page")
    if len(ways) > 1 and source.kinds is None and held:
        raise TableError(f"{source.path} holds {source.kind} in one item, which has no parts of both; leave --per out")
    if not ways and asked != ["page"]:
        return source, {"parts": {"per": WHOLE, **_settings(WHOLE, spacing)}} if asked else {}
    found = PartSource(source, ways or {"document": "page"}, spacing, whole=WHOLE in asked)
    return found, {"parts": found.facts()}


def _held(source: Source) -> list[str]:
    """The kinds of what a source holds; none where it may be any."""
    if source.kinds is not None:
        return list(source.described()["kinds"]["of"])  # type: ignore[index,arg-type]
    kinds = source.kind.split("+")
    return [] if "media" in kinds else kinds


def _told(source: Source) -> str:
    return " and ".join(_held(source)) or source.kind
