"""ShardTable: WebDataset tar shards; headers are read once into an index, and a sample is then found by its offset."""

import hashlib
import os
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from zoo.errors import BadRowError, TableError
from zoo.files import writing
from zoo.tables.bounds import MAX_LINE
from zoo.tables.cells import Guess, fields_of, label_kind
from zoo.tables.jsonl import parsed_object
from zoo.tables.lines import encoding_of
from zoo.tables.names import FACTS, LABELS, read_name
from zoo.tables.options import Options
from zoo.tables.pairs import Pair
from zoo.tables.reading import Format, RawRow, RowReader
from zoo.tables.schema import Column, infer
from zoo.tables.table import Table, one_dataset
from zoo.tables.tarring import Headers

if TYPE_CHECKING:
    import pyarrow as pa

_VERSION = 2
_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
_JUDGED = 256  # samples
_FACTS = frozenset(name for names in FACTS.values() for name in names)
_MASKS = frozenset(name for name in _FACTS if name.endswith("mask"))
_MOST_FILES = 256  # of a sample; a place is kept for each in every sample
_LONGEST_KEY = 1024  # bytes; each key takes as many as the longest
_JSON_RANK = 1  # a file of the sample goes before a field of its JSON


class ShardIndex(NamedTuple):
    """Where the samples of a shard lie.

    Attributes:
        keys: `(n,)` names of the samples, UTF-8 bytes. columns: names of the files of a sample, without the key.
        offsets, sizes: `(n, columns)` of the contents in the tar; -1 where a sample lacks the file.
    """

    keys: np.ndarray
    columns: list[str]
    offsets: np.ndarray
    sizes: np.ndarray


