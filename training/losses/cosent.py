"""CoSENT: pairs graded as more similar are to have the higher cosine (Su, 2022; Huang et al., 2024)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LossError
from .base import Loss, Temperature, check_layout, register_loss


@register_loss("cosent")
class CoSENT(Loss):
    """log(1 + sum of exp((cosine of c,d - cosine of a,b) / temperature)) over all a,b graded above c,d; of vectors with
    norms the dot products stand for the cosines.

    Only the order of the grades matters; a batch of equal grades costs exactly 0. Hard negatives are not looked at.

    Args:
        temperature: at the start; by default where the stage before ended, else 0.05. learn: whether it is trained.
    """

    reads = frozenset({"scores"})
    hard_negatives = False
    similarities = frozenset({"cosine", "dot"})

    def __init__(self, temperature: float | None = None, learn: bool = False) -> None:
        super().__init__()
        self.temperature = Temperature(
            0.05 if temperature is None else temperature, learn, named=temperature is not None
        )

    def forward(self, queries: Tensor, targets: Tensor, *, scores: Tensor, **extras: Any) -> Tensor:
        """The loss of the whole batch.

        Args:
            queries: unit vectors `(B, D)`. targets: unit vectors, the first B of which are the other halves.
            scores: grades `(B,)`, higher is more similar.
        """
        check_layout(queries, targets)
        return order_loss((queries * targets[: len(queries)]).sum(1), scores, self.temperature.scale)


def order_loss(similarity: Tensor, scores: Tensor, scale: Tensor) -> Tensor:
    """log(1 + sum over scores[i] > scores[j] of exp(scale * (similarity[j] - similarity[i]))), in O(B log B).

    Args:
        similarity: what the student says `(B,)`. scores: what is right `(B,)`.
    """
    if scores.shape != similarity.shape:
        raise LossError(f"{len(similarity)} pairs need scores ({len(similarity)},), not {tuple(scores.shape)}")
    # The paper's double sum has B² terms. Sorted by grade it is a running sum: for each pair j, log Σ_i e^(-s_i) over
    # the i graded above it, plus s_j.
    scores, order = scores.sort()
    logits = scale * similarity[order]
    # Entry k: log of the sum of exp(-logit) over the pairs from k on, which are graded as high or higher.
    better = F.pad((-logits).flip(0).logcumsumexp(0).flip(0), (0, 1), value=-torch.inf)
    # right=True skips equal grades: of those neither is to be the nearer.
    first_higher = torch.searchsorted(scores, scores, right=True)  # (B,), B for the highest grade
    # The 0 in front is the 1 of log(1 + …): the loss is 0, not -inf, where nothing is to be ordered.
    return F.pad(logits + better[first_higher], (1, 0)).logsumexp(0)
