"""Batches without duplicates: no row is a false negative of another because it holds the same text or image."""

import hashlib
from typing import Any, Literal

import numpy as np

from zoo.inputs.identity import Contents
from zoo.tables.pairs import Pair

from ..errors import SamplerError
from .base import BatchSampler, Rows, register_sampler

_MOVED = 1  # further rows that change places for each that lies wrong: more mix faster, and part more that lay right
_FREQUENT = 64  # a key that more than one in so many batches holds
_OPEN = 64  # batches that are filled at once
_PATIENCE = 12  # rounds of exchanges without a gain
_AT_ONCE = 2**20  # keys sorted at once
_SIDES = {"both": ("queries", "positives"), "query": ("queries",), "positive": ("positives",)}


@register_sampler("no_duplicates")
class NoDuplicates(BatchSampler):
    """No two rows of a batch have the same query or positive: such a row would be a false negative (GIST, SimCSE).

    A batch is never short and rows are not lost: those that do not fit into one batch lie in another. What an epoch
    leaves out is drawn anew each time; with one key per row it is the least that any sampler could leave out.

    Args:
        by: what must differ: "both", "query" or "positive". Keys that are given count all.

    Raises:
        SamplerError: fewer different keys than a batch has rows.
    """

    def __init__(self, rows: Rows, *, by: Literal["both", "query", "positive"] = "both", **given: Any) -> None:
        super().__init__(rows, **given)
        if by not in _SIDES:
            raise ValueError(f"by must be both, query or positive, not {by!r}")
        keys = pair_keys(rows, by) if rows.keys is None else np.asarray(rows.keys)
        keys = keys.reshape(len(rows), -1)
        self.keys = np.unique(keys, return_inverse=True)[1].reshape(keys.shape)
        bounds = self._bounds(self.keys)
        if min(bounds) == 0:
            different = len(np.unique(self.keys[:, int(np.argmin(bounds))]))
            raise SamplerError(
                f"a batch of {self.batch_size} rows without duplicates needs as many different "
                f"{'keys' if rows.keys is not None else _SIDES[by][int(np.argmin(bounds))]}, and the {len(rows)} pairs have "
                f"{different}; set batch_size to at most {different}, or take another sampler"
            )
        self.steps_per_epoch = min(bounds)
        if self.keys.shape[1] > 1:
            self.steps_per_epoch = len(self._arrange(self._random(0)))

    def draw(self, epoch: int) -> np.ndarray:
        rng = self._random(epoch)
        found = self._arrange(rng)
        # With two keys an epoch may give a batch more or less than another; each must have as many as the first.
        while len(found) < self.steps_per_epoch:
            found = np.concatenate([found, self._arrange(rng)])
        return found[: self.steps_per_epoch]

    def _bounds(self, keys: np.ndarray) -> list[int]:
        return [_most_batches(np.bincount(column), self.batch_size) for column in keys.T]

    def _arrange(self, rng: np.random.Generator) -> np.ndarray:
        """As many batches without duplicates as can be found `(k, B)`; more than none."""
        bounds = self._bounds(self.keys)
        column, count = int(np.argmin(bounds)), min(bounds)
        slots = _deal(self.keys[:, column], count, self.batch_size, rng)
        wrong = self._part(slots, count, self.keys[slots, column], rng)
        batches = slots[: wrong.size].reshape(wrong.shape)
        clean = ~wrong.any(1)
        if not clean.all():
            rest = rng.permutation(np.concatenate([batches[~clean].ravel(), slots[wrong.size :]]))
            batches = rng.permutation(np.concatenate([batches[clean], _fill(rest, self.keys, self.batch_size)]))
        if not len(batches):
            raise SamplerError(
                f"{len(self.data)} pairs with so many common queries and positives give no batch of {self.batch_size} "
                'without duplicates; lower batch_size, or take no_duplicates(by="positive")'
            )
        return batches

    def _part(self, slots: np.ndarray, count: int, dealt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Exchanges rows of `slots`, in place, until no batch has duplicates, or that does not help any more.

        A row with a frequent key changes places with rows of the same key alone: what was dealt stays right.

        Returns:
            `(count, B)` bool, rows that still are duplicates.
        """
        table = slots[: count * self.batch_size].reshape(count, self.batch_size)  # a view
        wrong = _repeats(self.keys, table)
        if not wrong.any():
            return wrong
        frequent = np.bincount(dealt) * _FREQUENT > count
        # Group 0 holds all rows with rare keys, which may go anywhere; a frequent key is a group of its own.
        groups = np.where(frequent[dealt], dealt + 1, 0)
        order = np.argsort(groups, kind="stable")
        sizes = np.bincount(groups)
        starts, best, since = np.cumsum(sizes) - sizes, wrong.sum(), 0
        while best and since < _PATIENCE:
            bad = np.flatnonzero(wrong)
            own = np.repeat(groups[bad], _MOVED)
            # Of the row's own group one at random: its start + u · its size, u in [0, 1).
            partners = order[starts[own] + (rng.random(len(own)) * sizes[own]).astype(np.int64)]
            places = np.unique(np.concatenate([bad, partners]))
            kinds = groups[places]
            # Sorted by group, and sorted by group + u: the same groups in the same stretches, shuffled within.
            places, mixed = (places[np.argsort(k, kind="stable")] for k in (kinds, kinds + rng.random(len(places))))
            slots[places] = slots[mixed]
            # Places beyond are the rows left over, which lie in no batch.
            touched = np.unique(places[places < wrong.size] // self.batch_size)
            wrong[touched] = _repeats(self.keys, table[touched])
            since = 0 if wrong.sum() < best else since + 1
            best = min(best, wrong.sum())
        return wrong


def _deal(keys: np.ndarray, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """All rows in a new order: `count` batches of `size` without a common key, then what is left over.

    The rows of a key lie together, no more than there are batches, and are dealt out like cards: no batch gets two.
    """
    order = rng.permutation(len(keys))
    order = order[np.argsort(rng.permutation(int(keys.max()) + 1)[keys[order]], kind="stable")]
    start = np.flatnonzero(np.diff(keys[order], prepend=-1))
    # 0, 1, 2, ... among the rows of a key; from `count` on a batch would get a second one.
    nth = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    dealt = order[nth < count][: count * size]
    left = np.ones(len(order), dtype=bool)
    left[dealt] = False
    # Column k of the (size, count) table is what batch k was dealt, a card a round.
    return np.concatenate([rng.permutation(dealt.reshape(size, count).T).ravel(), np.flatnonzero(left)])


def _fill(rows: np.ndarray, keys: np.ndarray, size: int) -> np.ndarray:
    """Batches `(k, size)` for the rows that are hard to place: each goes to the first open batch that it fits into.

    A row that fits none waits for the next ones to be opened. Slow, some microseconds a row, and finds what is there.
    """
    batches: list[list[int]] = []
    open_ones: list[tuple[list[int], set[int]]] = [([], set()) for _ in range(_OPEN)]
    waiting, placed = list(zip(rows.tolist(), map(set, keys[rows].tolist()), strict=True)), True
    while waiting and placed:
        turn, waiting, placed = waiting, [], False
        for row, own in turn:
            for place, (batch, taken) in enumerate(open_ones):
                if taken.isdisjoint(own):
                    batch.append(row)
                    taken |= own
                    placed = True
                    if len(batch) == size:
                        batches.append(batch)
                        del open_ones[place]
                        open_ones.append(([], set()))
                    break
            else:
                waiting.append((row, own))
    return np.array(batches, dtype=np.int64).reshape(-1, size)


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
    sides, contents = {"both": ("query", "positive")}.get(by, (by,)), Contents()

    def number(pair: Pair) -> list[int]:
        numbers = [contents.number(getattr(pair, side)) for side in sides]
        return [_number(contents.keys[number]) for number in numbers]

    return np.array(rows.read("keys", number), dtype=np.int64)


def _number(key: bytes) -> int:
    """A key as a positive int64. It is hashed once more: keys of contents that cannot be told all begin alike."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) >> 1
