"""Known: the vectors of earlier runs, found by the place or by the content of their input."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zoo.shards.content import CONTENT_BYTES, STAMP_BYTES, UNKNOWN
from zoo.shards.folder import Shard, read_vectors

if TYPE_CHECKING:
    import numpy as np

# Of shards that are kept open: inputs that have moved are looked up in no order.
_OPEN_BYTES = 256 * 2**20
_WORD = 8


def id_key(name: str) -> int:
    """8 bytes that stand for an id: a set of millions of them is one array."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_WORD).digest(), "little")


def id_keys(shards: Iterable[Shard]) -> "np.ndarray":
    """The keys of the ids of all vectors in these shards, in their order: uint64 `(rows,)`."""
    import numpy as np

    found = [np.empty(0, np.uint64)]
    for shard in shards:
        ids = shard.table(["id"]).column("id").to_pylist()
        found.append(np.fromiter(map(id_key, ids), np.uint64, len(ids)))
    return np.concatenate(found)


class _Lookup:
    """Rows by a key of two words. Of several rows of one key each can be taken once, the one with the same id first."""

    def __init__(self, keys: "np.ndarray", ids: "np.ndarray") -> None:
        import numpy as np

        self._order = np.lexsort((ids, keys[:, 1], keys[:, 0]))
        # Columns of their own: searchsorted would copy a column of a matrix in every call.
        self._first, self._second = keys[self._order, 0], keys[self._order, 1]
        self._ids = ids[self._order]
        self._next: dict[int, int] = {}

    def _range(self, key: bytes) -> tuple[int, int]:
        """Where the rows of a key stand in the order."""
        import numpy as np

        first, second = np.frombuffer(key, np.uint64)
        low = int(self._first.searchsorted(first))
        if low == len(self._first) or self._first[low] != first:
            return low, low
        high = int(self._first.searchsorted(first, "right"))
        within = self._second[low:high]
        return low + int(within.searchsorted(second)), low + int(within.searchsorted(second, "right"))

    def find(self, key: bytes, own: int) -> int | None:
        """A row of this key, the one with this id before others."""
        low, high = self._range(key)
        return None if low == high else int(self._order[self._of_id(low, high, own)])

    def take(self, key: bytes, own: int, taken: "np.ndarray") -> int | None:
        """A row of this key that is not taken yet; it is afterwards."""
        low, high = self._range(key)
        at = self._of_id(low, high, own) if low < high else low
        if low == high or taken[self._order[at]]:
            at = self._next.get(low, low)
            while at < high and taken[self._order[at]]:
                at += 1
            self._next[low] = at
        if at >= high:
            return None
        taken[self._order[at]] = True
        return int(self._order[at])

    def _of_id(self, low: int, high: int, own: int) -> int:
        import numpy as np

        at = low + int(self._ids[low:high].searchsorted(np.uint64(own)))
        return at if at < high and int(self._ids[at]) == own else low


class Known:
    """The vectors in some shards, by the stamps and the contents of their inputs; about 120 bytes of memory for each.

    Attributes:
        ids: keys of the ids `(rows,)`. taken: whether an input of today's source is this row's, `(rows,)`.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        import numpy as np

        self._shards = list(shards)
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        stamps, contents = [np.empty((0, 2), np.uint64)], [np.empty((0, 3), np.uint64)]
        for shard in self._shards:
            good = shard.good()
            stamps.append(np.frombuffer(shard.stamps, np.uint64).reshape(-1, STAMP_BYTES // _WORD)[good])
            contents.append(np.frombuffer(shard.contents, np.uint64).reshape(-1, CONTENT_BYTES // _WORD)[good])
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        self.ids = id_keys(self._shards)
        self.taken = np.zeros(len(self.ids), bool)
        self._contents = np.concatenate(contents)
        self._by_stamp = _Lookup(np.concatenate(stamps), self.ids)
        self._by_content = _Lookup(self._contents[:, 1:], self.ids)
        told = self._contents[:, 1:].any(axis=1)
        self._sizes = np.unique(self._contents[told, 0])
        self._some_ids = np.unique(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def take_stamp(self, stamp: bytes, own: int) -> None:
        """Marks the row of an input that is there as it was."""
        self._by_stamp.take(stamp, own, self.taken)

    def find_stamp(self, stamp: bytes, own: int) -> int | None:
        """The row of an input with this stamp."""
        return self._by_stamp.find(stamp, own)

    def take_content(self, content: bytes, own: int) -> int | None:
        """The row of an input with this content, marked if it is the only use of it; else any that has the same."""
        if content == UNKNOWN or not self.has_size(int.from_bytes(content[:_WORD], "little")):
            return None
        row = self._by_content.take(content[_WORD:], own, self.taken)
        return self._by_content.find(content[_WORD:], own) if row is None else row

    def has_size(self, size: int) -> bool:
        """Whether there is a row with a content of this size: worth asking before a file is read."""
        import numpy as np

        at = int(np.searchsorted(self._sizes, np.uint64(max(size, 0))))
        return size >= 0 and at < len(self._sizes) and int(self._sizes[at]) == size

    def has_id(self, own: int) -> bool:
        """Whether there is a row with this id."""
        import numpy as np

        at = int(np.searchsorted(self._some_ids, np.uint64(own)))
        return at < len(self._some_ids) and int(self._some_ids[at]) == own

    def content(self, row: int) -> bytes:
        """The content of a row's input."""
        return self._contents[row].tobytes()

    def vector(self, row: int) -> "np.ndarray":
        """A stored vector `(length,)`, as it stands in its shard."""
        import numpy as np

        number = int(np.searchsorted(self._starts, row, "right")) - 1
        if number not in self._open:
            self._open[number] = read_vectors(self._shards[number].table(["vector"]))
            while len(self._open) > 1 and sum(matrix.nbytes for matrix in self._open.values()) > _OPEN_BYTES:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number][row - self._starts[number]].copy()
