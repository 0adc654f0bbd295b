"""What int8 costs: hit@1 of held-out pairs in float32 and in int8, paired over the same queries."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ScoresMismatchError
from zoo.evaluation.metrics import bootstrap_difference
from zoo.evaluation.pairs import evaluate_pairs

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.inputs.item import Item

# Of queries with several right answers no more than one can come first: recall@1 would make little of what is lost.
FIGURE = "hit@1"
MOST_LOSS = 0.005  # half a point
FEWEST_QUERIES = 1_000  # of fewer the interval is so wide that it holds 0 whatever was lost


@dataclass(frozen=True)
class Loss:
    """One figure, before and after.

    Attributes:
        dataset, figure: what was measured ("photos", "hit@1 image → text"). queries: how many.
        float32, int8: the shares. low, high: 95 % interval of the paired difference, int8 less float32.
    """

    dataset: str
    figure: str
    queries: int
    float32: float
    int8: float
    low: float
    high: float

    @property
    def accepted(self) -> bool:
        """Whether enough queries were asked, and no loss is seen, or one of half a point at most."""
        lost = self.float32 - self.int8
        return self.queries >= FEWEST_QUERIES and (lost <= MOST_LOSS or self.low <= 0 <= self.high)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, and for the record of the model."""
        return asdict(self)


def loss_of(
    before: "Embedder",
    after: "Embedder",
    queries: "Sequence[Item]",
    targets: "Sequence[Item]",
    groups: Sequence[str] | None = None,
    dataset: str = "pairs",
) -> list[Loss]:
    """hit@1 both ways over pairs, the share of queries whose first result is right, of the model in float32 and in int8.

    Args:
        before, after: in float32 and in int8. queries, targets: row i of both is a pair. groups: of every pair, "" for none.

    Raises:
        TooFewPairsError: nothing can be embedded. ScoresMismatchError: the two cannot embed the same pairs.
    """
    first, second = (evaluate_pairs(model, queries, targets, groups) for model in (before, after))
    query, target = first.sides if first.sides[0] != first.sides[1] else ("query", "positive")
    names = {"forward": f"{query} → {target}", "backward": f"{target} → {query}"}
    found = []
    for way, name in names.items():
        a, b = getattr(first, way), getattr(second, way)
        if a.candidates != b.candidates or not np.array_equal(a.rows, b.rows):
            raise ScoresMismatchError(
                f"{way}: int8 embeds other pairs than float32 does; leave out what one of them refuses"
            )
        hits = [(one.ranks == 1).astype(np.float64)[:, None] for one in (a, b)]
        (difference,) = bootstrap_difference(*hits)
        ends = [float(one.mean()) for one in hits]
        found.append(Loss(dataset, f"{FIGURE} {name}", len(a), *ends, difference.low, difference.high))
    return found
