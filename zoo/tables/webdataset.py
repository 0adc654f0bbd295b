"""ShardTable: WebDataset tar shards; headers are read once into an index, and a sample is then found by its offset."""

import hashlib
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.files import share
from zoo.tables.cells import fields_of, label_kind
from zoo.tables.errors import BadRowError, TableError
from zoo.tables.options import Options
from zoo.tables.pairs import Pair
from zoo.tables.schema import LABELS, Column, infer, read_name
from zoo.tables.table import Table, one_dataset

_VERSION = 1
_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
_JUDGED = 256  # samples
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


class ShardTable(Table):
    """Tar shards of one kind; `blocks` are the shards.

    A file's last ending says what it is: `0001.jpg` image, `0001.txt` text, `0001.query.jpg` the query's image. Fields of
    `0001.json` stand in where there is no such file.

    Raises:
        TableError: a shard is damaged, compressed or empty, or the files of its samples make no pairs.
    """

    def __init__(self, files: Sequence[Path], options: Options) -> None:
        self._files = list(files)
        self._shards = [index_shard(path) for path in files]
        self._ends = np.cumsum([len(shard.keys) for shard in self._shards])
        source = files[0].name if len(files) == 1 else f"{files[0].name} … {files[-1].name} ({len(files)} shards)"
        if not self._ends[-1]:
            raise TableError(f"{source} holds no samples; a sample is files of one name: 0001.jpg, 0001.txt")
        schema = infer(source, self._columns(), options.columns, options.ignore)
        self.schemas = [replace(schema, rows=int(self._ends[-1]))]
        self._builder = options.builder(schema, files[0].parent)
        self._used = set(schema.used)
        self._media = {part.column for part in schema.parts if part.modality != "text"}
        self._wants_json = bool(self._used - {column for shard in self._shards for column in shard.columns})
        self.datasets, self.names = one_dataset(options.name, int(self._ends[-1]))

    def _columns(self) -> list[Column]:
        names = dict.fromkeys(column for shard in self._shards for column in shard.columns)
        found = [Column(column, _kind(column), rank=0) for column in names if column != "json"]
        if "json" in names:
            row = next(row for row in range(int(self._ends[-1])) if "json" in self._members(row))
            fields = self._json(row)
            kinds = {str: "text", int: "int", float: "float"}
            found += [Column(k, kinds.get(type(v), ""), rank=_JSON_RANK) for k, v in fields.items() if k not in names]
            read = [
                (k, field) for k, v in fields.items() if k not in names and read_name(k) for field in fields_of([v])
            ]
            found += [Column(f"{k}.{field}", "field", rank=_JSON_RANK) for k, field in read]
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
        """See `Table`; of every sample its file of this name or its .json is read. `most`: of so many samples."""
        found = []
        for row in range(min(int(self._ends[-1]), most or int(self._ends[-1]))):
            member = self._members(row).get(column)
            content = self._read(row, {column: member})[column].decode("utf-8-sig", "replace") if member else None
            found.append(content if member else self._json(row).get(column))
        return found

    def _place(self, row: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return shard, row - (int(self._ends[shard - 1]) if shard else 0)

    def _members(self, row: int) -> dict[str, tuple[int, int]]:
        """Offset and size of every file of a sample."""
        number, own = self._place(row)
        shard = self._shards[number]
        places = zip(shard.columns, shard.offsets[own].tolist(), shard.sizes[own].tolist(), strict=True)
        return {column: (offset, size) for column, offset, size in places if offset >= 0}

    def _read(self, row: int, members: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
        path = self._files[self._place(row)[0]]
        found = {}
        try:
            with path.open("rb") as file:  # a handle each: threads read at once
                for column, (offset, size) in members.items():
                    file.seek(offset)
                    found[column] = file.read(size)
                    if len(found[column]) < size:
                        raise TableError(
                            f"{self.where(row)}: the shard is cut off; was it changed after it was opened?"
                        )
        except OSError as error:
            raise TableError(f"{self.where(row)}: cannot be read: {error.strerror or error}") from error
        return found

    def _json(self, row: int) -> dict[str, Any]:
        members = self._members(row)
        if "json" not in members:
            return {}
        try:
            fields = json.loads(self._read(row, {"json": members["json"]})["json"])
        except (ValueError, RecursionError) as error:
            raise BadRowError(f"{self.where(row)}: its .json is no JSON: {error}") from None
        if not isinstance(fields, dict):
            raise BadRowError(f"{self.where(row)}: its .json is no object")
        return fields

    def _pair(self, row: int) -> Pair:
        members = {column: place for column, place in self._members(row).items() if column in self._used}
        return self._builder.pair(self._cells(row, self._read(row, members)), self.where(row))

    def _cells(self, row: int, contents: Mapping[str, bytes]) -> dict[str, Any]:
        cells: dict[str, Any] = self._json(row) if self._wants_json else {}
        for column, content in contents.items():
            if column in self._media:
                cells[column] = content
                continue
            try:
                cells[column] = content.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise BadRowError(f"{self.where(row)}: its .{column} is not UTF-8") from None
            if column == self.schemas[0].score:
                cells[column] = _as_number(cells[column])
        return cells

    def where(self, row: int) -> str:
        """See `Table`."""
        shard, own = self._place(row)
        return f"{self._files[shard].name}, {self._shards[shard].keys[own].decode('utf-8', 'replace')}"

    def blocks(self) -> list[range]:
        """See `Table`."""
        ends = self._ends.tolist()
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]

    def _check(self, row: int) -> None:
        """Reads the texts; of the media the index knows the sizes, and a byte stands for each that is not empty."""
        members = {column: place for column, place in self._members(row).items() if column in self._used}
        texts = {column: place for column, place in members.items() if column not in self._media}
        media = {column: b"\0" if size else b"" for column, (_, size) in members.items() if column not in texts}
        self._builder.pair({**self._cells(row, self._read(row, texts)), **media}, self.where(row))


def _kind(column: str) -> str:
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
        with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".npz", delete=False) as file:
            try:
                np.savez(file, **{**index._asdict(), "columns": np.array(index.columns, dtype=str)})
                file.flush()
                os.fsync(file.fileno())
                share(Path(file.name))
                os.replace(file.name, target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError:
        return


def read_headers(path: Path) -> ShardIndex:
    """The index of a shard from its headers; contents are passed over."""
    samples: list[tuple[str, dict[str, tuple[int, int]]]] = []
    try:
        with tarfile.open(path, "r:") as tar:
            end = 0
            for member in tar:
                end = member.offset_data + (-(-member.size // 512) * 512 if member.isreg() else 0)
                match = _MEMBER.fullmatch(member.name) if member.isreg() else None
                if match is None:
                    continue
                key, column = match[1], _column_name(match[2])
                if not samples or samples[-1][0] != key:
                    samples.append((key, {}))
                if column in samples[-1][1]:
                    raise TableError(
                        f"{path.name}, {key}: two files could be its {column}; the second is {member.name}"
                    )
                samples[-1][1][column] = (member.offset_data, member.size)
                tar.members.clear()  # tarfile would keep every header
    except (tarfile.TarError, OSError, EOFError) as error:
        raise TableError(_why_no_tar(path, error)) from error
    with path.open("rb") as file:
        file.seek(end)
        if file.read(512).strip(b"\0"):  # tarfile takes a damaged header for the end
            raise TableError(f"{path}: damaged after byte {end:,} ({samples[-1][0] if samples else 'at its start'})")
    columns = list(dict.fromkeys(column for _, members in samples for column in members))
    places = np.full((2, len(samples), len(columns)), -1, dtype=np.int64)
    for row, (_, members) in enumerate(samples):
        for column, place in members.items():
            places[:, row, columns.index(column)] = place
    keys = np.array([key.encode("utf-8", "surrogateescape") for key, _ in samples], dtype=np.bytes_)
    return ShardIndex(keys, columns, places[0], places[1])


def _why_no_tar(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(6)
    if head[:2] == b"\x1f\x8b" or head[:4] == b"\x28\xb5\x2f\xfd" or head[:3] == b"BZh" or head == b"\xfd7zXZ\0":
        return f"{path} is a compressed tar, in which no sample can be found by its offset; unpack it to a plain .tar"
    return f"{path} is no tar, damaged or cut off: {error}"
