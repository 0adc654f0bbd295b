"""Hard-negative mixing: new negatives between a query's own ones, made in the loss (KaLM-Embedding-V2, 2025)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import register_loss
from .infonce import InfoNCE


@register_loss("mixing")
class Mixing(InfoNCE):
    """InfoNCE with mixed negatives, each of its own query alone; no further forward pass, the gradient goes through.

    Args:
        pairs: mixtures of two of the row's negatives, weights from Beta(2, 2), at random. They need two negatives.
        lists: mixtures of all of the row's negatives, weighted by a softmax over their similarity to the query: 0 or 1.
        list_temperature: of that softmax. options: those of `InfoNCE`; one direction.
    """

    def __init__(
        self, pairs: int = 1, lists: int = 1, list_temperature: float = 0.05, symmetric: bool = False, **options: Any
    ) -> None:
        super().__init__(symmetric=symmetric, **options)
        if pairs < 0 or lists not in (0, 1):
            raise ValueError(f"pairs must be at least 0 and lists 0 or 1, not {pairs} and {lists}")
        self.pairs, self.lists, self.list_temperature = pairs, lists, list_temperature

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """See `InfoNCE.forward`; raises ValueError where the rows have too few hard negatives to mix."""
        count = len(queries)
        negatives = len(targets) // count - 1
        if negatives < (2 if self.pairs else 1 if self.lists else 0):
            raise ValueError(
                f"mixing needs 2 hard negatives a query, not {negatives}; mine them (zoo mine), or pairs=0"
            )
        self._count = count
        # Drawn once for the batch, so that blocks of any size see the same mixtures.
        self._drawn = [self._draw(count, negatives, queries) for _ in range(self.pairs)]
        return super().forward(queries, targets, **extras)

    def _draw(self, count: int, negatives: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First and second negative of every row `(B,)`, and the weight of the first `(B, 1)`."""
        first = torch.randint(negatives, (count,))
        second = (first + torch.randint(1, negatives, (count,))) % negatives
        share = torch.distributions.Beta(2.0, 2.0).sample((count, 1))
        return first.to(like.device), second.to(like.device), share.to(like)

    def extra_logits(self, start: int, queries: Tensor, targets: Tensor, scale: Tensor) -> Tensor | None:
        rows = slice(start, start + len(queries))
        own = targets[self._count :].view(self._count, -1, targets.shape[1])[rows]  # (b, M, D)
        here = torch.arange(len(queries), device=queries.device)
        mixed = []
        for first, second, share in self._drawn:
            part = share[rows]
            mixed.append(part * own[here, first[rows]] + (1 - part) * own[here, second[rows]])
        if self.lists:
            weights = (torch.einsum("bd,bmd->bm", queries, own) / self.list_temperature).softmax(1)
            mixed.append(torch.einsum("bm,bmd->bd", weights, own))
        if not mixed:
            return None
        return scale * torch.stack([(queries * F.normalize(vector, dim=1)).sum(1) for vector in mixed], 1)