class Samples:
    """The samples of tar shards of one kind, by number.

    A file's last ending says what it is: `0001.jpg` image, `0001.txt` text, `0001.query.jpg` the query's image, `0001.mask.png` what is
    meant of the image. Fields of `0001.json` stand in where there is no such file.

    Raises:
        TableError: a shard is damaged, compressed or empty.
    """

    def __init__(self, files: Sequence[Path], names: Sequence[str] = (), encoding: str | None = None) -> None:
        self.encoding = "utf-8-sig" if encoding is None else encoding_of(files[0], encoding)[0]
        self.broken: set[int] = set()  # samples whose JSON is none, of those that were looked at
        self.files, self.names = list(files), list(names) or [path.name for path in files]
        self._shards = [index_shard(path) for path in files]
        self._ends = np.cumsum([len(shard.keys) for shard in self._shards])
        self.source = self.names[0] + ("" if len(files) == 1 else f" … {self.names[-1]} ({len(files)} shards)")
        if not len(self):
            raise TableError(f"{self.source} holds no samples; a sample is files of one name: 0001.jpg, 0001.txt")
        self.files_of = list(dict.fromkeys(column for shard in self._shards for column in shard.columns))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def columns(self) -> list[Column]:
        """The files of the samples, and the fields of their JSON that some of the first have."""
        named = [column for column in self.files_of if column != "json"]
        found = [Column(column, "other" if column in _MASKS else _kind(column), rank=0) for column in named]
        own: dict[str, list[Any]] = {}
        for row in range(min(len(self), _JUDGED)) if "json" in self.files_of else ():
            for key, value in self._fields(row).items():
                if key not in self.files_of:
                    own.setdefault(key, []).append(value)
        kinds = {str: "text", int: "int", float: "float", type(None): ""}
        for key, values in own.items():
            value = next((value for value in values if value is not None), None)
            told = next((told for kind, told in kinds.items() if isinstance(value, kind)), "")
            found.append(Column(key, told, rank=_JSON_RANK))
        read = [(key, field) for key, values in own.items() if read_name(key) for field in fields_of(values)]
        found += [Column(f"{key}.{field}", "field", rank=_JSON_RANK) for key, field in read]
        meanings = [meaning for column in found if (meaning := read_name(column.name))]
        if any(meaning.role or meaning.modality == "text" for meaning in meanings):  # else the label is the text
            found = [self._judged(column) if column.name.lower() in LABELS else column for column in found]
        return found

    def _judged(self, column: Column) -> Column:
        """A label of which the first samples tell whether it is 0 or 1, or says whether a pair is right."""
        values = self.values(column.name, _JUDGED)
        whole = all(str(value).strip().lstrip("+-").isdigit() for value in values if value is not None)
        kind = label_kind("int" if whole else "text", values)
        return replace(column, kind=kind) if kind in ("bit", "verdict") else column

    def values(self, column: str, most: int | None = None) -> list[Any]:
        """A column's cells of all samples, or of so many; of each its file of this name or its .json is read."""
        found = []
        for row in range(min(len(self), most or len(self))):
            member = self.members(row).get(column)
            content = self.read(row, {column: member})[column].decode("utf-8-sig", "replace") if member else None
            found.append(content if member else self._fields(row).get(column))
        return found

    def _fields(self, row: int) -> dict[str, Any]:
        """The fields of a sample's JSON, {} where there is none; where it is no object, that is noted."""
        try:
            return self.json(row)
        except BadRowError:
            self.broken.add(row)
            return {}

    def place(self, row: int) -> tuple[int, int]:
        """Shard of a sample, and the sample's number in it."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return shard, row - (int(self._ends[shard - 1]) if shard else 0)

    def members(self, row: int) -> dict[str, tuple[int, int]]:
        """Offset and size of every file of a sample."""
        number, own = self.place(row)
        shard = self._shards[number]
        places = zip(shard.columns, shard.offsets[own].tolist(), shard.sizes[own].tolist(), strict=True)
        return {column: (offset, size) for column, offset, size in places if offset >= 0}

    def read(self, row: int, members: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
        """The contents of files of a sample.

        Raises:
            TableError: the shard has changed. BadRowError: a text is too long.
        """
        path = self.files[self.place(row)[0]]
        found = {}
        try:
            with path.open("rb") as file:  # a handle each: threads read at once
                for column, (offset, size) in members.items():
                    if size > MAX_LINE and _kind(column) != "media":
                        raise BadRowError(
                            f"{self.where(row)}: its .{column} has {size:,} bytes; at most {MAX_LINE:,} are read",
                            what=self.where(row),
                        )
                    file.seek(offset)
                    found[column] = file.read(size)
                    if len(found[column]) < size:
                        raise TableError(
                            f"{self.where(row)}: the shard is cut off; was it changed after it was opened?"
                        )
        except OSError as error:
            raise TableError(f"{self.where(row)}: cannot be read: {error.strerror or error}") from error
        return found

    def json(self, row: int) -> dict[str, Any]:
        """The fields of a sample's JSON, {} without one; raises BadRowError where it is no object."""
        members = self.members(row)
        if "json" not in members:
            return {}
        content = self.read(row, {"json": members["json"]})["json"].decode("utf-8-sig", "surrogateescape")
        fields, problem = parsed_object(content)
        if problem:
            raise BadRowError(f"{self.where(row)}: its .json is {problem}", what=self.where(row))
        return fields

    def text(self, row: int, column: str, content: bytes) -> str:
        """A file of a sample as a text; raises BadRowError where it is none."""
        try:
            return content.decode(self.encoding).removeprefix("\ufeff")
        except UnicodeError:
            told = "UTF-8" if self.encoding.startswith("utf-8") else self.encoding
            raise BadRowError(f"{self.where(row)}: its .{column} is not {told}", what=self.where(row)) from None

    def where(self, row: int) -> str:
        """The place of a sample in words."""
        shard, own = self.place(row)
        return f"{self.names[shard]}, {self._shards[shard].keys[own].decode('utf-8', 'replace')}"

    def blocks(self) -> list[range]:
        """Samples of every shard."""
        ends = self._ends.tolist()
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]


class ShardTable(Table):
    """Pairs of tar shards of one kind; `blocks` are the shards.

    Raises:
        TableError: see `Samples`; or the files of the samples make no pairs.
    """

    reads = frozenset({"encoding"})

    def __init__(self, files: Sequence[Path], options: Options) -> None:
        self._samples = Samples(files, encoding=options.encoding)
        schema = infer(self._samples.source, self._samples.columns(), options.columns, options.ignore)
        self.schemas = [replace(schema, rows=len(self._samples))]
        self._builder = options.builder(schema, files[0].parent)
        self._used = set(schema.used)
        self._media = {part.column for part in schema.parts if part.modality != "text"}
        self._media |= {
            column for fact, column in schema.facts.items() if fact.endswith("_regions") and _kind(column) == "media"
        }
        self._wants_json = bool(self._used - set(self._samples.files_of))
        self.datasets, self.names = one_dataset(options.name, len(self._samples))

    @property
    def unread(self) -> Collection[int]:
        """See `Table`."""
        return self._samples.broken

    def values(self, column: str) -> list[Any]:
        """See `Table`."""
        return self._samples.values(column)

    def _used_members(self, row: int) -> dict[str, tuple[int, int]]:
        return {column: place for column, place in self._samples.members(row).items() if column in self._used}

    def _pair(self, row: int) -> Pair:
        contents = self._samples.read(row, self._used_members(row))
        return self._builder.pair(self._cells(row, contents), self.where(row))

    def _cells(self, row: int, contents: Mapping[str, bytes]) -> dict[str, Any]:
        cells: dict[str, Any] = self._samples.json(row) if self._wants_json else {}
        for column, content in contents.items():
            if column in self._media:
                cells[column] = content
                continue
            cells[column] = self._samples.text(row, column, content)
            if column == self.schemas[0].score:
                cells[column] = _as_number(cells[column])
        return cells

    def where(self, row: int) -> str:
        """See `Table`."""
        return self._samples.where(row)

    def blocks(self) -> list[range]:
        """See `Table`."""
        return self._samples.blocks()

    def _check(self, row: int) -> None:
        """Reads the texts; of the media the index knows the sizes, and a byte stands for each that is not empty."""
        members = self._used_members(row)
        texts = {column: place for column, place in members.items() if column not in self._media}
        media = {column: b"\0" if size else b"" for column, (_, size) in members.items() if column not in texts}
        cells = self._cells(row, self._samples.read(row, texts))
        self._builder.pair({**cells, **media}, self.where(row))


