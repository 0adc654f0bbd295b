"""The exact scan: many queries against every vector, block by block, keeping the best of each."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from zoo.index.base import as_float

if TYPE_CHECKING:
    import numpy as np

# Rows, and scores of all queries with them, that are in memory together: 128 MB of vectors at 512 dimensions in float32,
# and 8 MB of scores, which stay in the processor's cache while the best are taken.
BLOCK = 65536
SCORES = 1 << 21
FEWEST = 2048  # rows of a block, below which a matrix product loses speed
QUERIES = 1024  # that go through the rows together
# Of a block of which less than this share is kept the rows are copied together; of others all are compared. For one query a
# copy costs as much as to read three times as many rows, for several it saves what a product costs.
SPARSE, SPARSE_OF_MANY = 0.25, 0.75


def scan(
    stored: "np.ndarray", precision: str, keep: "np.ndarray", queries: "np.ndarray", k: int
) -> "list[tuple[np.ndarray, np.ndarray]]":
    """The `k` kept rows with the highest dot products, for each query: their numbers and scores, best first.

    Equal scores keep the order of the rows, whatever the blocks, so that the same search gives the same order.

    Args:
        stored: vectors `(rows, width)` as they are stored in this precision. keep: booleans `(rows,)`.
        queries: float32 `(n, dim)`.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for first in range(0, len(queries), QUERIES):
        found += _scan(stored, precision, keep, queries[first : first + QUERIES], k)
    return found


def _scan(
    stored: "np.ndarray", precision: str, keep: "np.ndarray", queries: "np.ndarray", k: int
) -> "list[tuple[np.ndarray, np.ndarray]]":
    import numpy as np

    best = _Best(len(queries), k)
    size = max(1, min(BLOCK, max(FEWEST, SCORES // len(queries))))
    for start in range(0, len(stored), size):
        kept = keep[start : start + size]
        block, rows = stored[start : start + size], None
        if (count := np.count_nonzero(kept)) == 0:
            continue
        if count < (SPARSE if len(queries) == 1 else SPARSE_OF_MANY) * len(kept):
            rows = np.flatnonzero(kept)
            block = block[rows]
        scores = _products(block, queries, precision)
        if rows is None and count < len(kept):
            np.copyto(scores, -np.inf, where=~kept)
        best.add(scores, start, rows)
    return best.lists()


class _Best:
    """The best rows of each query so far.

    What is no better than a query's k-th is left out by one comparison, so that of most blocks nothing is sorted.
    """

    def __init__(self, queries: int, k: int) -> None:
        import numpy as np

        self.k = k
        self._queries, self._rows, self._scores = (np.empty(0, kind) for kind in (np.int64, np.int64, np.float32))
        self._floors = np.full(queries, -np.inf, np.float32)  # of queries that have k rows, the k-th score

    def add(self, scores: "np.ndarray", start: int, rows: "np.ndarray | None") -> None:
        """Takes the scores `(queries, n)` of rows that come after all those before: `start + rows`, or n from `start` on."""
        import numpy as np

        floors, k = self._floors, self.k
        # A later row that equals the k-th comes after it, so that it need not be looked at.
        better = scores > floors[:, None]
        if np.count_nonzero(better) > 4 * k * len(floors) and scores.shape[1] > k:
            last = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]
            better &= scores >= last[:, None]
        flat = np.flatnonzero(better)
        if not len(flat):
            return
        queries, places = np.divmod(flat, scores.shape[1])
        self._queries = np.concatenate([self._queries, queries])
        self._rows = np.concatenate([self._rows, start + (places if rows is None else rows[places])])
        self._scores = np.concatenate([self._scores, scores.reshape(-1)[flat]])
        self._cut()

    def _cut(self) -> None:
        """Orders by query, score and row, and leaves k rows to each query."""
        import numpy as np

        order = np.lexsort((self._rows, -self._scores, self._queries))
        counts = np.bincount(self._queries, minlength=len(self._floors))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = order[rank < self.k]
        self._queries, self._rows, self._scores = self._queries[order], self._rows[order], self._scores[order]
        full = counts >= self.k
        ends = np.cumsum(np.minimum(counts, self.k))
        self._floors[full] = self._scores[ends[full] - 1]

    def lists(self) -> "list[tuple[np.ndarray, np.ndarray]]":
        """Rows and scores of each query, best first."""
        import numpy as np

        ends = np.cumsum(np.bincount(self._queries, minlength=len(self._floors)))[:-1]
        return list(zip(np.split(self._rows, ends), np.split(self._scores, ends), strict=True))


def _products(block: "np.ndarray", queries: "np.ndarray", precision: str) -> "np.ndarray":
    """Dot products `(queries, rows)`."""
    import numpy as np
    import torch

    if len(queries) == 1:
        return _products_of_one(block, queries[0], precision)[None]
    # torch, not numpy: OpenBLAS threads beside torch's own cost both of them speed.
    matrix = torch.from_numpy(np.ascontiguousarray(as_float(block, precision)))
    return (torch.from_numpy(queries) @ matrix.T).numpy()


def _products_of_one(block: "np.ndarray", query: "np.ndarray", precision: str) -> "np.ndarray":
    """Dot products `(rows,)`, for which memory is the limit: each core reads its share, and none waits in a loop for others.

    `vecdot` works without Python's lock and in one thread; the threads of OpenBLAS and of OpenMP go on spinning after a product, and
    took the cores from each other.
    """
    import numpy as np
    import torch

    threads = min(torch.get_num_threads(), 1 + len(block) // FEWEST)
    scores = np.empty(len(block), np.float32)

    def part(number: int) -> None:
        here = slice(len(block) * number // threads, len(block) * (number + 1) // threads)
        np.vecdot(as_float(block[here], precision), query, out=scores[here])

    if threads == 1:
        part(0)
        return scores
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(threads)))
    return scores
