"""Batches without duplicates: no row is a false negative of another because it holds the same text or picture."""

from typing import Any, Literal

import numpy as np

from ..pairs import Pair
from ..vector_cache import item_key
from .base import BatchSampler, Rows, SamplerError, register_sampler

_ROUNDS = 64  # of exchanges that part rows with a common key
_MOVED = 2  # further rows that change places for each that lies wrong: more mix faster, and part more that lay right
_AT_ONCE = 2**20  # keys sorted at once


@register_sampler("no_duplicates")
class NoDuplicates(BatchSampler):
    """No two rows of a batch have the same query or positive: such a row would be a false negative (GIST, SimCSE).

    A batch is never short and rows are not lost: those that do not fit into one batch lie in another. What an epoch
    leaves out are the fewest rows that fill no batch, drawn anew each time.

    Args:
        by: what must differ: "both", "query" or "positive". Keys that are given count all.

    Raises:
        SamplerError: fewer different keys than a batch has rows.
    """

    def __init__(self, rows: Rows, *, by: Literal["both", "query", "positive"] = "both", **given: Any) -> None:
        super().__init__(rows, **given)
        if by not in ("both", "query", "positive"):
            raise ValueError(f"by must be both, query or positive, not {by!r}")
        keys = pair_keys(rows, by) if rows.keys is None else np.asarray(rows.keys)
        keys = keys.reshape(len(rows), -1)
        self.keys = np.unique(keys, return_inverse=True)[1].reshape(keys.shape)
        bounds = [_most_batches(np.bincount(column), self.batch_size) for column in self.keys.T]
        self.column = int(np.argmin(bounds))
        if min(bounds) == 0:
            different = len(np.unique(self.keys[:, self.column]))
            raise SamplerError(
                f"a batch of {self.batch_size} rows without duplicates needs as many different "
                f"{('queries', 'positives')[self.column] if rows.keys is None and by == 'both' else 'keys'}, and the "
                f"{len(rows)} pairs have {different}; set batch_size to at most {different}, or take another sampler"
            )
        self._bound = min(bounds)
        self.steps_per_epoch = self._bound
        self.steps_per_epoch = len(self.batches(0)) if self.keys.shape[1] > 1 else self._bound

    def draw(self, epoch: int) -> np.ndarray:
        luck = self._random(epoch)
        found = self._arrange(luck)
        # Exchanges may leave a batch more in one epoch than in another; every epoch must have as many as the first.
        while epoch and len(found) < self.steps_per_epoch:
            found = np.concatenate([found, self._arrange(luck)])
        return found[: self.steps_per_epoch]

    def _arrange(self, luck: np.random.Generator) -> np.ndarray:
        table, spare = self._deal(luck)
        wrong = _repeats(self.keys, table)
        for _ in range(_ROUNDS if self.keys.shape[1] > 1 else 0):
            if not wrong.any():
                break
            moved = wrong.ravel().copy()
            moved[luck.integers(len(moved), size=_MOVED * int(wrong.sum()))] = True
            places = np.flatnonzero(moved)
            loose = luck.permutation(np.concatenate([table.ravel()[places], spare]))
            table.ravel()[places], spare = loose[: len(places)], loose[len(places) :]
            touched = np.unique(places // self.batch_size)
            wrong[touched] = _repeats(self.keys, table[touched])
        clean = table[~wrong.any(1)]
        if not len(clean):
            raise SamplerError(
                f"{len(self.data)} pairs with so many common queries and positives give no batch of {self.batch_size} "
                'without duplicates; lower batch_size, or take no_duplicates(by="positive")'
            )
        return clean

    def _deal(self, luck: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Batches without duplicates of one column, and the rows left over.

        The rows of a key lie together, no more than there are batches, and are dealt out like cards: no batch gets two.
        """
        count, column = self._bound, self.keys[:, self.column]
        order = luck.permutation(len(column))
        order = order[np.argsort(luck.permutation(int(column.max()) + 1)[column[order]], kind="stable")]
        sorted_keys = column[order]
        start = np.flatnonzero(np.diff(sorted_keys, prepend=-1))
        nth = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
        dealt = order[nth < count][: count * self.batch_size]
        table = dealt.reshape(self.batch_size, count).T
        left = np.ones(len(order), dtype=bool)
        left[dealt] = False
        return table[luck.permutation(count)].copy(), np.flatnonzero(left)


def _most_batches(counts: np.ndarray, size: int) -> int:
    """The most batches of so many different keys: K where the sum of min(count, K) reaches K·size (Gale–Ryser)."""
    low, high = 0, int(counts.sum()) // size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() >= middle * size else (low, middle - 1)
    return low


def _repeats(keys: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Rows of a batch that share a key with an earlier row of it: `(batches, B)` bool.

    Args:
        keys: `(n, m)` numbers from 0. table: `(batches, B)` rows.
    """
    count, size = table.shape
    columns = keys.shape[1]
    width = size * columns
    wrong = np.zeros((count, size), dtype=bool)
    step = max(1, _AT_ONCE // width)
    for start in range(0, count, step):
        part = table[start : start + step]
        # Key and place in one number: sorting numbers is ten times as fast as sorting by an argument.
        codes = keys[part].reshape(len(part), width) * width + np.arange(width)
        codes.sort(axis=1)
        values, places = np.divmod(codes, width)
        owners = places // columns
        batch, place = np.nonzero((values[:, 1:] == values[:, :-1]) & (owners[:, 1:] != owners[:, :-1]))
        wrong[start + batch, owners[batch, place + 1]] = True
    return wrong


def pair_keys(rows: Rows, by: Literal["both", "query", "positive"] = "both") -> np.ndarray:
    """A number for the content of the query and of the positive of every row: `(n, 2)`, or `(n, 1)` of one."""
    sides = {"both": ("query", "positive")}.get(by, (by,))

    def number(pair: Pair) -> list[int]:
        return [int.from_bytes(item_key(getattr(pair, side))[:8]) >> 1 for side in sides]

    return np.array(rows.read("keys", number), dtype=np.int64)