@dataclass
class ShardReader(RowReader):
    """The samples of one tar shard as rows: a column for each kind of file, and for each field of their JSON."""

    reads: ClassVar[frozenset[str]] = frozenset({"encoding"})

    @classmethod
    def open(cls, path: Path, told: Format, name: str, constants: Mapping[str, Any]) -> Self:
        """Reads the headers; raises as `Samples`."""
        reader = cls(path, name or path.name, told=told, constants=dict(constants))
        reader._samples, reader._bytes = Samples([path], [reader.name], told.encoding), set()
        return reader

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
        """See `RowReader`; a sample whose JSON or text cannot be read is a bad row."""
        samples = self._samples
        for row in range(len(samples)):
            members = {name: place for name, place in samples.members(row).items() if name != "json"}
            wanted = {name: place for name, place in members.items() if columns is None or name in columns}
            try:
                cells: dict[str, Any] = {**self.constants, **samples.json(row)}
                for name, content in samples.read(row, wanted).items():
                    cells[name] = self._cell(row, name, content)
            except BadRowError as error:
                yield RawRow(row, 0, samples.where(row), {}, str(error).removeprefix(f"{samples.where(row)}: "))
            else:
                yield RawRow(row, 0, samples.where(row), cells)

    def _cell(self, row: int, name: str, content: bytes) -> str | bytes:
        """A text, or the bytes of a medium and of what no name says to be a text (`.npy`, `.depth.png`) and is none."""
        if _kind(name) == "media" or name in self._bytes:
            return content
        try:
            return self._samples.text(row, name, content).rstrip("\r\n")
        except BadRowError:
            if read_name(name) is not None or name in _FACTS:
                raise
            self._bytes.add(name)
            return content

    def types(self, guesses: dict[str, Guess] | None = None) -> "dict[str, pa.DataType]":
        """See `RowReader`; reads the texts and the fields of all samples."""
        import pyarrow as pa

        guesses = {} if guesses is None else guesses
        media = [name for name in self._samples.files_of if _kind(name) == "media"]
        texts = [name for name in self._samples.files_of if name not in media and name != "json"]
        keys = dict.fromkeys([*media, *texts, *self.constants])
        for row in self.rows(texts):
            for key, value in row.cells.items():
                keys[key] = None
                guess = guesses.setdefault(key, Guess())
                guess.see_cell(value) if key in texts and isinstance(value, str) else guess.see_value(value)
        self.columns = list(keys)
        bare = self._bytes.union(media)
        return {key: pa.binary() if key in bare else guesses.setdefault(key, Guess()).arrow() for key in keys}

    def found(self) -> list[Column]:
        """See `RowReader`."""
        told = {column.name: column for column in self._samples.columns()}
        return [told.get(name) or Column(name, rank=_JSON_RANK) for name in self.columns]

    def count(self) -> int:
        """See `RowReader`."""
        return len(self._samples)


def read_member(path: Path, column: str, row: int) -> bytes | None:
    """A file of a sample of a shard; None where the shard is gone or has another one."""
    try:
        samples = Samples([path])
        place = samples.members(row).get(column) if row < len(samples) else None
        return samples.read(row, {column: place})[column] if place else None
    except TableError:
        return None


