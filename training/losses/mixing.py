"""Hard-negative mixing: new negatives between a query's own ones, made in the loss (KaLM-Embedding-V2, 2025)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LossError
from .base import check_layout, register_loss
from .infonce import InfoNCE


@register_loss("mixing")
class Mixing(InfoNCE):
    """InfoNCE with mixed negatives, each of its own query alone; no further forward pass, the gradient goes through.

    A negative that is right for the query after all, or one that `ignore` names, is never mixed; a row with one negative
    has no mixture of two.

    Args:
        pairs: mixtures of two of the row's negatives, weights from Beta(2, 2), at random. They need two negatives.
        lists: mixtures of all of the row's negatives, weighted by a softmax over their similarity to the query: 0 or 1.
        list_temperature: of that softmax. options: those of `InfoNCE`; one direction.
    """

    may_read = InfoNCE.may_read | {"empty"}
    similarities = frozenset({"cosine"})  # mixtures are made unit length

    def __init__(
        self, pairs: int = 1, lists: int = 1, list_temperature: float = 0.05, symmetric: bool = False, **options: Any
    ) -> None:
        super().__init__(symmetric=symmetric, **options)
        if pairs < 0 or lists not in (0, 1) or not list_temperature > 0:
            raise ValueError(
                "mixing needs pairs of at least 0, lists of 0 or 1 and list_temperature above 0, "
                f"not {pairs}, {lists} and {list_temperature}"
            )
        self.pairs, self.lists, self.list_temperature = pairs, lists, list_temperature

    def check_negatives(self, count: int) -> None:
        """See `Loss`; raises LossError where there are too few to mix."""
        needed = 2 if self.pairs else self.lists
        if count < needed:
            raise LossError(
                f"mixing needs {needed} hard negatives a query, not {count}: mine them (zoo mine)"
                + (", or mixing(pairs=0)" if count else "")
            )

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """See `InfoNCE.forward`; raises as `check_negatives`."""
        negatives = check_layout(queries, targets)
        self.check_negatives(negatives)
        self._masks = extras.get("right"), extras.get("ignore")
        self._places = torch.arange(len(queries), len(targets), device=queries.device).view(len(queries), negatives)
        empty = extras.get("empty")
        there = None if empty is None else (~empty[self._places]).sum(1).cpu()
        # Drawn once for the batch, so that blocks of any size see the same mixtures.
        self._drawn = [self._draw(len(queries), negatives, there, queries) for _ in range(self.pairs)]
        return super().forward(queries, targets, **extras)

    def _draw(self, count: int, negatives: int, there: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Which two negatives of every row `(B, 2)`, and the weight of the first `(B, 1)`.

        Args:
            there: how many each row has `(B,)`; those of a row with fewer than two are its first places. None for all.
        """
        if there is None:
            first = torch.randint(negatives, (count,))
            second = (first + torch.randint(1, negatives, (count,))) % negatives
        else:
            two = there.clamp(min=2)
            first = (torch.rand(count) * two).long()
            second = (first + 1 + (torch.rand(count) * (two - 1)).long()) % two
        share = torch.distributions.Beta(2.0, 2.0).sample((count, 1))
        return torch.stack([first, second], 1).to(like.device), share.to(like)

    def extra_logits(self, start: int, queries: Tensor, targets: Tensor, scale: Tensor) -> Tensor | None:
        rows, count = slice(start, start + len(queries)), len(self._places)
        own, fair = targets[count:].view(count, -1, targets.shape[1])[rows], self._fair(rows)  # (b, M, D), (b, M)
        here = torch.arange(len(queries), device=queries.device)[:, None]
        logits = []
        for which, share in self._drawn:
            two = own[here, which[rows]]
            logits.append(_logits(queries, torch.lerp(two[:, 1], two[:, 0], share[rows]), scale))
            logits[-1] = logits[-1].masked_fill(~fair.gather(1, which[rows]).all(1), -torch.inf)
        if self.lists:
            similarity = torch.einsum("bd,bmd->bm", queries, own)
            # A large finite number, not infinity: a row without any fair negative must have no NaN gradient.
            weights = (similarity / self.list_temperature).masked_fill(~fair, -1e4).softmax(1)
            mixed = torch.einsum("bm,bmd->bd", weights, own)
            logits.append(_logits(queries, mixed, scale).masked_fill(~fair.any(1), -torch.inf))
        return torch.stack(logits, 1) if logits else None

    def _fair(self, rows: slice) -> Tensor:
        """`(b, M)`, False where a row's own negative is right for it, or is one to ignore."""
        place = self._places[rows]
        fair, (right, ignore) = torch.ones_like(place, dtype=torch.bool), self._masks
        if right is not None:
            fair &= ~right.spared(rows).gather(1, place)
        if ignore is not None:
            fair &= ~ignore[rows].gather(1, place)
        return fair


def _logits(queries: Tensor, mixed: Tensor, scale: Tensor) -> Tensor:
    return scale * (queries * F.normalize(mixed, dim=1)).sum(1)
