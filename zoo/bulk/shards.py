"""Shards: vectors on disk. Each file is complete or absent, and says in its footer which inputs it stands for."""

import contextlib
import errno
import io
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bulk.errors import DamagedShardError, DiskFullError, FolderError
from zoo.bulk.sources import STAMP_BYTES

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FORMAT = 1
FOOTER = b"zoo"
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
SHARDS = "shards"
REPLACED = "replaced"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Bad:
    """An input that could not be embedded, as the quarantine file lists it."""

    index: int
    id: str
    reference: str
    reason: str
    message: str

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(vars(self)) + "\n"


@dataclass(frozen=True)
class Shard:
    """One finished file: inputs `start` to `stop` of the source.

    Attributes:
        rows: vectors in the file; `stop - start - rows` inputs are in `bad`.
        stamps: 16 bytes for each input, bad ones included.
        fingerprint: of the model, prompt and preprocessing.
    """

    path: Path
    start: int
    stop: int
    rows: int
    stamps: bytes
    bad: tuple[Bad, ...]
    fingerprint: dict[str, Any]
    precision: str
    schema: "pa.Schema"

    def stamp(self, position: int) -> bytes:
        """The stamp of the input at this position of the source."""
        at = (position - self.start) * STAMP_BYTES
        return self.stamps[at : at + STAMP_BYTES]


@dataclass(frozen=True)
class Row:
    """An input with its vector, as stored."""

    id: str
    reference: str
    attributes: tuple[Any, ...]
    vector: "np.ndarray"


@dataclass
class Draft:
    """The inputs of a shard that is not written yet.

    Attributes:
        taken: stamp and outcome of each. One list, so that an input is in it whole or not at all: Ctrl-C may come between
            any two steps, and an input that is counted without its vector would never be embedded.
        bad_count: how many of them could not be embedded.
    """

    start: int
    taken: list[tuple[bytes, Row | Bad]] = field(default_factory=list)
    bad_count: int = 0

    def take(self, stamp: bytes, outcome: Row | Bad) -> None:
        """Adds the next input."""
        self.taken.append((stamp, outcome))
        self.bad_count += isinstance(outcome, Bad)

    @property
    def stop(self) -> int:
        """The position behind the last input."""
        return self.start + len(self.taken)

    @property
    def bad(self) -> list[Bad]:
        """Those that could not be embedded."""
        return [outcome for _, outcome in self.taken if isinstance(outcome, Bad)]

    def __len__(self) -> int:
        return len(self.taken)


