"""Stabilised distillation: each candidate beats all that are ranked below it (LLM-Embedder, Zhang et al., 2023)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .base import check_layout, register_loss
from .distillation import check_scores, own_columns
from .infonce import InfoNCE
from .parts import Mask, Part


@register_loss("stable_distillation")
class StableDistillation(InfoNCE):
    """Cross-entropies of a query's candidates in their order, each without the better ones, weighted by reward.

    The positive comes first, then the query's hard negatives by falling score; the g-th is told apart from the lower
    ranked and from all other rows' targets. It learns from in-batch negatives even where the scores are flat.

    Args:
        temperature: at the start, 0.01 by default. learn: whether it is trained; then it begins at the checkpoint's own.
        teacher_temperature: of the softmax that makes weights of the scores.
        infonce: weight of the added InfoNCE.
        block: rows whose similarities are in memory at once; None picks.
    """

    reads = frozenset({"teacher_scores"})
    takes = (Mask,)
    usual = 0.01

    def __init__(
        self,
        temperature: float | None = None,
        learn: bool = False,
        teacher_temperature: float = 1.0,
        infonce: float = 0.0,
        block: int | None = None,
        *,
        parts: Sequence[Part] = (),
    ) -> None:
        super().__init__(temperature, learn, symmetric=False, block=block, parts=parts)
        if not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature must be above 0, not {teacher_temperature}")
        self.teacher_temperature, self.infonce = teacher_temperature, infonce

    def forward(self, queries: Tensor, targets: Tensor, *, teacher_scores: Tensor, **extras: Any) -> Tensor:
        """Mean loss of the queries, in nats.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors `(B + B·M, D)`, positives first.
            teacher_scores: rewards `(B, 1 + M)`, such as a language model's mean log-likelihood of the answer.
            extras: `right`, `ignore`; a candidate that they remove has no term of its own.
        """
        check_layout(queries, targets)
        scores = check_scores(teacher_scores.detach(), targets)
        order = scores[:, 1:].argsort(dim=1, descending=True, stable=True) + 1
        order = torch.cat([order.new_zeros(len(order), 1), order], 1)  # (B, 1 + M), the positive first
        # The hook sees logits only; what it needs of the batch waits here for it.
        self.ranked = own_columns(targets, len(queries)).gather(1, order)
        # w = softmax of the rewards over the group: flat rewards give equal weights, and
        # in-batch negatives still teach.
        self.shares = (scores / self.teacher_temperature).softmax(1).gather(1, order)
        return super().forward(queries, targets, **extras)

    def row_losses(self, logits: Tensor, gold: Tensor, start: int) -> Tensor:
        part = slice(start, start + len(logits))
        ranked, shares = self.ranked[part], self.shares[part]
        own = logits.gather(1, ranked)  # (b, 1 + M)
        others = logits.scatter(1, ranked, -torch.inf).logsumexp(1, keepdim=True)
        # Entry g: log of the sum over the others and over the own candidates from rank g on.
        against = torch.cat([own, others], 1).flip(1).logcumsumexp(1).flip(1)[:, :-1]
        there = own > -torch.inf
        # Cross-entropy g: log(e^own_g + … + e^own_M + Σ others) - own_g. Both branches of `where` get a gradient, so
        # neither may hold an infinity.
        terms = torch.where(there, against - own.masked_fill(~there, 0.0), 0.0)
        losses = (shares * terms).sum(1)
        return losses + self.infonce * super().row_losses(logits, gold, start) if self.infonce else losses
