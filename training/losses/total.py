"""A sum of losses over one batch, each with a weight: `infonce + 0.5 * distillation(space="group")`."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import LossError
from .base import Loss


class Total(Loss):
    """Weighted sum of losses.

    Args:
        terms: weights above 0, and losses.

    Raises:
        LossError: the losses compare different layers, name several teachers, or read other targets.
    """

    similarities = frozenset({"cosine", "dot"})

    def __init__(self, terms: Sequence[tuple[float, Loss]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.terms = nn.ModuleList(loss for _, loss in terms)
        self.take_after(self.terms)
        if self.all_positives and not all(loss.all_positives for loss in self.terms):
            raise LossError(
                "further positives stand among the targets of some of its losses and not of others: multi_positive"
            )

    def forward(self, *batch: Tensor, **extras: Any) -> Tensor:
        """See `Loss.forward`, of rerankers' losses `RerankLoss.forward`; each loss is given what it reads."""
        total = batch[0].new_zeros(())
        for weight, loss in zip(self.weights, self.terms, strict=True):
            # A loss knows its own tensors by name; one of another's would be an argument that it does not expect.
            names = loss.reads | loss.may_read
            mine = loss(*batch, **{name: value for name, value in extras.items() if name in names})
            total = total + (mine if weight == 1 else weight * mine)
        return total