def _kind(column: str) -> str:
    if column in _MASKS:
        return "media"
    meaning = read_name(column)
    return "media" if meaning is not None and meaning.modality not in ("", "text") else "text"


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _column_name(ending: str) -> str:
    """`jpg` and `PNG` are both "image": shards mix them."""
    *before, last = ending.lower().split(".")
    if last == "cls":
        last = "label"
    meaning = read_name(last)
    if before and before[-1] == "mask" and meaning is not None and meaning.modality == "image":
        return "_".join(before)  # 0001.mask.png is what is meant of 0001.jpg, and no second image
    return ".".join([*before, meaning.modality if meaning is not None and meaning.modality else last])


def index_shard(path: Path) -> ShardIndex:
    """The index of a shard: from the cache folder where the shard's size and time are those of then, else from its headers.

    Raises:
        TableError: the shard is no tar, damaged, compressed, or has a file twice in a sample.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    key = f"{_VERSION}\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    cached = (
        _cache_folder() / f"{hashlib.blake2b(key.encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}.npz"
    )
    try:
        with np.load(cached, allow_pickle=False) as kept:
            return ShardIndex(kept["keys"], kept["columns"].tolist(), kept["offsets"], kept["sizes"])
    except (OSError, ValueError, KeyError, EOFError):
        pass
    except Exception as error:  # zipfile's own, for a damaged file: it is made again
        if type(error).__name__ != "BadZipFile":
            raise
    index = read_headers(path)
    _keep(index, cached)
    return index


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "embedding-zoo" / "shards"


def _keep(index: ShardIndex, target: Path) -> None:
    """Whole or not at all; where the folder cannot be written the headers are read again next time."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with writing(target) as temporary, temporary.open("wb") as file:
            np.savez(file, **{**index._asdict(), "columns": np.array(index.columns, dtype=str)})
    except OSError:
        return


def read_headers(path: Path) -> ShardIndex:
    """The index of a shard from its headers; contents are passed over."""
    samples: list[tuple[str, dict[str, tuple[int, int]]]] = []
    columns: dict[str, int] = {}
    try:
        with Headers(path) as headers, tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]
            end = 0
            for member in tar:
                # Contents of a tar are filled up to whole blocks of 512 bytes.
                end = member.offset_data + (-(-member.size // 512) * 512 if member.isreg() else 0)
                match = _MEMBER.fullmatch(member.name) if member.isreg() else None
                if match is None:
                    continue
                if member.issparse():
                    raise TableError(
                        f"{path.name}: {member.name[:200]} is a sparse file, whose bytes lie elsewhere than they say; pack it "
                        "without --sparse"
                    )
                key, column = match[1], _column_name(match[2])
                if len(key.encode("utf-8", "surrogateescape")) > _LONGEST_KEY:
                    raise TableError(f"{path.name}: a name of {len(key):,} letters; at most {_LONGEST_KEY:,} are read")
                if columns.setdefault(column, len(columns)) >= _MOST_FILES:
                    raise TableError(
                        f"{path.name}: its files have more than {_MOST_FILES} endings, such as .{column[:40]}; a sample is files of "
                        "one name: 0001.jpg, 0001.txt"
                    )
                if not samples or samples[-1][0] != key:
                    samples.append((key, {}))
                if column in samples[-1][1]:
                    raise TableError(
                        f"{path.name}, {key}: two files could be its {column}; the second is {member.name}"
                    )
                samples[-1][1][column] = (member.offset_data, member.size)
                tar.members.clear()  # tarfile would keep every header
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise TableError(_why_no_tar(path, error)) from error
    with path.open("rb") as file:
        file.seek(end)
        if file.read(512).strip(b"\0"):  # tarfile takes a damaged header for the end
            raise TableError(f"{path}: damaged after byte {end:,} ({samples[-1][0] if samples else 'at its start'})")
    # (2, samples, columns): offsets and sizes.
    places = np.full((2, len(samples), len(columns)), -1, dtype=np.int64)
    for row, (_, members) in enumerate(samples):
        for column, place in members.items():
            places[:, row, columns[column]] = place
    keys = np.array([key.encode("utf-8", "surrogateescape") for key, _ in samples], dtype=np.bytes_)
    return ShardIndex(keys, list(columns), places[0], places[1])


def _why_no_tar(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(6)
    if head[:2] == b"\x1f\x8b" or head[:4] == b"\x28\xb5\x2f\xfd" or head[:3] == b"BZh" or head == b"\xfd7zXZ\0":
        return f"{path} is a compressed tar, in which no sample can be found by its offset; unpack it to a plain .tar"
    return f"{path} is no tar, damaged or cut off: {error}"
