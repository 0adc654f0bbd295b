"""GIST: a frozen guide decides which candidates may be negatives (GISTEmbed, Solatorio, 2024)."""

from typing import Any, Literal

from torch import Tensor

from .base import register_loss
from .infonce import InfoNCE, Part


@register_loss("gist")
class Gist(InfoNCE):
    """InfoNCE without the candidates that the guide finds nearer to the query than its own positive.

    Args:
        strategy: how `margin` is taken from the guide's similarity t of query and positive: "absolute" removes above
            t - margin, "relative" above t - |t| * margin.
        margin: 0 removes what is nearer than the positive; larger removes more.
        options: those of `InfoNCE`, with the paper's values: temperature 0.01, one direction, and candidates from the
            other queries and the other positives too.
    """

    reads = frozenset({"teacher_queries", "teacher_targets"})
    usual = 0.01

    def __init__(
        self,
        strategy: Literal["absolute", "relative"] = "absolute",
        margin: float = 0.0,
        temperature: float | None = None,
        learn: bool = False,
        symmetric: bool = False,
        query_query: bool = True,
        positive_positive: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            temperature,
            learn,
            symmetric,
            query_query=query_query,
            positive_positive=positive_positive,
            **options,
        )
        if strategy not in ("absolute", "relative"):
            raise ValueError(f"strategy must be absolute or relative, not {strategy!r}")
        self.strategy, self.guide_margin = strategy, margin

    def removed(self, part: Part) -> Tensor:
        scores, own = guided(part)
        margin = self.guide_margin if self.strategy == "absolute" else own.abs() * self.guide_margin
        return scores > own - margin


def guided(part: Part) -> tuple[Tensor, Tensor]:
    """The guide's cosines of the rows with the candidates `(b, N)`, and of each row's query with its positive `(b, 1)`."""
    rows = slice(part.start, part.start + len(part.similarity))
    pairs = part.extras["teacher_queries"][rows] * part.extras["teacher_targets"][rows]
    return part.of_rows("teacher") @ part.of_columns("teacher").T, pairs.sum(1, keepdim=True)
