"""Sources: where the inputs of a bulk job come from, one `Record` after the other, always in the same order."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zoo.errors import InputError, TableError
from zoo.shards.content import STAMP_BYTES
from zoo.tables.choice import unread

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = ("text", "image", "video", "audio", "document")
ALL = frozenset(KINDS)
RESERVED = ("id", "reference", "vector")
LINES = (".txt", ".text")


@dataclass(frozen=True, slots=True)
class Record:
    """One input in its place.

    Attributes:
        id: unique in the source: the path inside the folder, or the row counted from 0, of several files with its name.
        reference: where it came from: a path below `Source.root`, or "captions.csv#12".
        value: what is given to `encode_stream`; None where `error` says why there is nothing to embed.
        stamp: 16 bytes that differ as soon as the input differs.
        attributes: the other columns, in the order of `Source.schema`.
    """

    id: str
    reference: str
    value: Any
    stamp: bytes
    attributes: tuple[Any, ...] = ()
    error: InputError | None = None


class Source(Protocol):
    """A folder or a table that can be walked again and again in the same order."""

    path: Path | str
    root: Path
    base: Path
    kind: str
    column: str | None
    media: str | None
    attribute: str | None
    regions: str | None
    kinds: str | None
    schema: "pa.Schema"
    ignored: Counter[str]
    notes: list[str]
    led_out: int

    def count(self) -> int:
        """How many records there are, bad ones included."""
        ...

    def records(self) -> Iterator[Record]:
        """All records from the first, without holding more than a few in memory."""
        ...

    def looked(self, record: Record) -> Record:
        """A record that is to be embedded, or whose vector is found again, after a look at what it is; opens its file."""
        ...

    def described(self) -> dict[str, str | bool | None]:
        """What the manifest says of the source."""
        ...

    def told(self) -> list[str]:
        """What is worth a line once all records were read."""
        ...


@dataclass
class SourceFacts:
    """What every source knows about itself; the base of the folder and the tables.

    Attributes:
        path: what was asked for. root: where the paths of media begin. base: where the names of its files begin.
        kind: the modalities of an item: "text", "image+text". column: what it is read from. media: its column of media.
        attribute: under which its text is kept. regions: under which those of its image are. kinds: under which the kind of each
            input is, where they are of several. outside: whether its files may lie outside of `root`, `base` and
            `within`, the folder that was named and in which the tables were found. led_out: how many of the
            records that were read do.
        ignored: what was never an input, by kind. notes: what was decided, worth a line each.
    """

    path: Path | str
    root: Path
    kind: str
    column: str | None
    schema: "pa.Schema"
    ignored: Counter[str] = field(default_factory=Counter)
    base: Path = Path()
    media: str | None = None
    attribute: str | None = None
    regions: str | None = None
    kinds: str | None = None
    notes: list[str] = field(default_factory=list)
    outside: bool = False
    within: Path | None = None
    led_out: int = 0

    def told(self) -> list[str]:
        """What is worth a line once all records were read."""
        return []

    def looked(self, record: Record) -> Record:
        """See `Source`."""
        return record

    def place(self) -> str:
        """The source for the manifest: of files the whole path."""
        return str(self.path.resolve()) if isinstance(self.path, Path) else self.path

    def described(self) -> dict[str, str | bool | None]:
        """What the manifest says of the source."""
        return {
            "path": self.place(),
            "root": str(self.root),
            "base": str(self.base),
            "kind": self.kind,
            "column": self.column,
            "media": self.media,
            "attribute": self.attribute,
            "regions": self.regions,
            "outside": self.outside,
            "within": None if self.within is None else str(self.within.resolve()),
        }


class Opened(Protocol):
    """A source of which it is not told yet what is embedded; opened before a model is loaded."""

    columns: Collection[str]
    ignored: Collection[str]  # of these
    reads: frozenset[str]  # as `zoo.tables.Table` has it

    def check(self, asked: Sequence[str], kind: str | None) -> None:
        """Raises TableError for columns that no model could read: before one is loaded."""
        ...

    def choose(self, asked: Sequence[str], kind: str | None, modalities: Collection[str]) -> Source:
        """The source, with the columns that are asked for, or else meant by their names."""
        ...


def stamp(*parts: str | bytes | int) -> bytes:
    """16 bytes that stand for these parts; each is preceded by its length, so that ("ab", "c") is not ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=STAMP_BYTES)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()


def check_exists(path: Path | str, vectors: int, out: Path) -> None:
    """Refuses a path that is nothing, and an empty folder where there are vectors of what was in it.

    Worth asking before a model is loaded, and before anything is written.

    Args:
        vectors: how many there are in the folder `out`.

    Raises:
        TableError: see above.
    """
    from zoo.tables.files import find_files

    if str(path).startswith(("hf:", "pack:")):
        return
    place = Path(path).expanduser()
    try:
        find_files(place)
        empty = vectors > 0 and place.is_dir() and not any(place.iterdir())
    except TableError as error:
        raise TableError(f"{error}{left_alone(vectors, out)}") from None
    except OSError as error:
        raise TableError(f"{place} cannot be opened: {error.strerror or error}{left_alone(vectors, out)}") from error
    if empty:
        raise TableError(f"{place} is empty{left_alone(vectors, out)}")


def left_alone(vectors: int, out: Path) -> str:
    """What is said of the vectors that there are where their source is gone or empty; "" where there are none."""
    if not vectors:
        return ""
    return (
        f"; {out} holds {vectors:,} vectors and stays as it is. Is the source not mounted, or moved? Bring it back or name "
        f"where it is now; if the vectors are not wanted any more, delete {out}"
    )


def check_kind(kind: str | None) -> None:
    """Raises TableError where a kind is none."""
    if kind is not None and kind not in KINDS:
        raise TableError(f'kind must be "text", "image", "video", "audio" or "document", not {kind!r}')


def check_read(path: object, kind: str, modalities: Collection[str]) -> None:
    """Raises TableError where a model does not read what a source holds."""
    if kind not in modalities:
        raise TableError(unread(path, kind, modalities))
