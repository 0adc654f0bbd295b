"""Reranking: how high a reranker puts the right document of each query among its candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypedDict

import numpy as np

from zoo.errors import InputError, ScoresMismatchError, TooFewPairsError
from zoo.evaluation.metrics import Difference, Interval, bootstrap, bootstrap_difference
from zoo.evaluation.pairs import numbers, plain
from zoo.inputs.item import Item
from zoo.strangers.schema import wrong

DEPTH = 10  # of the mean reciprocal rank
MEASURES = (f"mrr@{DEPTH}", "accuracy@1")
_MOST = 2**40
Score = Callable[[Sequence[tuple[Item, Item]]], Sequence[float | InputError]]


class Group(NamedTuple):
    """A query, the document that is right for it, and others that are not."""

    query: Item
    positive: Item
    others: Sequence[Item]


class _Facts(TypedDict):
    """`RerankedScores` as JSON has them."""

    rows: list[Any]
    ranks: list[Any]
    candidates: list[Any]
    skipped: list[str]


@dataclass(frozen=True, eq=False)
class RerankedScores:
    """Where the right documents came.

    Attributes:
        rows: `(n,)` which groups they are. ranks: `(n,)` place of the right document, 1 being the best; ties count against it.
        candidates: `(n,)` how many documents were ranked. skipped: what could not be read, and why.
    """

    rows: np.ndarray
    ranks: np.ndarray
    candidates: np.ndarray
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, measure: str) -> np.ndarray:
        """A measure of every group `(n,)`: "mrr@10", 0 below the tenth place, or "accuracy@1", 1 for the first place."""
        if measure == MEASURES[0]:
            return np.where(self.ranks <= DEPTH, 1 / self.ranks, 0.0)
        if measure == MEASURES[1]:
            return (self.ranks == 1).astype(np.float64)
        raise ValueError(f"no measure {measure!r} here; known are {', '.join(MEASURES)}")

    def table(self) -> np.ndarray:
        """All measures `(n, measures)`."""
        return np.stack([self.values(measure) for measure in MEASURES], axis=1)

    def intervals(self) -> dict[str, Interval]:
        """Mean of every measure with its 95 % bootstrap interval over the groups."""
        return dict(zip(MEASURES, bootstrap(self.table()), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, ready for JSON; `from_dict` reads them."""
        return {name: plain(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """The scores that `to_dict` wrote; raises ValueError for anything else."""
        if problem := wrong(facts, _Facts):
            raise ValueError(problem)
        arrays = {name: numbers(facts[name], name, least, _MOST, whole=True) for name, least in _LEAST.items()}
        if shapes := {array.shape for array in arrays.values()} - {(len(facts["rows"]),)}:
            raise ValueError(f"rows, ranks and candidates are not of one length: {sorted(shapes)}")
        if (arrays["ranks"] > arrays["candidates"]).any():
            raise ValueError("a document stands behind the last of its candidates")
        return cls(**arrays, skipped=tuple(facts["skipped"]))


_LEAST = {"rows": 0, "ranks": 1, "candidates": 1}


def evaluate_reranking(score: Score, groups: Sequence[Group]) -> RerankedScores:
    """Ranks the candidates of every group; a group whose query or positive cannot be read is left out, as other candidates are.

    Args:
        score: of pairs, in order, the error in place of one that cannot be read.

    Raises:
        TooFewPairsError: no group could be ranked.
    """
    pairs = [(group.query, document) for group in groups for document in (group.positive, *group.others)]
    found, start = score(pairs), 0
    rows, ranks, candidates, skipped = [], [], [], []
    for row, group in enumerate(groups):
        mine = found[start : start + 1 + len(group.others)]
        start += len(mine)
        skipped += [f"document item {row}: {one}" for one in mine if isinstance(one, InputError)]
        if isinstance(mine[0], InputError):
            continue
        others = [one for one in mine[1:] if not isinstance(one, InputError)]
        rows.append(row)
        # Not "higher than": a model that scores all the same, or NaN, ranks nothing.
        ranks.append(1 + sum(not other < mine[0] for other in others))
        candidates.append(1 + len(others))
    if not rows:
        why = f"; the first of {len(skipped)} reasons: {skipped[0]}" if skipped else ""
        raise TooFewPairsError(f"of {len(groups)} held-out queries none can be ranked{why}")
    return RerankedScores(np.array(rows), np.array(ranks), np.array(candidates), tuple(skipped))


def compare_reranking(before: RerankedScores, after: RerankedScores) -> dict[str, Difference]:
    """How much `after` is above `before`, by measure, with a paired bootstrap over the same groups.

    Raises:
        ScoresMismatchError: the two are not over the same groups and candidates.
    """
    if not (np.array_equal(before.rows, after.rows) and np.array_equal(before.candidates, after.candidates)):
        raise ScoresMismatchError(
            f"{len(before)} queries before, {len(after)} after; evaluate both on the same queries and candidates"
        )
    return dict(zip(MEASURES, bootstrap_difference(before.table(), after.table()), strict=True))
