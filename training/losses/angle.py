"""AnglE: graded pairs ordered by an angle in the complex plane, whose gradient never fades (Li and Li, 2024)."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.inputs.identity import Right

from .base import Loss, Temperature, check_layout, register_loss
from .cosent import order_loss
from .row_blocks import in_row_blocks


@register_loss("angle")
class AnglE(Loss):
    """CoSENT over `angle_similarity`, plus InfoNCE both ways for the pairs that are graded as the same.

    Where all grades are equal the first part is exactly 0; so is the second where none reaches `positive`. Hard negatives
    are not looked at.

    Args:
        temperature: of both parts, at the start; by default where the stage before ended, else 0.05. learn: whether it is
            trained.
        in_batch: weight of the InfoNCE part. cosine: weight of CoSENT over cosines (the paper's L_cos).
        positive: from which grade on a pair is the same thing; the other pairs only serve as negatives, but for what
            some row of the query has as its other half, whose grade the first part reads.
    """

    reads = frozenset({"scores"})
    hard_negatives = False
    may_read = frozenset({"right"})

    def __init__(
        self,
        temperature: float | None = None,
        learn: bool = False,
        in_batch: float = 1.0,
        cosine: float = 0.0,
        positive: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature = Temperature(
            0.05 if temperature is None else temperature, learn, named=temperature is not None
        )
        self.in_batch, self.cosine, self.positive = in_batch, cosine, positive

    def forward(self, queries: Tensor, targets: Tensor, *, scores: Tensor, **extras: Any) -> Tensor:
        """The loss of the whole batch.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors, the first B of which are the other halves.
            scores: grades `(B,)`, higher is more similar. extras: `right`.
        """
        check_layout(queries, targets)
        right = extras.get("right")
        targets, scale = targets[: len(queries)], self.temperature.scale
        loss = order_loss(angle_similarity(queries, targets), scores, scale)
        if self.cosine:
            loss = loss + self.cosine * order_loss((queries * targets).sum(1), scores, scale)
        if self.in_batch:
            same = (scores >= self.positive).nonzero()[:, 0]
            both = _picks(queries, targets, same, scale, right, "query")
            both = both + _picks(targets, queries, same, scale, right, "positive")
            loss = loss + self.in_batch * both / (2 * max(1, len(same)))
        return loss


def angle_similarity(a: Tensor, b: Tensor) -> Tensor:
    """|sum of the real and imaginary parts of a / b|, halves of a vector being the two parts: `(B, D)` twice → `(B,)`.

    As in the authors' code and in sentence-transformers; equation 3 of the paper has the order of the grades reversed.
    """
    if a.shape[1] % 2:
        a, b = F.pad(a, (0, 1)), F.pad(b, (0, 1))
    (real_a, imaginary_a), (real_b, imaginary_b) = a.chunk(2, 1), b.chunk(2, 1)
    return ((a * b).sum(1) + (imaginary_a * real_b - real_a * imaginary_b).sum(1)).abs()


def _picks(
    rows: Tensor, columns: Tensor, same: Tensor, scale: Tensor, right: Right | None, side: Literal["query", "positive"]
) -> Tensor:
    """Summed cross-entropy of the rows `same` of a side, each of which picks its partner among all columns."""

    def block(start: int, mine: Tensor, gold: Tensor, columns: Tensor, scale: Tensor) -> Tensor:
        logits = scale * mine @ columns.T
        if right is not None:
            gone = right.spared(gold)[:, : len(columns)] if side == "query" else right.spared(gold, side, "query")
            logits = logits.masked_fill(gone.scatter(1, gold[:, None], False), -torch.inf)
        return F.cross_entropy(logits, gold, reduction="sum")

    return in_row_blocks(block, (rows[same], same), (columns, scale))
