"""Sources: where the inputs of a bulk job come from, one `Record` after the other, always in the same order."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from zoo.bulk.errors import SourceError
from zoo.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["text", "image"]
STAMP_BYTES = 16
RESERVED = ("id", "reference", "vector")
TABLES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}


@dataclass(frozen=True, slots=True)
class Record:
    """One input in its place.

    Attributes:
        id: unique in the source: the path inside the folder, or the row counted from 0.
        reference: where it came from: a path below `Source.root`, or "captions.csv#12".
        value: what is given to `encode_stream`; None where `error` says why there is nothing to embed.
        stamp: 16 bytes that differ as soon as the input differs.
        attributes: the other columns, in the order of `Source.schema`.
    """

    id: str
    reference: str
    value: Path | str | bytes | None
    stamp: bytes
    attributes: tuple[Any, ...] = ()
    error: InputError | None = None


class Source(Protocol):
    """A folder or a table that can be walked again and again in the same order."""

    path: Path
    root: Path
    kind: Kind
    column: str | None
    schema: "pa.Schema"
    ignored: Counter[str]

    def count(self) -> int:
        """How many records there are, bad ones included."""
        ...

    def records(self) -> Iterator[Record]:
        """All records from the first, without holding more than a few in memory."""
        ...


@dataclass
class SourceFacts:
    """What every source knows about itself; the base of the folder and the tables."""

    path: Path
    root: Path
    kind: Kind
    column: str | None
    schema: "pa.Schema"
    ignored: Counter[str] = field(default_factory=Counter)


def stamp(*parts: str | bytes | int) -> bytes:
    """16 bytes that stand for these parts; each is preceded by its length, so that ("ab", "c") is not ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=STAMP_BYTES)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()


def open_source(
    path: Path | str,
    *,
    column: str | None = None,
    kind: Kind | None = None,
    modalities: frozenset[str] = frozenset({"text", "image"}),
    exclude: Path | None = None,
) -> Source:
    """A folder of pictures, a text file, or a CSV, JSONL or Parquet table as a `Source`.

    Args:
        column: the column to embed; found by its name (text, caption, query; image, path, file) where not given.
        kind: "text" or "image", where the column's name does not say it.
        modalities: what the model reads; settles which column is meant where a table has both kinds.
        exclude: a folder that is not walked (where the vectors go).

    Raises:
        SourceError: nothing there, an unknown kind of file, or no clear column.
    """
    path = Path(path)
    if kind not in (None, "text", "image"):
        raise SourceError(f'kind must be "text" or "image", not {kind!r}')
    if path.is_dir():
        from zoo.bulk.folder import FolderSource

        if column is not None or kind == "text":
            raise SourceError(f"{path} is a folder, whose pictures are embedded: it takes no column and no kind=text")
        source: Source = FolderSource.open(path, exclude=exclude)
    elif path.is_file():
        source = _open_file(path, column, kind, modalities)
    else:
        raise _absent(path)
    if source.kind not in modalities:
        raise SourceError(
            f"{path} holds {_plural(source.kind)}, and this model reads {' and '.join(sorted(modalities))} only; "
            f"choose another model (zoo list --modality {source.kind})"
        )
    return source


def check_exists(path: Path | str) -> None:
    """Raises SourceError for a path that is nothing: worth asking before a model is loaded."""
    if not Path(path).is_dir() and not Path(path).is_file():
        raise _absent(Path(path))


def _absent(path: Path) -> SourceError:
    what = "is no file or folder" if path.exists() else f"does not exist (working directory {Path.cwd()})"
    return SourceError(
        f"{path} {what}; pass a folder of pictures, a .txt file with a text per line, or a .csv, .jsonl or .parquet table"
    )


def _open_file(path: Path, column: str | None, kind: Kind | None, modalities: frozenset[str]) -> Source:
    from zoo.bulk.tables import CsvSource, JsonlSource, LinesSource, ParquetSource

    suffix = path.suffix.lower()
    if suffix in (".txt", ".text"):
        if column is not None or kind == "image":
            raise SourceError(f"{path} is a text file with one text per line: it has no columns and no pictures")
        return LinesSource.open(path)
    readers = {"csv": CsvSource, "jsonl": JsonlSource, "parquet": ParquetSource}
    if suffix not in TABLES:
        raise SourceError(
            f"{path} is no folder and ends in {suffix or 'nothing'}; expected a folder of pictures, .txt, "
            f"{', '.join(TABLES)}" + ("; a single picture is embedded by `zoo encode --image`" if suffix else "")
        )
    return readers[TABLES[suffix]].open(path, column, kind, modalities)


def _plural(kind: str) -> str:
    return {"text": "texts", "image": "pictures"}[kind]
