"""Softened labels: some of a row's mass goes to negatives that look right, more as the run goes on (LightCLIP, 2023)."""

from typing import Any

import torch
from torch import Tensor

from .base import register_loss
from .infonce import InfoNCE


@register_loss("softened")
class Softened(InfoNCE):
    """Cross-entropy against (1 - a) * own + a * P, with P the row's softmax over its negatives, without gradient.

    a rises from 0 to `most` over the run. The paper's abstract says so much; the formula is the one consistent with it.

    Args:
        most: a at the end, 0 to below 1; 0 is InfoNCE. options: those of `InfoNCE`.
    """

    reads = frozenset({"progress"})

    def __init__(self, most: float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= most < 1:
            raise ValueError(f"most must be from 0 to below 1, not {most}")
        if self.multi_positive:
            raise ValueError("softened labels have one positive a row: multi_positive=False")
        self.most = most

    def forward(self, queries: Tensor, targets: Tensor, *, progress: float, **extras: Any) -> Tensor:
        """See `InfoNCE.forward`; `progress` is the share of the run that is done."""
        self._share = self.most * progress
        return super().forward(queries, targets, **extras)

    def row_losses(self, logits: Tensor, gold: Tensor, start: int) -> Tensor:
        own = super().row_losses(logits, gold, start)
        if self._share == 0:
            return own
        mass = logits.detach().scatter(1, gold[:, None], -torch.inf).softmax(1).nan_to_num(0.0)
        wrong = (mass * (logits.logsumexp(1, keepdim=True) - logits).masked_fill(mass == 0, 0.0)).sum(1)
        return (1 - self._share) * own + self._share * wrong
