"""Hardness weights: a negative counts the more, the more similar it is (LLaVE, Lan et al., 2025)."""

from torch import Tensor

from .base import register_loss_part
from .infonce import InfoNCE
from .parts import Weight


@register_loss_part("hardness")
class Hardness(Weight):
    """Negatives weigh exp(alpha · their similarity), without a gradient through the weight (LLaVE).

    -log(e^(s⁺/t) / (e^(s⁺/t) + Σ e^(alpha·sg(s⁻)) e^(s⁻/t))), s a cosine and sg the stop of its gradient.

    Args:
        alpha: 0 weighs all alike; LLaVE takes 9.
    """

    similarities = frozenset({"cosine"})  # alpha is of cosines: e^(alpha · a dot product) has no bound

    def __init__(self, alpha: float = 9.0) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, not {alpha}")
        self.alpha = alpha

    def check(self, objective: InfoNCE) -> None:
        if objective.multi_positive:
            raise ValueError("hardness weights are of rows with one positive: multi_positive=False")

    def of_candidates(self, logits: Tensor, gold: Tensor, scale: Tensor) -> Tensor | None:
        if self.alpha == 0:
            return None
        similarity = logits.detach() / scale  # of further candidates too
        # log e^(alpha · s) = alpha · s. What the masks left out is -inf already and needs no weight.
        weights = (self.alpha * similarity).masked_fill(similarity.isinf(), 0.0)
        # The positive's own term has weight e^0 = 1.
        return weights.scatter(1, gold[:, None], 0.0)
