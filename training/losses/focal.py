"""Focal weights: easy rows count less (KaLM-Embedding-V2, 2025; the focal loss of Lin et al., 2017, on rows)."""

from typing import Any

from torch import Tensor

from .base import register_loss
from .infonce import InfoNCE


@register_loss("focal")
class Focal(InfoNCE):
    """InfoNCE whose rows weigh (1 - p)^gamma, p being the probability of the own positive.

    The mean is over the rows, not over their weights: at low temperatures most weights are near 0, and dividing by
    their sum would change the rate of learning.

    Args:
        gamma: 0 is InfoNCE. detach_weight: weights carry no gradient. options: those of `InfoNCE`.
    """

    def __init__(self, gamma: float = 0.5, detach_weight: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if gamma < 0:
            raise ValueError(f"gamma must be at least 0, not {gamma}")
        if self.multi_positive:
            raise ValueError("focal weights are of rows with one positive: multi_positive=False")
        self.gamma, self.detach_weight = gamma, detach_weight

    def row_losses(self, logits: Tensor, gold: Tensor, start: int) -> Tensor:
        losses = super().row_losses(logits, gold, start)
        if self.gamma == 0:
            return losses
        # 1 - exp(-l), and never exactly 0: the slope of x^0.5 there is infinite.
        missed = -(-(losses.detach() if self.detach_weight else losses)).expm1()
        return losses * missed.clamp(min=1e-12) ** self.gamma
