"""Position-aware ListMLE: the order of a query's candidates is likely, its top most of all (Lan et al., 2014)."""

from typing import Any

import torch
from torch import Tensor

from .base import register_loss
from .rerank import RerankLoss, exact, present

_LARGEST = 127  # exponent of the first weight's order of magnitude: float32 ends at 2^128


@register_loss("plistmle")
class PListMLE(RerankLoss):
    """-log of the Plackett-Luce likelihood of the candidates in the order of their labels, the first places weighing most.

    sum over places i of rho(i) (log sum over k >= i of exp(z_k) - z_i), rho(i) = 2^(n - i) - 1 divided by its sum over the places,
    mean over the queries: sentence-transformers' `PListMLELoss`. Equal labels stay in the order of the data, the nearest hard
    negative first. A query with a positive alone counts as 0.

    Args:
        weighted: by the place; without it all places weigh 1, as in ListMLE (Xia et al., 2008).
    """

    needs_negatives = True

    def __init__(self, weighted: bool = True) -> None:
        super().__init__()
        self.weighted = weighted

    def forward(self, logits: Tensor, **extras: Any) -> Tensor:
        """Mean loss of the queries, in nats; logits, labels `(B, 1 + M)`."""
        labels = extras["labels"]
        # Empty places have the lowest label, so that they come last.
        order = labels.sort(dim=1, descending=True, stable=True).indices
        there = present(logits, labels).gather(1, order)
        z = exact(logits).gather(1, order)
        z = z.masked_fill(~there, torch.finfo(z.dtype).min)
        # log of what is left to choose from at each place: a cumulative sum from the end.
        left = z.flip(1).logcumsumexp(1).flip(1)
        costs = (left - z).masked_fill(~there, 0.0)
        return (costs * self._weights(there).to(costs)).sum(1).mean()

    def _weights(self, there: Tensor) -> Tensor:
        """Of the places `(B, 1 + M)`, 0 for empty ones."""
        if not self.weighted:
            return there.float()
        count = there.sum(1, keepdim=True)
        rank = torch.arange(1, there.shape[1] + 1, device=there.device)
        # Lists of over 127 are scaled by one factor: the weights' shares stay as they are and float32 holds the sum.
        scale = (count - _LARGEST).clamp(min=0)
        weights = (torch.pow(2.0, count - rank - scale) - torch.pow(2.0, -scale)) * there
        return weights / (weights.sum(1, keepdim=True) + 1e-10)  # as theirs: a list of one has no weight
