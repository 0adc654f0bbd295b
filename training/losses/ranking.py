"""Ranking with a margin: the right one nearer than the wrong ones by so much (image–text matching, 2015; VSE++, 2018)."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from .base import Loss, check_layout, register_loss
from .row_blocks import in_row_blocks

Negatives = Literal["sum", "max", "semi-hard"]


@register_loss("ranking")
class Ranking(Loss):
    """Hinge max(0, margin - s(q, p) + s(q, n)) over the negatives of both directions, mean over the queries.

    Swapping targets (`forth`) trains the search from queries, swapping queries (`back`) that from targets: the weights
    can specialise a model (Ma, thesis, 2015).

    Args:
        margin: of similarities. negatives: "sum" of all; "max", the hardest alone (VSE++, Faghri et al.); "semi-hard", the
            hardest of those that are further away than the positive (FaceNet, Schroff et al., 2015), the hardest of all
            where there is none.
        forth, back: weights of the directions. block: rows at once; None picks.
    """

    may_read = frozenset({"right", "ignore"})
    similarities = frozenset({"cosine", "dot"})

    def __init__(
        self,
        margin: float = 0.2,
        negatives: Negatives = "sum",
        forth: float = 1.0,
        back: float = 1.0,
        block: int | None = None,
    ) -> None:
        super().__init__()
        if negatives not in ("sum", "max", "semi-hard"):
            raise ValueError(f"negatives must be sum, max or semi-hard, not {negatives!r}")
        if margin < 0 or min(forth, back) < 0 or forth + back == 0:
            raise ValueError(f"margin and weights must not be negative, nor both weights 0: {margin}, {forth}, {back}")
        self.margin, self.negatives, self.forth, self.back, self.block = margin, negatives, forth, back, block

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Mean loss of the queries, in units of the similarity."""
        check_layout(queries, targets)
        count = len(queries)
        ignore, right = extras.get("ignore"), extras.get("right")

        def hinge(start: int, mine: Tensor, columns: Tensor, back: bool) -> Tensor:
            rows = slice(start, start + len(mine))
            gold = torch.arange(start, start + len(mine), device=mine.device)[:, None]
            similarity = mine @ columns.T  # (b, N)
            own = similarity.gather(1, gold)
            # The positive against itself would cost the whole margin in every row, without a gradient.
            gone = torch.zeros_like(similarity, dtype=torch.bool).scatter(1, gold, True)
            if right is not None:
                gone |= right.spared(rows, "positive", "query") if back else right.spared(rows)
            if ignore is not None:
                # `ignore` is (B, B + B·M), queries by targets; backwards it is read by columns, and
                # only positives are rows.
                gone |= ignore[:, rows].T[:, :count] if back else ignore[rows]
            return self._over_negatives(self.margin - own + similarity, similarity >= own, gone)

        def block(start: int, mine: Tensor, partners: Tensor, columns: Tensor, whole: Tensor) -> Iterator[Tensor]:
            if self.forth:
                yield self.forth * hinge(start, mine, columns, back=False)
            if self.back:
                yield self.back * hinge(start, partners, whole, back=True)

        return in_row_blocks(block, (queries, targets), (targets, queries), self.block) / count

    def _over_negatives(self, violation: Tensor, nearer: Tensor, gone: Tensor) -> Tensor:
        """Summed over the rows; `violation` `(b, N)` is margin - s(q, p) + s(q, n)."""
        if self.negatives == "sum":
            return violation.clamp(min=0).masked_fill(gone, 0.0).sum()
        left = violation.masked_fill(gone, -torch.inf)
        hardest = left.amax(1)
        if self.negatives == "semi-hard":
            semi = left.masked_fill(nearer, -torch.inf).amax(1)
            hardest = torch.where(semi > -torch.inf, semi, hardest)
        return hardest.clamp(min=0).sum()
