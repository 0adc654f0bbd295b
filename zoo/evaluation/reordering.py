"""Reordering: the first candidates of a ranking in another order, such as a reranker's, with places as they then are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.evaluation.ranking import Links, Places

Score = Callable[[Sequence[tuple[int, int]]], np.ndarray]  # pairs of a query and a candidate → `(pairs,)`, NaN for none


@dataclass(frozen=True)
class Reordering:
    """Ranks the first `top` candidates of every query anew; the others keep their places.

    Ties count against the query, as in `zoo.evaluation.ranking`; what has no score stands last among the first.

    Args:
        score: of pairs of numbers of a query and a candidate, higher is better.
    """

    score: Score
    top: int

    def __call__(self, start: int, right: Links, places: Places) -> Places:
        """The places of some queries, of which the first has the number `start`."""
        first, found, top = places.first.copy(), places.right.copy(), places.top.copy()
        width = min(self.top, top.shape[1])
        pairs = [(start + row, int(c)) for row, some in enumerate(top[:, :width]) for c in some if c >= 0]
        scores = iter(np.asarray(self.score(pairs), np.float64).tolist())
        ends = np.searchsorted(right.rows, np.arange(len(top) + 1))
        for row in range(len(top)):
            links = slice(ends[row], ends[row + 1])
            some = top[row, :width][top[row, :width] >= 0]
            told = np.array([next(scores) for _ in some])
            told[np.isnan(told)] = -np.inf
            # The last key counts most: by score, wrong ones before right ones of the same, then as they stood.
            order = np.lexsort((np.arange(len(some)), np.isin(some, right.columns[links]), -told))
            top[row, : len(some)] = some[order]
            place = {int(column): at for at, column in enumerate(some[order], start=1)}
            found[links] = [place.get(int(c), at) for c, at in zip(right.columns[links], found[links], strict=True)]
            inside = [place[int(c)] for c in right.columns[links] if int(c) in place]
            first[row] = min(inside, default=first[row])
        return Places(first, found, top)
