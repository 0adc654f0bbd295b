"""What earlier runs have made, beside what the source holds today: what stands, what is found again, what has vanished."""

import contextlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.bulk.known import Known, id_key, id_keys
from zoo.bulk.sources import Record, Source
from zoo.shards.content import CONTENT_BYTES, STAMP_BYTES, UNKNOWN, content_of, size_of
from zoo.shards.facts import DELETED, Bad
from zoo.shards.folder import Shard, ShardFolder

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# Of bad inputs that may come back as they were: what they were embedded as is not replaced by an error.
_AWAY = ("missing-file", "unreadable-folder", "unreadable-entry", "outside")
_UNREAD = ("unreadable-folder", "unreadable-entry")


def stands(source: Source, shards: Sequence[Shard], force: bool = False) -> bool:
    """Whether every input that has a shard is still there, in its place and as it was; what comes after them may be new.

    Args:
        shards: of one set. force: compare what the inputs hold as well, not only names, sizes and times.
    """
    columns = [(field.name, field.type) for field in source.schema]
    if any([(field.name, field.type) for field in shard.columns] != columns for shard in shards):
        return False
    kept = Known([shard for shard in shards if shard.kept])
    placed = [shard for shard in shards if not shard.kept]
    numbered = iter(placed)
    shard, position = next(numbered, None), -1
    for position, record in enumerate(source.records()):
        while shard is not None and position >= shard.stop:
            shard = next(numbered, None)
        if shard is None or position < shard.start:
            if kept and _may_hold(kept, record):
                return False
            if shard is None and not kept:
                return True
        elif shard.stamp(position) != record.stamp or (force and not _same(shard, position, record)):
            return False
    return not placed or placed[-1].stop <= position + 1


def _may_hold(kept: Known, record: Record) -> bool:
    """Whether what is kept of vanished inputs may be of this one: the set has to be written without it then."""
    return kept.has_id(id_key(record.id)) or (record.error is None and kept.has_size(size_of(record.value)))


def _same(shard: Shard, position: int, record: Record) -> bool:
    """Whether an input holds what was embedded; one that could not be embedded has nothing to compare."""
    if record.error is not None or any(bad.index == position for bad in shard.bad):
        return True
    there = shard.content(position)
    return there != UNKNOWN and there == content_of(record.value)


@dataclass(frozen=True, slots=True)
class Found:
    """A vector of an earlier run that serves for an input.

    Attributes:
        moved: whether its input lay elsewhere, or under another name, or was touched.
    """

    known: Known
    row: int
    content: bytes
    moved: bool

    def vector(self) -> "np.ndarray":
        """The vector as it is stored."""
        return self.known.vector(self.row)


