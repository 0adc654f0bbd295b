"""Exact rankings of any size: which place every right candidate has among all, in blocks of bounded memory.

Similarities are of float32. What is nearer to a right candidate than their rounding can tell is compared once more in float64, so
that places depend on the vectors alone: not on blocks, threads or the library that multiplies.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from zoo.errors import NoRightAnswerError, VectorError

QUERIES, TILE = 1024, 4096  # of a block: 16 MB of similarities
_MANY = 50  # of so many candidates more than one is right
_STRIP = 256  # candidates that are looked through for what is too near to tell
_SPARE = 22  # wrong candidates kept beyond the depth: near ties among them do not make a row unclear
_TOGETHER = 4096  # pairs of vectors that are multiplied in float64 at once
_HALF = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}  # relative error of one rounding


class Links(NamedTuple):
    """Pairs of a query and a candidate, each once, in the order of the queries: `(n,)` both."""

    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray) -> Self:
        """From pairs in any order, some of them several times."""
        rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
        span = int(columns.max(initial=0)) + 1
        # A pair as one number: sorted by it, pairs stand by row and then by column, and each once.
        return cls(*np.divmod(np.unique(rows * span + columns), span))

    def counts(self, rows: int) -> np.ndarray:
        """How many each of so many queries has `(rows,)`."""
        return np.bincount(self.rows, minlength=rows)

    def part(self, start: int, stop: int) -> "Links":
        """Those of the queries from `start` to `stop`, counted from `start`."""
        first, last = np.searchsorted(self.rows, (start, stop))
        return Links(self.rows[first:last] - start, self.columns[first:last])


class Places(NamedTuple):
    """What `places_of` finds.

    Attributes:
        first: `(queries,)` place of the first right candidate, 1 being the best. right: `(links,)` place of every right one, 0 where
            that is beyond the depth. top: `(queries, depth)` the best candidates, best first; -1 where there are fewer.
    """

    first: np.ndarray
    right: np.ndarray
    top: np.ndarray


def places_of(
    queries: Tensor, candidates: Tensor, right: Links, left_out: Links | None = None, *, depth: int = 10
) -> Places:
    """Ranks all candidates for every query by their dot product, as `places_by_block` does.

    Args:
        right: at least one for each query. left_out: what is not ranked for a query, such as itself; no right one.
    """
    none = left_out or Links.of(np.zeros(0), np.zeros(0))
    blocks = places_by_block(queries, candidates, lambda *ends: (right.part(*ends), none.part(*ends)), depth=depth)
    return Places(*(np.concatenate(parts) for parts in zip(*(places for _, places in blocks), strict=True)))


def places_by_block(
    queries: Tensor, candidates: Tensor, links: Callable[[int, int], tuple[Links, Links]], *, depth: int = 10
) -> Iterator[tuple[Links, Places]]:
    """Ranks all candidates for some queries at a time, in order, by their dot product.

    Ties count against the query: a right candidate is passed over by every wrong one of equal similarity.

    Args:
        queries: `(Q, dim)` float. candidates: `(N, dim)` float; of a file that is mapped into memory a block at a time is read.
        links: of the queries from a start to a stop, counted from the start: what is right, at least one for each; and what is not
            ranked, such as the query itself, none of it right.
        depth: up to which place they are told.

    Yields:
        What is right in a block, and its places.

    Raises:
        NoRightAnswerError: a query without a right candidate. VectorError: NaN or infinity among the vectors, or none at all.
    """
    if len(queries) == 0 or len(candidates) == 0:
        raise VectorError(f"{len(queries):,} queries and {len(candidates):,} candidates; a ranking needs both")
    largest = _largest(candidates, "candidate")
    _largest(queries, "query")
    for start in range(0, len(queries), QUERIES):
        stop = min(start + QUERIES, len(queries))
        right, left_out = links(start, stop)
        if len(bare := np.flatnonzero(right.counts(stop - start) == 0)):
            raise NoRightAnswerError(f"query {start + bare[0]} has no right candidate; leave it out, or name one")
        block = _Block(queries[start:stop].float(), candidates, right, left_out, depth, largest)
        yield right, block.ranked()


def _largest(vectors: Tensor, what: str) -> float:
    """The largest norm of vectors; raises VectorError where one is not finite."""
    most = 0.0
    for start in range(0, len(vectors), TILE):
        norms = vectors[start : start + TILE].double().norm(dim=1)
        if not bool(norms.isfinite().all()):
            at = start + int((~norms.isfinite()).nonzero()[0])
            raise VectorError(f"the vector of {what} {at} holds NaN or infinity; nothing can be ranked by it")
        most = max(most, float(norms.max()))
    return most


class _Block:
    """Some queries, and what is known of all candidates so far."""

    def __init__(
        self, queries: Tensor, candidates: Tensor, right: Links, left_out: Links, depth: int, largest: float
    ) -> None:
        self.queries, self.candidates, self.right, self.depth = queries, candidates, right, depth
        both = (np.concatenate(parts) for parts in zip(right, left_out, strict=True))
        rows, columns = both
        order = np.argsort(columns, kind="stable")
        self.hidden = Links(rows[order], columns[order])  # here in the order of the candidates
        # With many right ones it is quicker to multiply all.
        self.dense = len(right.rows) > len(queries) * len(candidates) // _MANY
        self.exact = self._all_dots() if self.dense else _dots(queries, candidates, right)  # (links,) float64
        # `(queries,)` the similarity of each query's nearest right candidate, whose place is 1 + the wrong ones as near.
        self.best = np.full(len(queries), -np.inf)
        np.maximum.at(self.best, right.rows, self.exact)
        norms = queries.double().norm(dim=1).numpy() * largest * (queries.shape[1] + 2)
        # How far a sum of products may lie from the true one (Higham, 2002, eq. 3.5): |fl(x·y) - x·y| ≤ n u |x| |y|,
        # nearly, with u the error of one rounding.
        self.error = norms * _HALF[torch.float32] * 1.01
        # Two float64 sums nearer than this may be equal in truth: that is a tie, and counts against the query.
        self.tie = norms * _HALF[torch.float64] * 2

    def ranked(self) -> Places:
        """The places of these queries."""
        if self.dense:
            self.error = self.tie
            above, wrong, columns = self._pass(torch.float64, min(self.depth, len(self.candidates)))
            return Places(1 + above, self._places(wrong), self._top(wrong, columns))
        width = min(self.depth + _SPARE, len(self.candidates))
        above, values, columns = self._pass(torch.float32, width)
        exact = self._exact(columns)
        order = np.argsort(-exact, axis=1, kind="stable")[:, : self.depth]
        wrong, columns = np.take_along_axis(exact, order, 1), np.take_along_axis(columns, order, 1)
        if width < len(self.candidates):  # is something that was not kept as near as the last that counts?
            beyond = values[:, -1] + 2 * self.error >= wrong[:, -1]
            if len(unclear := np.flatnonzero(beyond & np.isfinite(values[:, -1]))):
                self._again(unclear, above, wrong, columns)
        return Places(1 + above, self._places(wrong), self._top(wrong, columns))

    def _again(self, rows: np.ndarray, above: np.ndarray, wrong: np.ndarray, columns: np.ndarray) -> None:
        """Ranks some queries in float64 throughout, and writes what it finds into the arrays."""
        part = _Block.__new__(_Block)
        place = np.full(len(self.queries), -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.hidden.rows] >= 0
        part.queries, part.candidates = self.queries[torch.from_numpy(rows)], self.candidates
        part.hidden = Links(place[self.hidden.rows[kept]], self.hidden.columns[kept])
        part.best, part.error, part.tie, part.depth = self.best[rows], self.tie[rows], self.tie[rows], self.depth
        above[rows], values, found = part._pass(torch.float64, wrong.shape[1])
        wrong[rows], columns[rows] = values, found

    def _tile(self) -> int:
        """How many candidates are compared at once: of few queries more."""
        return min(max(TILE, QUERIES * TILE // max(len(self.queries), 1) // 4), len(self.candidates))

    def _all_dots(self) -> np.ndarray:
        """`_dots` of the right ones, by multiplying everything."""
        found, tile, queries = np.empty(len(self.right.rows)), self._tile(), self.queries.double()
        for start in range(0, len(self.candidates), tile):
            similarity = queries @ self.candidates[start : start + tile].double().T
            here = (self.right.columns >= start) & (self.right.columns < start + tile)
            found[here] = similarity.numpy()[self.right.rows[here], self.right.columns[here] - start]
        return found

    def _pass(self, dtype: torch.dtype, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each query how many wrong candidates are at least as near as its best right one, and the `width` nearest wrong ones:
        similarities and columns, -inf and -1 where there are fewer."""
        queries, count = self.queries.to(dtype), len(self.queries)
        # Below low a candidate is surely farther than the best right one, above high surely nearer; what lies between
        # is computed again in float64.
        low, high = (torch.from_numpy(self.best + sign * self.error)[:, None] for sign in (-1, 1))
        if dtype == torch.float32:  # rounded away from the best
            low, high = (
                torch.nextafter(edge.float(), torch.tensor(sign * torch.inf)) for edge, sign in ((low, -1), (high, 1))
            )
        above = np.zeros(count, np.int64)
        values, columns = torch.full((count, width), -torch.inf, dtype=dtype), torch.full((count, width), -1)
        tile = self._tile()
        found, buffer = torch.empty(2, count * tile, dtype=dtype)
        for start in range(0, len(self.candidates), tile):
            stop = min(start + tile, len(self.candidates))
            similarity = found[: count * (stop - start)].view(count, stop - start)
            torch.mm(queries, self.candidates[start:stop].to(dtype).T, out=similarity)
            first, last = np.searchsorted(self.hidden.columns, (start, stop))
            similarity[self.hidden.rows[first:last], self.hidden.columns[first:last] - start] = -torch.inf
            most = similarity.amax(1, keepdim=True)
            near = (most >= low).flatten().nonzero().flatten()
            # A tile without a candidate near the best changes no place: most are passed over here.
            if len(near):
                above += self._above(similarity, near, low, high, start, buffer, dtype)
            better = (most > values[:, -1:]).flatten().nonzero().flatten()
            if len(better):
                best = similarity[better].topk(min(width, stop - start), dim=1)
                joined = torch.cat([values[better], best.values], 1).topk(width, dim=1)
                places = torch.cat([columns[better], best.indices + start], 1).gather(1, joined.indices)
                values[better], columns[better] = joined.values, places.masked_fill(joined.values.isneginf(), -1)
        return above, values.double().numpy(), columns.numpy()

    def _above(
        self,
        similarity: Tensor,
        near: Tensor,
        low: Tensor,
        high: Tensor,
        start: int,
        buffer: Tensor,
        dtype: torch.dtype,
    ) -> np.ndarray:
        """How many of a tile's candidates are at least as near as the best right one, of every query `(queries,)`."""
        found = np.zeros(len(self.queries), np.int64)
        if 2 * len(near) > len(similarity):  # nearly all: without a copy
            near, part = torch.arange(len(similarity)), similarity
        else:
            part = similarity[near]
        # Counted as sums of floats: several times as fast as of booleans, and exact up to 16 million.
        strip = _STRIP if part.shape[1] % _STRIP == 0 else part.shape[1]
        flags, strips = buffer[: part.numel()].view(part.shape), (len(part), -1, strip)
        # Sure and unclear ones together; the sure ones alone are counted below.
        least = torch.ge(part, low[near], out=flags).view(strips).sum(2)
        if dtype == torch.float64:
            found[near.numpy()] = least.sum(1).numpy()
            return found
        sure = torch.gt(part, high[near], out=flags).view(strips).sum(2)
        found[near.numpy()] = sure.sum(1).numpy()
        if len(unclear := (least > sure).nonzero()):  # row and strip
            rows, some = near[unclear[:, 0]], part.view(strips)[unclear[:, 0], unclear[:, 1]]
            inside = ((some >= low[rows]) & (some <= high[rows])).nonzero()
            columns = start + unclear[inside[:, 0], 1] * strip + inside[:, 1]
            close = Links(rows[inside[:, 0]].numpy(), columns.numpy())
            right = _dots(self.queries, self.candidates, close) >= (self.best - self.tie)[close.rows]
            np.add.at(found, close.rows, right)
        return found

    def _exact(self, columns: np.ndarray) -> np.ndarray:
        """Similarities in float64 of candidates `(queries, width)`; -inf where there is none."""
        rows = np.repeat(np.arange(len(columns)), columns.shape[1])
        there = columns.ravel() >= 0
        exact = np.full(columns.size, -np.inf)
        exact[there] = _dots(self.queries, self.candidates, Links(rows[there], columns.ravel()[there]))
        return exact.reshape(columns.shape)

    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """The links, the nearest of each query first, and how many of its own stand before each in this order."""
        order = np.lexsort((-self.exact, self.right.rows))
        rows = self.right.rows[order]
        return order, np.arange(len(rows)) - np.searchsorted(rows, rows)

    def _places(self, wrong: np.ndarray) -> np.ndarray:
        """The place of every right candidate, 0 beyond the depth.

        Args:
            wrong: `(queries, depth)` the largest similarities of wrong ones.
        """
        order, before = self._order()
        places = np.zeros(len(order), np.int64)
        for some in _parts(np.flatnonzero(before < self.depth)):
            link, rows = order[some], self.right.rows[order[some]]
            # place = 1 + right ones before it + wrong ones that are as near: (some, depth) bool, summed by row.
            nearer = wrong[rows] >= (self.exact[link] - self.tie[rows])[:, None]
            place = 1 + before[some] + nearer.sum(1)
            places[link] = np.where(place <= self.depth, place, 0)
        return places

    def _top(self, wrong: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The best candidates of every query, right and wrong, `(queries, depth)`."""
        order, before = self._order()
        kept = before < self.depth
        link, rows, at = order[kept], self.right.rows[order[kept]], before[kept]
        similarity = np.full((len(self.queries), self.depth), -np.inf)
        best = np.full((len(self.queries), self.depth), -1)
        similarity[rows, at] = self.exact[link] - self.tie[rows]  # which is passed over by equal wrong ones
        best[rows, at] = self.right.columns[link]
        joined = np.concatenate([wrong, similarity], 1)
        first = np.argsort(-joined, axis=1, kind="stable")[:, : self.depth]
        return np.take_along_axis(np.concatenate([columns, best], 1), first, 1)


def _dots(queries: Tensor, candidates: Tensor, links: Links) -> np.ndarray:
    """Dot products in float64 of pairs `(links,)`; products of float32 numbers are exact there."""
    found = np.empty(len(links.rows))
    for some in _parts(np.arange(len(links.rows))):
        rows, columns = (torch.from_numpy(np.ascontiguousarray(part[some])) for part in links)
        found[some] = (queries[rows].double() * candidates[columns].double()).sum(1).numpy()
    return found


def _parts(numbers: np.ndarray) -> Iterator[np.ndarray]:
    yield from (numbers[start : start + _TOGETHER] for start in range(0, len(numbers), _TOGETHER))
