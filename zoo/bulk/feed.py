"""The two ends of `encode_stream`: records go in as values, vectors come back to the records they belong to."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.bulk.errors import SourceChangedError, SourceError
from zoo.bulk.shards import Shard, read_vectors
from zoo.bulk.sources import STAMP_BYTES, Record, Source
from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np


HELP = (
    ", unlike when it was embedded. Run again with --update (update=True), which reuses the vectors of all inputs that "
    "stayed the same, or choose another --out"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input: a vector or an error, `reused` where the vector is from before an update."""

    position: int
    record: Record
    vector: "np.ndarray | None"
    error: InputError | None
    reused: bool = False


class Reuse:
    """Vectors of an earlier run, found by the stamp of their input; 16 bytes of memory for each."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        import numpy as np

        self._shards = list(shards)
        self._open: tuple[int, np.ndarray] | None = None
        keys, places = [np.empty((0, 2), np.uint64)], [np.empty((0, 2), np.uint32)]
        for number, shard in enumerate(self._shards):
            stamps = np.frombuffer(shard.stamps, np.uint64).reshape(-1, STAMP_BYTES // 8)
            good = np.ones(len(stamps), bool)
            good[[bad.index - shard.start for bad in shard.bad]] = False
            keys.append(stamps[good])
            rows = np.arange(good.sum(), dtype=np.uint32)
            places.append(np.stack([np.full_like(rows, number), rows], axis=1))
        stamps, order = np.concatenate(keys), np.argsort(np.concatenate(keys)[:, 0], kind="stable")
        self._keys, self._places = stamps[order], np.concatenate(places)[order]

    def find(self, stamp: bytes) -> "np.ndarray | None":
        """The stored vector of the input with this stamp."""
        import numpy as np

        wanted = np.frombuffer(stamp, np.uint64)
        at = int(np.searchsorted(self._keys[:, 0], wanted[0]))
        if at == len(self._keys) or not (self._keys[at] == wanted).all():
            return None
        number, row = (int(n) for n in self._places[at])
        if self._open is None or self._open[0] != number:
            import pyarrow.parquet as pq

            self._open = number, read_vectors(pq.read_table(self._shards[number].path, columns=["vector"]))
        return self._open[1][row].copy()


class Feed:
    """Walks a source beside the shards that exist already.

    Attributes:
        problem: why `values` ended early. An exception raised inside it would surface in whatever thread pulls.
    """

    def __init__(self, source: Source, shards: Sequence[Shard], reuse: Reuse | None = None) -> None:
        self._source = source
        self._shards = shards
        self._reuse = reuse
        self._waiting: deque[tuple[int, Record, np.ndarray | None]] = deque()
        self.problem: Exception | None = None

    def values(self) -> Iterator[Any]:
        """What `encode_stream` reads: a value for each input without a shard, None where none is to be embedded."""
        try:
            for position, record in self.missing():
                reused = self._reuse.find(record.stamp) if self._reuse and record.error is None else None
                self._waiting.append((position, record, reused))
                yield record.value if record.error is None and reused is None else None
        except (SourceError, SourceChangedError, OSError) as error:
            self.problem = error

    def missing(self) -> Iterator[tuple[int, Record]]:
        """The inputs that no shard stands for; raises SourceChangedError where one that has a shard differs now."""
        shards = iter(self._shards)
        shard = next(shards, None)
        position = -1
        for position, record in enumerate(self._source.records()):
            while shard is not None and position >= shard.stop:
                shard = next(shards, None)
            if shard is None or position < shard.start:
                yield position, record
            elif shard.stamp(position) != record.stamp:
                now = f"{record.reference} ({record.error})" if record.error is not None else record.reference
                found = f"{self._source.path} has changed, or is read otherwise: input {position} is now {now}"
                raise SourceChangedError(found + HELP)
        if self._shards and self._shards[-1].stop > position + 1:
            found = (
                f"{self._source.path} has changed: it had {self._shards[-1].stop:,} inputs and has {position + 1:,} now"
            )
            raise SourceChangedError(found + HELP)

    def check(self) -> None:
        """Compares the inputs up to the last shard; raises SourceChangedError."""
        last = self._shards[-1].stop if self._shards else 0
        for position, _ in self.missing():
            if position >= last:
                return

    def resolve(self, encoded: Any) -> "Outcome":
        """The input that a result of `encode_stream` belongs to, with its vector or the reason why it has none."""
        position, record, reused = self._waiting.popleft()
        if record.error is not None:
            return Outcome(position, record, None, record.error)
        if reused is not None:
            return Outcome(position, record, reused, None, reused=True)
        vector = None if encoded.vector is None else encoded.vector.numpy()
        return Outcome(position, record, vector, encoded.error)
