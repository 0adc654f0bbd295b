"""Shards: vectors on disk. Each file is complete or absent, and says in its footer which inputs it stands for."""

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DamagedShardError, DiskFullError, FolderError
from zoo.files import is_full
from zoo.shards.checking import check_rows, is_known, remember
from zoo.shards.content import CONTENT_BYTES, STAMP_BYTES, UNKNOWN
from zoo.shards.facts import DELETED, FORMAT, Bad, check_columns, footer_of, manifest_of, vector_type
from zoo.strangers.folders import Place, name_of, remove_leftovers
from zoo.strangers.locks import Held, locked

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FOOTER = b"zoo"
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
SHARDS = "shards"
FOUND = "regions.jsonl"  # of images whose vectors may be still to come
LOCK = ".lock"
REPLACED = "replaced"  # where earlier versions moved shards to for the time of an update
NAME = re.compile(r"(?:g(\d{6})-(?:kept-)?)?\d{12}-\d{12}\.parquet")


@dataclass(frozen=True)
class Shard:
    """One finished file: inputs `start` to `stop` of the source, or vectors kept of inputs that are gone.

    Attributes:
        place: the file. status: its size in bytes and its times of writing and of change in nanoseconds, as the system has them.
        rows: vectors in the file; `stop - start - rows` inputs are in `bad`.
        stamps, contents: 16 and 24 bytes for each input, bad ones included; the contents `UNKNOWN` where nobody has asked.
        kept: whether its inputs have vanished from the source: `start` and `stop` count those alone.
        generation: the set that it is of; see `ShardFolder`.
        fingerprint: of the model, prompt and preprocessing.
    """

    place: Place
    status: tuple[int, int, int]
    start: int
    stop: int
    rows: int
    stamps: bytes
    contents: bytes
    bad: tuple[Bad, ...]
    fingerprint: dict[str, Any]
    precision: str
    schema: "pa.Schema"
    kept: bool = False
    generation: int = 0

    @cached_property
    def inputs(self) -> str:
        """A digest of its stamps, `(16 hex digits)`: after an update the same range may hold other inputs."""
        return hashlib.blake2b(self.stamps, digest_size=8).hexdigest()

    @property
    def path(self) -> Path:
        """Where the file lies; for messages, since others may have made it."""
        return self.place.path

    def table(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Its rows, or these columns of them, checked once; raises FileNotFoundError, DamagedShardError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self.place.open() as file:
            check_rows(file, self)
            try:
                return pq.read_table(file, columns=None if columns is None else list(columns))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DamagedShardError(f"{self.place} cannot be read ({error}); fetch it or make it again") from error

    def stamp(self, position: int) -> bytes:
        """The stamp of the input at this position of the source."""
        at = (position - self.start) * STAMP_BYTES
        return self.stamps[at : at + STAMP_BYTES]

    def content(self, position: int) -> bytes:
        """What was embedded of the input at this position."""
        at = (position - self.start) * CONTENT_BYTES
        return self.contents[at : at + CONTENT_BYTES]

    def good(self) -> "np.ndarray":
        """Which of its inputs have a vector, `(stop - start,)`."""
        import numpy as np

        good = np.ones(self.stop - self.start, bool)
        good[[bad.index - self.start for bad in self.bad]] = False
        return good

    @property
    def columns(self) -> "pa.Schema":
        """The columns of the source that are kept beside the vectors."""
        import pyarrow as pa

        return pa.schema([field for field in self.schema if field.name not in ("id", "reference", "vector")])


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
        taken: stamp, content and outcome of each. One list, so that an input is in it whole or not at all: Ctrl-C may come
            between any two steps, and an input that is counted without its vector would never be embedded.
        bad_count: how many of them could not be embedded; those that were deleted do not count.
    """

    start: int
    taken: list[tuple[bytes, bytes, Row | Bad]] = field(default_factory=list)
    bad_count: int = 0

    def take(self, stamp: bytes, outcome: Row | Bad, content: bytes = UNKNOWN) -> None:
        """Adds the next input."""
        self.taken.append((stamp, content, outcome))
        self.bad_count += isinstance(outcome, Bad) and outcome.reason != DELETED

    @property
    def stop(self) -> int:
        """The position after the last input."""
        return self.start + len(self.taken)

    @property
    def bad(self) -> list[Bad]:
        """Those that could not be embedded, or were deleted."""
        return [outcome for *_, outcome in self.taken if isinstance(outcome, Bad)]

    def __len__(self) -> int:
        return len(self.taken)


class ShardFolder:
    """The folder that a bulk job writes: `shards/`, `manifest.json`, `quarantine.jsonl`.

    The shards are the only truth: the other two files are derived from them and can be written again at any time, but for
    one fact. All shards of one *generation* are a set; a run that has more to do than to add shards writes the next
    generation beside the one that is searched, and the manifest says which that is: it is replaced in one step when
    the new set is whole, and only then the old files go. Without a manifest the lowest generation is the one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.place = Place.of(self.path)
        self.shards = self.place / SHARDS

    def _files(self, folder: str = SHARDS) -> list[Place]:
        """The Parquet files there."""
        place = self.place / folder
        try:
            return [place / name for name in place.names() if name.endswith(".parquet")]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def create(self) -> None:
        """Makes the folders; raises FolderError where that is not possible."""
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path} is a file; --out takes a folder")
        try:
            with full_disk_named(self.path):
                self.shards.make()
        except OSError as error:
            raise FolderError(
                f"cannot write into {self.path} ({error.strerror or error}); choose another --out"
            ) from error

    def is_empty(self) -> bool:
        """Whether there is nothing in it yet but what `create` makes, and regions that were found for it."""
        return {*self.place.names()} - {FOUND} == {self.shards.name} and not self.shards.names()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one writer, and removes what a killed one left: half written files, and a set that is replaced.

        The lock vanishes with its process, however that ends.

        Raises:
            FolderError: another process writes there, or nobody can.
        """
        with contextlib.ExitStack() as held:
            with self._writing():
                try:
                    held.enter_context(locked(self.place / LOCK))
                except Held:
                    raise FolderError(
                        f"another process is writing to {self.path}; wait until it is finished, or choose another folder"
                    ) from None
                for folder in (self.place, self.shards):
                    remove_leftovers(folder)
            live = self.live()
            self._drop(generation for generation in self.generations() if generation < live)
            self._give_up_rewriting(live)
            yield

    def _give_up_rewriting(self, live: int) -> None:
        """Removes the half of a set that `rewritten` was writing when it was killed: no run of `zoo embed` may go on with it."""
        manifest = self.manifest()
        if manifest is not None and (half := manifest.pop("rewriting", None)) is not None:
            self._drop([half] if half != live else [])
            self.write_manifest(manifest)

    @contextlib.contextmanager
    def rewritten(self, manifest: Mapping[str, Any]) -> Iterator[int]:
        """The number of a set that the block writes, and that is searched in place of the one before once it has ended.

        Whatever stops it, a kill among others, leaves all as it was. For whoever holds the folder.

        Args:
            manifest: of the new set; the block may still change it.
        """
        before, number = self.manifest() or {}, max(self.generations(), default=0) + 1
        self.write_manifest({**before, "rewriting": number})
        try:
            yield number
            self.shards.sync()
            self.write_manifest({**manifest, "generation": number})
        except BaseException:
            self._give_up_rewriting(before.get("generation", 0))
            raise
        self.tidy(number)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what the system says of a folder that cannot be written into errors with names."""
        try:
            with full_disk_named(self.path):
                yield
        except OSError as error:
            gone = "" if self.path.is_dir() else ", which is gone"
            raise FolderError(
                f"cannot write into {self.path}{gone} ({error.strerror or error}); run the same command again when that "
                "is possible: it goes on with what is there"
            ) from error

    # -- the manifest

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None where there is none yet."""
        try:
            return manifest_of((self.place / MANIFEST).read(), self.path / MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FolderError(f"{self.path / MANIFEST} cannot be read: {error.strerror or error}") from error

    def vectors(self) -> int:
        """How many vectors the manifest counts; 0 without one."""
        return (self.manifest() or {}).get("counts", {}).get("vectors", 0)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replaces the manifest in one step."""
        with self._writing():
            (self.place / MANIFEST).write((json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())

    # -- the shards

    def generations(self) -> list[int]:
        """Of which generations there are shards, determined by their names."""
        return sorted({_generation(place) for place in self._files()})

    def live(self) -> int:
        """The generation that is searched."""
        manifest = self.manifest()
        return min(self.generations(), default=0) if manifest is None else manifest.get("generation", 0)

    def finished(self) -> list[Shard]:
        """The shards that are searched, in the order of their inputs, and after them those of inputs that have vanished.

        Raises:
            DamagedShardError: one cannot be read, or two stand for the same inputs.
        """
        while True:
            live = self.live()
            try:
                found = self.of(live)
            except DamagedShardError:
                if self.live() == live:
                    raise
                continue
            # Else another process has put the next set in its place meanwhile, and some of these files were gone.
            if self.live() == live:
                return found

    def of(self, generation: int) -> list[Shard]:
        """The shards of a generation, as `finished` has them."""
        places = (place for place in self._files() if _generation(place) == generation)
        found = sorted((read_footer(place) for place in places), key=lambda shard: (shard.kept, shard.start))
        for before, after in itertools.pairwise(found):
            if before.kept == after.kept and after.start < before.stop:
                raise DamagedShardError(
                    f"{before.path.name} and {after.path.name} in {self.shards} stand for some of the same inputs; "
                    "move one of them away and run `zoo embed` again"
                )
        return found

    def replaced(self) -> list[Shard]:
        """What an earlier version has set aside for an update that was not finished; its vectors can be used."""
        return [read_footer(place) for place in sorted(self._files(REPLACED), key=str)]

    def remove(self, generations: Iterable[int], kept: bool = False) -> None:
        """Deletes all shards of these generations, or those alone that are kept of vanished inputs."""
        gone = set(generations)
        with self._writing():
            for place in self._files() if gone else ():
                ours = NAME.fullmatch(place.name) and ("-kept-" in place.name or not kept)
                if ours and _generation(place) in gone:
                    place.remove()
            if gone:
                self.shards.sync()

    def tidy(self, live: int) -> None:
        """Deletes all shards but those of the set that is searched."""
        self._drop(generation for generation in self.generations() if generation != live)
        with contextlib.suppress(OSError):
            for place in self._files(REPLACED):
                if NAME.fullmatch(re.sub(r"^\d{6}-", "", place.name)):
                    place.remove()
            (self.place / REPLACED).remove_empty()

    def _drop(self, generations: Iterable[int]) -> None:
        """Deletes sets that nobody asks for; where the system does not let go of a file, a later run does."""
        with contextlib.suppress(FolderError):
            self.remove(generations)

    def write(self, draft: Draft, facts: dict[str, Any], schema: "pa.Schema", dim: int, generation: int = 0) -> Shard:
        """Writes the inputs of a draft as a shard; raises as `write_table`."""
        about = {
            "start": draft.start,
            "stop": draft.stop,
            "stamps": b"".join(stamp for stamp, *_ in draft.taken).hex(),
            "contents": b"".join(content for _, content, _ in draft.taken).hex(),
            "bad": [vars(bad) for bad in draft.bad],
        }
        return self.write_table(_as_table(draft, schema, dim, facts["precision"]), about | facts, generation)

    def write_table(self, table: "pa.Table", about: dict[str, Any], generation: int) -> Shard:
        """Writes a shard under a temporary name, makes it durable, and only then gives it its name.

        Raises:
            DiskFullError, FolderError: it cannot be written.
        """
        import pyarrow.parquet as pq

        footer = {"format": FORMAT, "generation": generation, **about}
        table = table.replace_schema_metadata({FOOTER: json.dumps(footer).encode()})
        buffer = io.BytesIO()
        # Vectors do not compress: zstd would cost time for a tenth of the size.
        texts = [name for name in table.column_names if name != "vector"]
        codecs = dict.fromkeys(texts, "zstd") | {"vector.list.element": "none"}
        pq.write_table(table, buffer, compression=codecs, use_dictionary=texts, row_group_size=max(1, len(table)))
        name = f"{footer['start']:012d}-{footer['stop']:012d}.parquet"
        name = f"g{generation:06d}-{'kept-' if footer.get('kept') else ''}{name}" if generation else name
        with self._writing():
            (self.shards / name).write(buffer.getbuffer())
        shard = read_footer(self.shards / name)
        remember(shard)
        return shard

    # -- the quarantine

    def write_quarantine(self, bad: Sequence[Bad]) -> None:
        """Writes the quarantine file anew."""
        with self._writing():
            (self.place / QUARANTINE).write("".join(map(Bad.line, _unembedded(bad))).encode())

    def append_quarantine(self, bad: Sequence[Bad]) -> None:
        """Adds the bad inputs of a shard that has just been written."""
        if bad := _unembedded(bad):
            with self._writing(), (self.place / QUARANTINE).change() as file:
                file.seek(0, os.SEEK_END)
                file.write("".join(map(Bad.line, bad)).encode())


def _unembedded(bad: Iterable[Bad]) -> list[Bad]:
    """Those that could not be embedded: what was deleted on purpose is no defect."""
    return [one for one in bad if one.reason != DELETED]


def holds_vectors(folder: Path) -> bool:
    """Whether a manifest lies in a folder, be it one that is refused by name when it is read."""
    return (Place.of(folder) / MANIFEST).kind() not in (None, "folder")


def _generation(place: Place) -> int:
    """Of which generation a file is, by its name; those of the first have no number, nor have names that are not ours."""
    match = NAME.fullmatch(place.name)
    return int(match[1] or 0) if match else 0


def _as_table(draft: Draft, schema: "pa.Schema", dim: int, precision: str) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    kind = vector_type(dim, precision)
    rows = [outcome for *_, outcome in draft.taken if isinstance(outcome, Row)]
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


def read_footer(place: Place) -> Shard:
    """What a shard stands for, without reading its vectors; raises DamagedShardError naming the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Arrow's own file: through Python's, a footer takes a quarter longer.
        with place.open() as file, pa.OSFile(name_of(file, place)) as native, pq.ParquetFile(native) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
            about, known = os.fstat(file.fileno()), is_known(file, place)
        footer = footer_of((schema.metadata or {}).get(FOOTER, b""), "its footer", rows, known=known)
        if not known:
            check_columns(schema, footer, "it")
    except (DamagedShardError, pa.ArrowException, OSError, ValueError) as error:
        raise DamagedShardError(
            f"{place} is no readable shard of `zoo embed` ({error}); delete it and run the same command again: only its "
            "inputs are embedded again"
        ) from error
    return Shard(
        place=place,
        status=(about.st_size, about.st_mtime_ns, about.st_ctime_ns),
        start=footer["start"],
        stop=footer["stop"],
        rows=rows,
        stamps=footer["stamps"],
        contents=footer["contents"],
        bad=footer["bad"],
        fingerprint=footer["fingerprint"],
        precision=footer["precision"],
        schema=schema.remove_metadata(),
        kept=footer.get("kept", False),
        generation=footer.get("generation", 0),
    )


def read_vectors(table: "pa.Table") -> "np.ndarray":
    """The vectors of a shard as stored, `(rows, length)`."""
    column = table.column("vector").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


@contextlib.contextmanager
def full_disk_named(folder: Path | Place) -> Iterator[None]:
    """Turns the system's "no space left" into a DiskFullError that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise DiskFullError(
                f"no space left for {folder} ({error.strerror}); all shards written so far are complete. Free some "
                "space and run the same command again: it goes on where it stopped"
            ) from error
        raise


def unfinished(manifest: Mapping[str, Any]) -> str:
    """What a search should say of a folder whose run was stopped or goes on; "" for a finished one."""
    counts, building = manifest["counts"], manifest.get("building")
    if building is not None:
        return (
            f"an update is not finished ({building['inputs']:,} of {building['total']:,} inputs); the answers are those of "
            "before. The same `zoo embed` command goes on with it"
        )
    total = counts.get("total", 0)
    if manifest["finished"] or counts["inputs"] >= total:
        return ""
    return f"{counts['inputs']:,} of {total:,} inputs are embedded; the same `zoo embed` command goes on"
