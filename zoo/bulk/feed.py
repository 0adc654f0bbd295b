"""The two ends of `encode_stream`: records go in as values, vectors come back to the records they belong to."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo.bulk.earlier import Earlier, Found
from zoo.bulk.sources import Record, Source
from zoo.errors import DeletedError, InputError, SourceChangedError, TableError
from zoo.shards.content import UNKNOWN, content_of, state_of
from zoo.shards.deleting import WHY
from zoo.shards.folder import Shard

if TYPE_CHECKING:
    import numpy as np

# Threads that read files for their digests, while others read them for the model: each file comes from the disk once.
_DIGESTING = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input: a vector or an error.

    Attributes:
        content: of what was embedded, `UNKNOWN` where it is not told. moved: whether the vector is an earlier one of an
            input that lay elsewhere; None where it was computed now. silent: whether it is a recording of nothing.
    """

    position: int
    record: Record
    vector: "np.ndarray | None"
    error: InputError | None
    content: bytes = UNKNOWN
    moved: bool | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class _Embedding:
    """An input that is being embedded: its content, and the state of its files before they were read."""

    content: "Future[bytes] | bytes"
    state: tuple[tuple[int, int], ...]

    def told(self, value: Any) -> bytes:
        """The content, unless a file has changed since: the vector may then be of what stood there before, or of half."""
        content = self.content if isinstance(self.content, bytes) else self.content.result()
        return content if state_of(value) == self.state else UNKNOWN


class Feed:
    """Walks a source beside the shards that exist already.

    Attributes:
        problem: why `values` ended early. An exception raised inside it would surface in whatever thread pulls.
    """

    def __init__(self, source: Source, shards: Sequence[Shard], earlier: Earlier | None = None) -> None:
        self._source = source
        self._shards = [shard for shard in shards if not shard.kept]
        self._earlier = earlier
        self._waiting: deque[tuple[int, Record, Found | _Embedding | bytes | None]] = deque()
        self._pool = ThreadPoolExecutor(_DIGESTING, thread_name_prefix="zoo-digest")
        self.problem: Exception | None = None

    def values(self) -> Iterator[Any]:
        """What `encode_stream` reads: a value for each input without a shard, None where none is to be embedded."""
        try:
            for position, record in self._missing():
                record = self._source.looked(record)
                if record.error is not None:
                    self._waiting.append((position, record, None))
                    yield None
                elif (gone := self._deleted(record)) is not None:
                    self._waiting.append((position, replace(record, error=DeletedError(WHY)), gone))
                    yield None
                elif self._earlier is not None and (found := self._earlier.find(record)) is not None:
                    self._waiting.append((position, record, found))
                    yield None
                elif (gone := self._deleted(record, elsewhere=True)) is not None:
                    self._waiting.append((position, replace(record, error=DeletedError(WHY)), gone))
                    yield None
                else:
                    state = state_of(record.value)
                    content = self._pool.submit(content_of, record.value) if state else content_of(record.value)
                    self._waiting.append((position, record, _Embedding(content, state)))
                    yield record.value
        except OSError as error:
            reason = error.strerror or error
            self.problem = TableError(f"{self._source.path} cannot be read any more ({reason}); what was done is kept")
        except (TableError, SourceChangedError) as error:
            self.problem = error
        finally:
            self._pool.shutdown(wait=False)

    def _deleted(self, record: Record, *, elsewhere: bool = False) -> bytes | None:
        """The content of an input that was deleted on purpose, here or under another name; None of any other."""
        if self._earlier is None:
            return None
        return self._earlier.deleted_elsewhere(record) if elsewhere else self._earlier.deleted(record)

    def _missing(self) -> Iterator[tuple[int, Record]]:
        """The inputs that no shard stands for."""
        shards = iter(self._shards)
        shard = next(shards, None)
        position = -1
        for position, record in enumerate(self._source.records()):
            while shard is not None and position >= shard.stop:
                shard = next(shards, None)
            if shard is None or position < shard.start:
                yield position, record
            elif shard.stamp(position) != record.stamp:
                raise SourceChangedError(
                    f"{self._source.path} is being changed: input {position} is now {record.reference}. What was done is "
                    "kept; run the same command again when it is at rest"
                )
            elif self._earlier is not None:
                self._earlier.pass_over(record, shard.content(position))
        if self._shards and self._shards[-1].stop > position + 1:
            raise SourceChangedError(
                f"{self._source.path} is being changed: it had {self._shards[-1].stop:,} inputs and has {position + 1:,} "
                "now. What was done is kept; run the same command again when it is at rest"
            )

    def resolve(self, encoded: Any) -> Outcome:
        """The input that a result of `encode_stream` belongs to, with its vector or the reason why it has none."""
        position, record, waited = self._waiting.popleft()
        if record.error is not None:
            content = waited if isinstance(waited, bytes) else UNKNOWN
            return Outcome(position, record, None, record.error, content)
        if isinstance(waited, Found):
            return Outcome(position, record, waited.vector(), None, waited.content, waited.moved)
        if encoded.error is not None:
            return Outcome(position, record, None, encoded.error)
        return Outcome(position, record, encoded.vector.numpy(), None, waited.told(record.value), silent=encoded.silent)
