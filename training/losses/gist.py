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
        contrast_queries, contrast_positives: the other queries, and the other positives of the own positive, are
            candidates too, as in the paper.
        options: those of `InfoNCE`; temperature 0.01 and one direction, as in the paper.
    """

    reads = frozenset({"teacher_queries", "teacher_targets"})

    def __init__(
        self,
        strategy: Literal["absolute", "relative"] = "absolute",
        margin: float = 0.0,
        contrast_queries: bool = True,
        contrast_positives: bool = True,
        temperature: float = 0.01,
        learn: bool = False,
        symmetric: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            temperature=temperature,
            learn=learn,
            symmetric=symmetric,
            query_query=contrast_queries,
            positive_positive=contrast_positives,
            **options,
        )
        if strategy not in ("absolute", "relative"):
            raise ValueError(f"strategy must be absolute or relative, not {strategy!r}")
        self.strategy, self.guide_margin = strategy, margin

    def removed(self, part: Part) -> Tensor:
        own = self.guide_of_pairs(part)
        margin = self.guide_margin if self.strategy == "absolute" else own.abs() * self.guide_margin
        return part.of_rows("teacher") @ part.of_columns("teacher").T > own - margin

    @staticmethod
    def guide_of_pairs(part: Part) -> Tensor:
        """The guide's cosine of each row's query with its positive `(b, 1)`."""
        rows = slice(part.start, part.start + len(part.similarity))
        queries, targets = part.extras["teacher_queries"][rows], part.extras["teacher_targets"][rows]
        return (queries * targets).sum(1, keepdim=True)
