"""Hardness weights: a negative counts the more, the more similar it is (LLaVE, Lan et al., 2025)."""

from typing import Any

from torch import Tensor

from .base import register_loss
from .infonce import InfoNCE


@register_loss("hardness")
class Hardness(InfoNCE):
    """InfoNCE whose negatives weigh exp(alpha · their similarity), without a gradient through the weight (LLaVE).

    -log(e^(s⁺/t) / (e^(s⁺/t) + Σ e^(alpha·sg(s⁻)) e^(s⁻/t))), s a cosine and sg the stop of its gradient.

    Args:
        alpha: 0 is InfoNCE; LLaVE takes 9. options: those of `InfoNCE`.
    """

    similarities = frozenset({"cosine"})  # alpha is of cosines: e^(alpha · a dot product) has no bound

    def __init__(self, alpha: float = 9.0, **options: Any) -> None:
        super().__init__(**options)
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, not {alpha}")
        if self.multi_positive:
            raise ValueError("hardness weights are of rows with one positive: multi_positive=False")
        self.alpha = alpha

    def row_losses(self, logits: Tensor, gold: Tensor, start: int) -> Tensor:
        similarity = logits.detach() / self.scale.detach()  # of further candidates too
        weights = (self.alpha * similarity).masked_fill(similarity.isinf(), 0.0)
        return super().row_losses(logits + weights.scatter(1, gold[:, None], 0.0), gold, start)
