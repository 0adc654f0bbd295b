"""Focal weights: easy rows count less (KaLM-Embedding-V2, 2025; the focal loss of Lin et al., 2017, on rows)."""

from torch import Tensor

from .base import register_loss_part
from .infonce import InfoNCE
from .parts import Weight


@register_loss_part("focal")
class Focal(Weight):
    """Rows weigh (1 - p)^gamma, p being the probability of the own positive.

    The mean is over the rows, not over their weights: at low temperatures most weights are near 0, and dividing by
    their sum would change the rate of learning.

    Args:
        gamma: 0 leaves the rows as they are. detach_weight: weights carry no gradient.
    """

    def __init__(self, gamma: float = 0.5, detach_weight: bool = False) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must be at least 0, not {gamma}")
        self.gamma, self.detach_weight = gamma, detach_weight

    def check(self, objective: InfoNCE) -> None:
        if objective.multi_positive:
            raise ValueError("focal weights are of rows with one positive: multi_positive=False")

    def of_rows(self, losses: Tensor, rows: slice) -> Tensor | None:
        if self.gamma == 0:
            return None
        # w = (1 - p)^gamma with p = e^(-l), as in Lin et al., 2017. expm1 keeps the digits that 1 -
        # e^(-l) loses for easy rows.
        # 1 - exp(-l), and never exactly 0: the slope of x^0.5 there is infinite.
        missed = -(-(losses.detach() if self.detach_weight else losses)).expm1()
        return missed.clamp(min=1e-12) ** self.gamma
