"""Segments: the log of the exact store. A change is one small Arrow file; a snapshot holds a fixed list of them open."""

import bisect
import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from zoo.errors import IndexStateError
from zoo.index.base import FACTS, IndexFacts, rows_of, stored_width
from zoo.index.facts import segment_facts
from zoo.index.where import Filter
from zoo.shards.folder import full_disk_named
from zoo.shards.values import wrong_rows, wrong_vector
from zoo.strangers import seen
from zoo.strangers.arrow import check_plain
from zoo.strangers.folders import LEFTOVER, Place, name_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

VECTORS = "vectors.bin"
SEGMENTS = "segments"
KIND = "segment"  # of what is remembered: one that was held to its schema, and its rows looked at
# So many segments of like size become one, where that has at most so many rows: ten thousand changes are some fifty files.
MERGED = 16
MERGED_ROWS = 65536
# A listing of the folder may miss files that are merged meanwhile; one that does so often is no accident.
LISTINGS = 20
_NAME = re.compile(r"\d{8,}(-\d{8,})?\.arrow")


@dataclass(frozen=True)
class Segment:
    """Changes `first` to `last`: rows `start` to `stop` of the vector file, and the earlier rows that they replace.

    Attributes:
        origin: the shard of `zoo embed` that the rows come from, "" for those of `upsert`.
        table: ids, references and attributes, `(stop - start)` rows; stays readable when the file is removed.
        about: what the system says of the file. key: by which it is remembered as looked at.
    """

    place: Place
    first: int
    last: int
    start: int
    stop: int
    replaces: tuple[int, ...]
    origin: str
    table: "pa.Table" = field(repr=False, compare=False)
    about: os.stat_result | None = field(default=None, repr=False, compare=False)
    key: str = field(default="", repr=False, compare=False)

    @property
    def changes(self) -> int:
        """How many changes the file stands for."""
        return self.last - self.first + 1

    @classmethod
    def read(cls, place: Place) -> Self:
        """Raises FileNotFoundError, or IndexStateError naming a damaged file."""
        import pyarrow as pa

        first, last = _span(place.name)
        try:
            # Closed, the map stays as long as the table, without a descriptor.
            with place.open() as file:
                status = os.fstat(file.fileno())
                known = seen.is_known(place.root, key := seen.key_of(KIND, [(place.path, status)]))
                if not known:
                    check_plain(file)
                with pa.memory_map(name_of(file, place)) as mapped:
                    table = pa.ipc.open_file(mapped).read_all()
            said = (table.schema.metadata or {}).get(b"zoo", b"")
            about = json.loads(said) if known else segment_facts(said, "its facts", len(table), IndexStateError)
        except FileNotFoundError:
            raise
        except (IndexStateError, pa.ArrowException, OSError, ValueError) as error:
            raise IndexStateError(
                f"{place} is damaged ({error}); delete the index folder and build it again"
            ) from error
        table, replaces = table.replace_schema_metadata(None), tuple(about["replaces"])
        return cls(place, first, last, about["start"], about["stop"], replaces, about["origin"], table, status, key)

    def write(self) -> Self:
        """Makes the file durable under its name, and gives the segment as it is read from there."""
        import pyarrow as pa

        about = {name: getattr(self, name) for name in ("start", "stop", "replaces", "origin")}
        table = self.table.replace_schema_metadata({b"zoo": json.dumps(about).encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        with full_disk_named(self.place.parent):
            self.place.write(sink.getvalue())
        return type(self).read(self.place)


class Snapshot:
    """What a reader sees: segments, and the vectors up to the end of the last one. It never changes.

    Everything is open from the start, so that neither an append, nor a merge, nor the removal of the folder changes it.

    Raises:
        IndexStateError: the files are damaged, or do not fit together.
    """

    def __init__(self, folder: Place, facts: IndexFacts, segments: Sequence[Segment]) -> None:
        self.folder, self.facts, self.segments = folder, facts, tuple(segments)
        for before, after in zip((None, *segments), segments, strict=False):
            if after.start != (before.stop if before else 0):
                raise IndexStateError(
                    f"{after.place} does not follow the one before; delete {folder} and build it again"
                )
            if not after.table.schema.equals(facts.schema):
                raise IndexStateError(
                    f"{after.place} holds other columns than {folder / FACTS} says; delete {folder} and build it again"
                )
        self.vectors, self._about = _mapped(folder / VECTORS, facts, len(self))
        self._asked: tuple[str | None, Any] = (None, None)  # the last filter, and the rows that it keeps

    @classmethod
    def read(cls, folder: Place, facts: IndexFacts, known: Self | None = None) -> Self:
        """The index as it is now; what is known already is not read again."""
        held = {segment.place: segment for segment in known.segments} if known else {}
        for _ in range(LISTINGS):
            with contextlib.suppress(_MergedMeanwhile, FileNotFoundError):
                places = _listed(folder / SEGMENTS)[0]
                if known and places == list(held):
                    return known
                return cls(folder, facts, [held.get(place) or Segment.read(place) for place in places])
        raise IndexStateError(f"segments are missing in {folder}; delete it and build the index again")

    def check(self) -> None:
        """Looks at all rows, unless that was done before: an index may come from others.

        Raises:
            IndexStateError: it names the file, and the row or column.
        """
        if seen.is_known(self.folder.root, self._key):
            return
        files = [one for one in (self._about, *(segment.about for segment in self.segments)) if one is not None]
        for segment in self.segments:
            if problem := wrong_rows(segment.table):
                raise IndexStateError(f"{segment.place} {problem}; delete {self.folder} and build the index again")
        if found := wrong_vector(self.vectors, self.facts.precision, self.facts.similarity):
            raise IndexStateError(
                f"{self.folder / VECTORS}: vector {found[0]:,} {found[1]}; delete {self.folder} and build the index again"
            )
        self.remember(settled=all(map(seen.is_settled, files)))

    def remember(self, *, settled: bool = True) -> None:
        """Notes that all rows are in order, where those that were here before were: the others were just written."""
        seen.remember(self.folder.root, self._key, settled=settled)
        for segment in self.segments:
            seen.remember(self.folder.root, segment.key, settled=settled)

    @property
    def _key(self) -> str:
        facts = self.facts
        kind = f"exact {facts.dim} {facts.precision} {facts.similarity}"
        files = [(segment.place.path, segment.about) for segment in self.segments if segment.about is not None]
        files += [((self.folder / VECTORS).path, self._about)] if self._about is not None else []
        return seen.key_of(kind, files)

    def __len__(self) -> int:
        return self.segments[-1].stop if self.segments else 0

    @property
    def changes(self) -> int:
        """How many changes there have been."""
        return self.segments[-1].last + 1 if self.segments else 0

    @cached_property
    def alive(self) -> "np.ndarray":
        """Which rows are neither deleted nor replaced, booleans `(rows,)`."""
        import numpy as np

        alive = np.ones(len(self), bool)
        for segment in self.segments:
            alive[list(segment.replaces)] = False
        return alive

    def kept(self, where: str | None) -> "np.ndarray":
        """The rows that are alive and that a filter keeps, booleans `(rows,)`."""
        import numpy as np

        if where is None:
            return self.alive
        if self._asked[0] != where:
            asked = Filter(where, self.facts.schema)  # an empty index too says what is wrong with it
            kept = np.concatenate([self.alive[:0], *(asked.mask(segment.table) for segment in self.segments)])
            self._asked = where, self.alive & kept
        return self._asked[1]

    def rows(self, numbers: "np.ndarray") -> list[dict[str, Any]]:
        """Id, reference and attributes of these rows, whose numbers ascend."""
        import numpy as np
        import pyarrow as pa

        found = [self.facts.schema.empty_table()]
        ends = np.searchsorted(numbers, [segment.stop for segment in self.segments])
        for segment, start, end in zip(self.segments, [0, *ends], ends, strict=False):
            # Slices: Arrow's `take` knows no columns of string views.
            found += [segment.table.slice(number - segment.start, 1) for number in numbers[start:end].tolist()]
        return rows_of(pa.concat_tables(found))

    def id_of(self, number: int) -> str:
        """The id of one row."""
        segment = self._of(number)
        return segment.table.column("id")[number - segment.start].as_py()

    def _of(self, number: int) -> Segment:
        return self.segments[bisect.bisect_right(self.segments, number, key=lambda segment: segment.stop)]

    def appended(self, table: "pa.Table", stored: "np.ndarray", replaces: Sequence[int], origin: str) -> "Snapshot":
        """The snapshot after one more change, which is on disk. Only the one writer may call this, on the latest one.

        A change counts from the moment its Arrow file has its name; vectors without one are overwritten by the next
        change. So a kill at any moment leaves the index as it was before or after the change.
        """
        start, number = len(self), self.changes
        _write_vectors(self.folder / VECTORS, start, stored)
        place = self.folder / SEGMENTS / f"{number:08d}.arrow"
        rows = table.select(self.facts.schema.names).replace_schema_metadata(None).cast(self.facts.schema)
        segment = Segment(place, number, number, start, start + len(table), tuple(replaces), origin, rows).write()
        return Snapshot(self.folder, self.facts, [*self.segments, segment])

    def merged(self) -> "Snapshot":
        """The same rows in fewer files, where there are many small ones at the end. For the one writer, as `appended`."""
        import pyarrow as pa

        run = _mergeable(self.segments)
        if not run:
            return self
        first, last = run[0], run[-1]
        one = Segment(
            place=self.folder / SEGMENTS / f"{first.first:08d}-{last.last:08d}.arrow",
            first=first.first,
            last=last.last,
            start=first.start,
            stop=last.stop,
            replaces=tuple(row for segment in run for row in segment.replaces),
            origin="",
            table=pa.concat_tables([segment.table for segment in run]).combine_chunks(),
        ).write()
        after = Snapshot(self.folder, self.facts, [*self.segments[: -len(run)], one])
        for leftover in _listed(self.folder / SEGMENTS)[1]:
            leftover.remove()
        return after


class _MergedMeanwhile(Exception):
    """A listing with a gap."""


def _span(name: str) -> tuple[int, int]:
    """The changes that a file stands for, by its name: 00000007.arrow, 00000000-00000015.arrow."""
    first, _, last = name.removesuffix(".arrow").partition("-")
    return int(first), int(last or first)


def _listed(folder: Place) -> tuple[list[Place], list[Place]]:
    """The files that together stand for all changes, in order, and those that are of no use any more."""
    names = folder.names()
    useless = [folder / name for name in names if LEFTOVER.fullmatch(name)]  # what a killed writer left
    needed: list[Place] = []
    following = 0
    for name in sorted(filter(_NAME.fullmatch, names), key=lambda name: (_span(name)[0], -_span(name)[1])):
        first, last = _span(name)
        if first > following:
            raise _MergedMeanwhile
        if last < following:
            useless.append(folder / name)
        else:
            needed.append(folder / name)
            following = last + 1
    return needed, useless


def _mergeable(segments: Sequence[Segment]) -> list[Segment]:
    """Segments at the end that are to be one: MERGED or more of like size, and smaller ones among them."""
    for level in (MERGED**power for power in range(8)):
        run: list[Segment] = []
        for segment in reversed(segments):
            large = segments[-1].stop - segment.start > MERGED_ROWS
            if large or segment.origin or segment.changes >= level * MERGED:
                break
            run.append(segment)
        if sum(segment.changes >= level for segment in run) >= MERGED:
            return run[::-1]
    return []


def _write_vectors(place: Place, start: int, stored: "np.ndarray") -> None:
    """Writes vectors from row `start` on, durably; whatever was there after it has never counted."""
    new = place.kind() is None
    with full_disk_named(place.parent), place.change() as file:
        # What a killed writer left after the last segment's rows goes first: a row's number is its place in the file.
        file.truncate(start * stored.shape[1] * stored.itemsize)
        file.seek(0, os.SEEK_END)
        file.write(stored.tobytes())
        file.flush()
        os.fsync(file.fileno())
    if new:
        # A new file's name is in its folder, which must be durable too.
        place.parent.sync()


def _mapped(place: Place, facts: IndexFacts, rows: int) -> "tuple[np.ndarray, os.stat_result | None]":
    """The first rows of the vector file as an array `(rows, width)` that is read from disk when it is looked at.

    With it what the system says of the file.
    """
    import numpy as np

    kind, width = stored_width(facts.dim, facts.precision)
    if not rows:
        return np.empty((0, width), kind), None
    try:
        with place.open() as file:
            about = os.fstat(file.fileno())
            there = about.st_size // (width * np.dtype(kind).itemsize)
            if there < rows:
                raise IndexStateError(
                    f"{place} is damaged: it holds {there:,} vectors where the segments count {rows:,}; delete "
                    f"{place.parent} and build the index again"
                )
            # Copy-on-write: torch refuses read-only arrays, and nothing here writes.
            return np.memmap(file, kind, "c", shape=(rows, width)), about
    except OSError as error:
        raise IndexStateError(f"{place} cannot be read: {error.strerror or error}") from error
