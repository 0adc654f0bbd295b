"""AnglE: graded pairs ordered by an angle in the complex plane, whose gradient never fades (Li and Li, 2024)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.inputs.identity import Right

from .base import Loss, Temperature, check_layout, register_loss
from .cosent import order_loss
from .parts import Side
from .row_blocks import in_row_blocks


@register_loss("angle")
class AnglE(Loss):
    """CoSENT over `angle_similarity`, plus the pairs that are graded as the same, which pick each other among all else.

    Weights, and the in-batch part, are those of the authors' code (angle_emb/loss.py): every query and every other half of such
    a pair is told apart from all other texts of the batch, queries and other halves, and the sum is over all 2 B. What is as right for
    a text as its own other half is left out, which their code does not know.

    Where all grades are equal the first part is exactly 0; so is the second where none reaches `positive`. Hard negatives
    are not looked at.

    Args:
        temperature: of all parts, at the start; by default where the stage before ended, else 0.05. learn: whether it is
            trained.
        in_batch, angle, cosine: weights of the in-batch part, of the angles, and of CoSENT over cosines (the paper's L_cos).
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
        angle: float = 0.02,
        cosine: float = 0.0,
        positive: float = 1.0,
    ) -> None:
        super().__init__()
        if min(in_batch, angle, cosine) < 0 or not in_batch + angle + cosine > 0:
            raise ValueError(f"weights must not be negative, nor all of them 0: {in_batch}, {angle} and {cosine}")
        self.temperature = Temperature(
            0.05 if temperature is None else temperature, learn, named=temperature is not None
        )
        self.in_batch, self.angle, self.cosine, self.positive = in_batch, angle, cosine, positive

    def forward(self, queries: Tensor, targets: Tensor, *, scores: Tensor, **extras: Any) -> Tensor:
        """The loss of the whole batch.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors, the first B of which are the other halves.
            scores: grades `(B,)`, higher is more similar. extras: `right`.
        """
        check_layout(queries, targets)
        targets, scale = targets[: len(queries)], self.temperature.scale
        loss = self.angle * order_loss(angle_similarity(queries, targets), scores, scale)
        if self.cosine:
            loss = loss + self.cosine * order_loss((queries * targets).sum(1), scores, scale)
        if self.in_batch:
            same = (scores >= self.positive).nonzero()[:, 0]
            picked = _picks(queries, targets, same, scale, extras.get("right"))
            # Over all 2 B rows, as in the authors' code, also those that pick nothing: a batch with few
            # equal pairs weighs less.
            loss = loss + self.in_batch * picked / (2 * len(queries))
        return loss


def angle_similarity(a: Tensor, b: Tensor) -> Tensor:
    """|sum of the real and imaginary parts of a / b|, halves of a vector being the two parts: `(B, D)` twice → `(B,)`.

    As in the authors' code and in sentence-transformers; equation 3 of the paper has the order of the grades reversed.
    """
    # An odd length gets a column of zeros: both halves must pair up, and 0 changes neither sum.
    if a.shape[1] % 2:
        a, b = F.pad(a, (0, 1)), F.pad(b, (0, 1))
    (real_a, imaginary_a), (real_b, imaginary_b) = a.chunk(2, 1), b.chunk(2, 1)
    # (a + bi)(c - di) = (ac + bd) + (bc - ad)i. The authors' code divides by the lengths of z and w;
    # those of unit vectors are 1.
    return ((a * b).sum(1) + (imaginary_a * real_b - real_a * imaginary_b).sum(1)).abs()


def _picks(queries: Tensor, targets: Tensor, same: Tensor, scale: Tensor, right: Right | None) -> Tensor:
    """Summed cross-entropy of the rows `same` of both sides, each of which picks its partner among all vectors but itself."""
    count = len(queries)

    def block(start: int, mine: Tensor, itself: Tensor, whole: Tensor, scale: Tensor) -> Tensor:
        # Vectors 0 to B - 1 are queries, B to 2 B - 1 their other halves: the partner of i is i + B, modulo 2 B.
        logits, gold = scale * mine @ whole.T, (itself + count) % (2 * count)
        gone = torch.zeros_like(logits, dtype=torch.bool)
        if right is not None:
            sides = itself < count, itself >= count
            for rows, side in zip(sides, ("query", "positive"), strict=True):
                gone[rows] = _spared(right, itself[rows] % count, side)
        # The partner stays whatever `right` says of it; a vector itself, cosine 1, must never be a candidate.
        gone = gone.scatter(1, gold[:, None], False).scatter(1, itself[:, None], True)
        return F.cross_entropy(logits.masked_fill(gone, -torch.inf), gold, reduction="sum")

    whole, rows = torch.cat([queries, targets]), torch.cat([same, same + count])
    return in_row_blocks(block, (whole[rows], rows), (whole, scale))


def _spared(right: Right, rows: Tensor, side: Side) -> Tensor:
    """`(b, 2 B)`: queries, then other halves, that are no negatives of these rows of a side."""
    if side == "query":
        return torch.cat([right.spared(rows, "query", "query"), right.spared(rows)[:, : len(right.queries)]], 1)
    return torch.cat([right.spared(rows, "positive", "query"), right.spared(rows, "positive", "positive")], 1)