def vector_type(dim: int, precision: str) -> "pa.DataType":
    """The Arrow type of a vector: `dim` floats, `dim` int8, or `dim / 8` bytes of sign bits."""
    import pyarrow as pa

    kinds = {"float32": (pa.float32(), dim), "int8": (pa.int8(), dim), "binary": (pa.uint8(), dim // 8)}
    value, length = kinds[precision]
    return pa.list_(value, length)


class ShardFolder:
    """The folder that a bulk job writes: `shards/`, `manifest.json`, `quarantine.jsonl`.

    The shards are the only truth: the other two files are derived from them and can be written again at any time.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def shards(self) -> Path:
        """Where the Parquet files lie."""
        return self.path / SHARDS

    def create(self) -> None:
        """Makes the folders; raises FolderError where that is not possible."""
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path} is a file; --out takes a folder")
        try:
            with full_disk_named(self.path):
                self.shards.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot write into {self.path}: {error.strerror or error}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one writer, and removes what a killed one left half written.

        The lock vanishes with its process, however that ends.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise FolderError(
                f"another process is writing to {self.path}; wait until it is finished, or choose another folder"
            ) from None
        try:
            for folder in (self.path, self.shards):
                for leftover in folder.glob(".tmp-*.part"):
                    leftover.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None where there is none yet."""
        try:
            return json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FolderError(f"{self.path / MANIFEST} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise DamagedShardError(
                f"{self.path / MANIFEST} is not readable ({error}); delete it and run the command again"
            ) from error

    def vectors(self) -> int:
        """How many vectors the manifest counts; 0 without one."""
        return (self.manifest() or {}).get("counts", {}).get("vectors", 0)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replaces the manifest in one step."""
        write_atomically(self.path / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())

    def finished(self) -> list[Shard]:
        """The finished shards in the order of their inputs; raises DamagedShardError where two overlap."""
        found = sorted((read_footer(path) for path in self.shards.glob("*.parquet")), key=lambda shard: shard.start)
        for before, after in itertools.pairwise(found):
            if after.start < before.stop:
                raise DamagedShardError(
                    f"{before.path.name} and {after.path.name} in {self.shards} stand for some of the same inputs; "
                    "move one of them away and run `zoo embed` again"
                )
        return found

    def write(self, draft: Draft, facts: dict[str, Any], schema: "pa.Schema", dim: int) -> Shard:
        """Writes a shard under a temporary name, makes it durable, and only then gives it its name."""
        import pyarrow.parquet as pq

        precision = facts["precision"]
        table = _as_table(draft, schema, dim, precision)
        footer = {
            "format": FORMAT,
            "start": draft.start,
            "stop": draft.stop,
            "stamps": b"".join(stamp for stamp, _ in draft.taken).hex(),
        }
        footer |= {"bad": [vars(bad) for bad in draft.bad], **facts}
        table = table.replace_schema_metadata({FOOTER: json.dumps(footer).encode()})
        buffer = io.BytesIO()
        # Vectors do not compress: zstd would cost time for a tenth of the size.
        texts = [name for name in table.column_names if name != "vector"]
        codecs = dict.fromkeys(texts, "zstd") | {"vector.list.element": "none"}
        pq.write_table(table, buffer, compression=codecs, use_dictionary=texts, row_group_size=max(1, len(table)))
        path = self.shards / f"{draft.start:012d}-{draft.stop:012d}.parquet"
        write_atomically(path, buffer.getbuffer())
        return read_footer(path)

    def write_quarantine(self, bad: Sequence[Bad]) -> None:
        """Writes the quarantine file anew."""
        write_atomically(self.path / QUARANTINE, "".join(one.line() for one in bad).encode())

    def append_quarantine(self, bad: Sequence[Bad]) -> None:
        """Adds the bad inputs of a shard that has just been written."""
        if bad:
            with full_disk_named(self.path), (self.path / QUARANTINE).open("a", encoding="utf-8") as file:
                file.write("".join(one.line() for one in bad))


def _as_table(draft: Draft, schema: "pa.Schema", dim: int, precision: str) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    kind = vector_type(dim, precision)
    rows = [outcome for _, outcome in draft.taken if isinstance(outcome, Row)]
    flat = np.concatenate([row.vector for row in rows]) if rows else np.empty(0, kind.value_type.to_pandas_dtype())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat, type=kind.value_type), type=kind)
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "reference": pa.array([row.reference for row in rows], pa.string()),
    }
    columns["vector"] = vectors
    for place, attribute in enumerate(schema):
        columns[attribute.name] = pa.array([row.attributes[place] for row in rows], attribute.type)
    return pa.table(columns)


def read_footer(path: Path) -> Shard:
    """What a shard stands for, without reading its vectors; raises DamagedShardError naming the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        footer = json.loads(schema.metadata[FOOTER])
        return Shard(
            path=path,
            start=footer["start"],
            stop=footer["stop"],
            rows=rows,
            stamps=bytes.fromhex(footer["stamps"]),
            bad=tuple(Bad(**bad) for bad in footer["bad"]),
            fingerprint=footer["fingerprint"],
            precision=footer["precision"],
            schema=schema.remove_metadata(),
        )
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedShardError(
            f"{path} is no readable shard of `zoo embed` ({type(error).__name__}: {error}); delete it and run the same "
            "command again: only its inputs are embedded again"
        ) from error


def read_vectors(table: "pa.Table") -> "np.ndarray":
    """The vectors of a shard as stored, `(rows, length)`."""
    column = table.column("vector").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def write_atomically(path: Path, data: Any) -> None:
    """Writes a file that after any crash is either the old one or the new one, whole.

    Raises:
        DiskFullError: no space; the old file, if there was one, is untouched.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}.part")
    try:
        with full_disk_named(path.parent):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """Makes renames inside a folder durable, where the system can do that."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turns the system's "no space left" into a DiskFullError that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"no space left for {folder} ({error.strerror}); all shards written so far are complete. Free some "
                "space and run the same command again: it goes on where it stopped"
            ) from error
        raise