class Earlier:
    """The vectors that there are, for a set that is written beside them.

    Args:
        live: the set that is searched: what of it is not found in the source has vanished. more: other vectors to use.
        force: an input is another one where its content is not known to be the same. deleted: what was deleted on purpose.
    """

    def __init__(
        self,
        live: Sequence[Shard],
        more: Sequence[Shard] = (),
        force: bool = False,
        deleted: "Sequence[Deleted]" = (),
    ) -> None:
        self._shards, self._others = list(live), list(more)
        self._live, self._force = Known(live), force
        self._deleted = {one.id: one for one in deleted}
        self._gone = {one.content for one in deleted} - {UNKNOWN}
        self._gone_sizes = {content[:8] for content in self._gone}
        self._before = array("Q")  # keys of ids whose inputs were embedded by the run that was stopped

    @cached_property
    def _more(self) -> Known:
        return Known(self._others)  # only where there is something to look for

    def look(self, source: Source) -> bool:
        """Finds what is in its place by names, sizes and times; whether there is any.

        Comes first, so that an input that has moved is not taken for a copy of one that stays.
        """
        for record in source.records():
            if record.error is None:
                self._live.take_stamp(record.stamp, id_key(record.id))
        return bool(self._live.taken.any())

    def deleted(self, record: Record) -> bytes | None:
        """The content of an input that was deleted and is what it was; None for any other. Asked before `find`."""
        if (was := self._deleted.get(record.id)) is None:
            return None
        if was.stamp == record.stamp and not self._force:
            return was.content
        return was.content if was.content != UNKNOWN and was.content == content_of(record.value) else None

    def deleted_elsewhere(self, record: Record) -> bytes | None:
        """The same of one that was deleted under another name, where no vector serves for it. Asked after `find`."""
        if not self._gone or size_of(record.value).to_bytes(8, "little", signed=True) not in self._gone_sizes:
            return None
        content = content_of(record.value)
        return content if content in self._gone else None

    def find(self, record: Record) -> Found | None:
        """An earlier vector for an input: by its stamp, or else by its content; reads files of a size that is known."""
        own = id_key(record.id)
        content = content_of(record.value) if self._force else UNKNOWN
        for known in (self._live, self._more):
            if (row := known.find_stamp(record.stamp, own)) is None:
                continue
            if self._force and (content == UNKNOWN or known.content(row) != content):
                known.taken[row] = False  # it looks the same, and is another one
                continue
            if known is self._more:
                self._note(known.content(row), own)
            return Found(known, row, known.content(row), int(known.ids[row]) != own)
        if content == UNKNOWN:
            size = size_of(record.value)
            if not self._live.has_size(size) and not self._more.has_size(size):
                return None
            content = content_of(record.value)
        for known in (self._live, self._more):
            if (row := known.take_content(content, own)) is not None:
                return Found(known, row, content, True)
        return None

    def pass_over(self, record: Record, content: bytes) -> None:
        """An input that an unfinished set has already: its earlier vector has not vanished, wherever it was."""
        if self._shards and record.error is None:
            own = id_key(record.id)
            if self._live.find_stamp(record.stamp, own) is None:
                self._note(content, own)

    def _note(self, content: bytes, own: int) -> None:
        if self._live.take_content(content, own) is None:
            self._before.append(own)

    # -- what is left

    def keep(
        self, folder: ShardFolder, shards: Sequence[Shard], target: "Target", made: Sequence[int], update: bool
    ) -> "Left":
        """Writes the vectors of inputs that have vanished into the new set.

        A vector stays until its place is taken: by an input of the same id, whatever that holds. With `update` those
        alone stay whose inputs lie where nobody could look.

        Args:
            shards: of the new set, those of inputs. made: keys of the ids whose vectors were computed by this run.
        """
        import numpy as np

        folder.remove([target.generation], kept=True)  # of a run that was stopped here
        bad = [one for shard in shards for one in shard.bad]
        # Ids of today's inputs, and of those that are bad for good: whatever had such an id before is replaced.
        there = np.concatenate([id_keys(shards), _keys([one for one in bad if one.reason not in _AWAY])])
        gone = ~self._live.taken & ~np.isin(self._live.ids, there)
        unread = tuple(one.id for one in bad if one.reason in _UNREAD)
        kept, first = 0, 0
        for shard in self._shards:
            mine = gone[first : first + shard.rows]
            first += shard.rows
            if not mine.any():
                continue
            table = shard.table()
            if update:
                mine = mine & np.array([_below(one, unread) for one in table.column("id").to_pylist()], bool)
            table = _conformed(table.filter(mine), target.schema)
            if not len(table):
                continue
            chosen = np.flatnonzero(shard.good())[mine]
            about = {"start": kept, "stop": kept + len(table), "kept": True, **target.facts}
            for name, width in (("stamps", STAMP_BYTES), ("contents", CONTENT_BYTES)):
                all_of = np.frombuffer(getattr(shard, name), np.uint8).reshape(-1, width)
                about[name] = all_of[chosen].tobytes().hex()
            folder.write_table(table, about, target.generation)
            kept += len(table)
        return self._left(kept, made)

    def _left(self, kept: int, made: Sequence[int]) -> "Left":
        import numpy as np

        loose = self._live.ids[~self._live.taken]
        changed = np.isin(loose, np.asarray(made, np.uint64))
        replaced = changed | np.isin(loose, np.asarray(self._before, np.uint64))
        return Left(kept, int(changed.sum()), len(loose) - kept - int(replaced.sum()))


@dataclass(frozen=True, slots=True)
class Deleted:
    """An input whose vector was deleted on purpose."""

    id: str
    stamp: bytes
    content: bytes


def deleted_of(shards: Sequence[Shard]) -> list[Deleted]:
    """What was deleted of the inputs of these shards."""
    return [
        Deleted(bad.id, shard.stamp(bad.index), shard.content(bad.index))
        for shard in shards
        for bad in shard.bad
        if bad.reason == DELETED
    ]


@dataclass(frozen=True)
class Target:
    """The set that is written: its number, its columns, and the facts of its shards."""

    generation: int
    schema: "pa.Schema"
    facts: dict[str, object]


@dataclass(frozen=True)
class Left:
    """What became of the vectors that the source did not ask for: kept, replaced by one of a changed input, or dropped."""

    kept: int = 0
    changed: int = 0
    removed: int = 0


def _keys(bad: Sequence[Bad]) -> "np.ndarray":
    import numpy as np

    return np.fromiter((id_key(one.id) for one in bad), np.uint64, len(bad))


def _below(name: str, places: Sequence[str]) -> bool:
    """Whether an id is of a place, or of something in it: a file in a folder, a row of a table."""
    return any(name == place or name.startswith((f"{place}/", f"{place}#")) for place in places)


def _conformed(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """Rows with the columns of today: null where there was none, or where a value is of a type that it cannot be."""
    import pyarrow as pa

    columns = {name: table.column(name) for name in ("id", "reference", "vector")}
    for field in schema:
        values = pa.nulls(len(table), field.type)
        if field.name in table.column_names:
            with contextlib.suppress(pa.ArrowException):
                values = table.column(field.name).cast(field.type)
        columns[field.name] = values
    return pa.table(columns)
