"""Graded pairs: whether those that people call more similar are nearer, Spearman's correlation as in STS."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypedDict

import numpy as np

from zoo.embedder import Embedder
from zoo.errors import ScoresMismatchError, TooFewPairsError
from zoo.evaluation.metrics import Difference, Interval, percentiles, resampled_means
from zoo.evaluation.pairs import Encode, asked_with, embed_sides, numbers, plain
from zoo.inputs.identity import Contents
from zoo.inputs.item import Item
from zoo.spec import need_one_vector
from zoo.strangers.schema import wrong

_RESAMPLES = 2000
_LARGEST = 1e30  # of grades and similarities


class _Facts(TypedDict):
    """`GradedScores` as JSON has them."""

    rows: list[Any]
    grades: list[Any]
    similarity: list[Any]
    skipped: list[str]


@dataclass(frozen=True, eq=False)
class GradedScores:
    """Similarities of graded pairs.

    Attributes:
        rows: `(n,)` which pairs they are. grades: `(n,)` as people gave them. similarity: `(n,)` the model's: cosines, or
            dot products. skipped: what could not be embedded, and why.
    """

    rows: np.ndarray
    grades: np.ndarray
    similarity: np.ndarray
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def spearman(self) -> Interval:
        """The correlation with its 95 % bootstrap interval over the pairs."""
        drawn = correlations(self.grades, self.similarity)
        low, high = percentiles(drawn, 0.95)
        return Interval(spearman(self.grades, self.similarity), float(low[0]), float(high[0]))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, ready for JSON; `from_dict` reads them."""
        return {name: plain(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """The scores that `to_dict` wrote; raises ValueError for anything else."""
        if problem := wrong(facts, _Facts):
            raise ValueError(problem)
        arrays = {name: numbers(facts[name], name, -_LARGEST, _LARGEST) for name in ("grades", "similarity")}
        arrays["rows"] = numbers(facts["rows"], "rows", 0, 2**40, whole=True)
        if shapes := {array.shape for array in arrays.values()} - {(len(facts["rows"]),)}:
            raise ValueError(f"rows, grades and similarity are not of one length: {sorted(shapes)}")
        return cls(**arrays, skipped=tuple(facts["skipped"]))


def evaluate_graded(
    model: Embedder,
    queries: Sequence[Item],
    targets: Sequence[Item],
    grades: Sequence[float],
    *,
    prompts: tuple[str | None, str | None] | None = None,
    encode: Encode | None = None,
) -> GradedScores:
    """Similarities of pairs beside their grades; what cannot be embedded is left out and listed.

    Args:
        queries, targets, grades: row i of each is a pair. prompts: of the queries and the targets, by default the model's
            own by role. encode: in place of `model.encode_stream`.

    Raises:
        TooFewPairsError: none could be embedded, or all grades are equal: there is no order to compare with.
    """
    need_one_vector(model.spec, "the evaluation of pairs")
    contents = Contents()
    numbers = tuple(np.array([contents.number(item) for item in side]) for side in (queries, targets))
    sides, kept = embed_sides(model, (queries, targets), numbers, asked_with(model, prompts), "skip", encode)  # type: ignore[arg-type]
    given = np.asarray(grades, dtype=np.float64)[kept]
    if len(np.unique(given)) < 2:
        raise TooFewPairsError(
            f"the {len(kept)} graded pairs that can be evaluated have one grade; there is no order in them"
        )
    left, right = (side.vectors[side.vector_of[kept]].double() for side in sides)
    skipped = tuple(message for side in sides for message in side.skipped)
    return GradedScores(np.asarray(kept), given, (left * right).sum(1).numpy(), skipped)


def compare_graded(before: GradedScores, after: GradedScores) -> Difference:
    """How much the correlation of `after` is above that of `before`, with a paired bootstrap over the same pairs.

    Raises:
        ScoresMismatchError: the two are not over the same pairs.
    """
    if not np.array_equal(before.rows, after.rows) or not np.array_equal(before.grades, after.grades):
        raise ScoresMismatchError(
            f"{len(before)} graded pairs before, {len(after)} after; evaluate both on the same pairs"
        )
    drawn = correlations(after.grades, after.similarity) - correlations(before.grades, before.similarity)
    low, high = percentiles(drawn, 0.95)
    tails = (np.stack([drawn <= 0, drawn >= 0]).sum(1) + 1) / (len(drawn) + 1)
    change = spearman(after.grades, after.similarity) - spearman(before.grades, before.similarity)
    return Difference(change, float(low[0]), float(high[0]), float(min(1.0, 2 * tails.min())))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two columns, -1 to 1; equal values share the mean of their ranks. 0 of constants."""
    return float(_correlation(_moments(_ranks(a), _ranks(b)).mean(0)[None])[0])


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The correlation `(resamples, 1)` of pairs drawn anew, whose ranks stay those among all pairs."""
    return _correlation(resampled_means(_moments(_ranks(a), _ranks(b)), _RESAMPLES, seed=0))[:, None]


def _moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Centred first: E[x²] - E[x]² of large ranks would lose its digits.
    x, y = x - x.mean(), y - y.mean()
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _correlation(means: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = means.T
    # r = (E[xy] - E[x] E[y]) / √(Var x · Var y), from means alone, so that a resample is one product of matrices.
    spread = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    return np.divide(xy - x * y, spread, out=np.zeros_like(xy), where=spread > 0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, the mean of them where values are equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # A value that stands n times up to rank R has the mean of R - n + 1 … R, which is R - (n - 1) / 2.
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
