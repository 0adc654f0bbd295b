"""Hard-negative mixing: new negatives between a query's own ones, made in the loss (KaLM-Embedding-V2, 2025)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LossError
from .base import register_loss_part
from .infonce import InfoNCE
from .parts import Mixer


@register_loss_part("mixing", symmetric=False)
class Mixing(Mixer):
    """Mixed negatives, each of its own query alone; no further forward pass, the gradient goes through.

    A negative that is left out is never mixed; a row with one negative has no mixture of two.

    Args:
        pairs: mixtures of two of the row's negatives, weights from Beta(2, 2), at random. They need two negatives.
        lists: mixtures of all of the row's negatives, weighted by a softmax over their similarity to the query: 0 or 1.
        list_temperature: of that softmax.
    """

    may_read = frozenset({"empty"})
    similarities = frozenset({"cosine"})  # mixtures are made unit length

    def __init__(self, pairs: int = 1, lists: int = 1, list_temperature: float = 0.05) -> None:
        super().__init__()
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

    def begin(self, objective: InfoNCE, queries: Tensor, targets: Tensor, extras: dict[str, Any]) -> None:
        count, negatives, empty = len(queries), len(targets) // len(queries) - 1, extras.get("empty")
        there = None if empty is None else (~empty[count:].view(count, negatives)).sum(1).cpu()
        # Drawn once for the batch, so that blocks of any size see the same mixtures.
        self._drawn = [self._draw(count, negatives, there, queries) for _ in range(self.pairs)]

    def _draw(self, count: int, negatives: int, there: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Which two negatives of every row `(B, 2)`, and the weight of the first `(B, 1)`.

        Args:
            there: how many each row has `(B,)`; those of a row with fewer than two are its first places. None for all.
        """
        if there is None:
            # All draws on the CPU: a seed gives the same mixtures on every device.
            first = torch.randint(negatives, (count,))
            # 1 to M - 1 places further on: never the same one, each of the others as often.
            second = (first + torch.randint(1, negatives, (count,))) % negatives
        else:
            two = there.clamp(min=2)
            first = (torch.rand(count) * two).long()
            second = (first + 1 + (torch.rand(count) * (two - 1)).long()) % two
        # Beta(2, 2) favours the middle: a mixture close to one of the two would add little to it.
        share = torch.distributions.Beta(2.0, 2.0).sample((count, 1))
        return torch.stack([first, second], 1).to(like.device), share.to(like)

    def extra_logits(self, start: int, queries: Tensor, own: Tensor, fair: Tensor, scale: Tensor) -> Tensor | None:
        rows, here = slice(start, start + len(queries)), torch.arange(len(queries), device=queries.device)[:, None]
        logits = []
        for which, share in self._drawn:
            two = own[here, which[rows]]  # (b, 2, D)
            # h = λ n_a + (1 - λ) n_b; a mixture with a masked negative would bring the false negative back.
            logits.append(_logits(queries, torch.lerp(two[:, 1], two[:, 0], share[rows]), scale))
            logits[-1] = logits[-1].masked_fill(~fair.gather(1, which[rows]).all(1), -torch.inf)
        if self.lists:
            similarity = torch.einsum("bd,bmd->bm", queries, own)
            # A large finite number, not infinity: a row without any fair negative must have no NaN gradient.
            weights = (similarity / self.list_temperature).masked_fill(~fair, -1e4).softmax(1)
            mixed = torch.einsum("bm,bmd->bd", weights, own)
            logits.append(_logits(queries, mixed, scale).masked_fill(~fair.any(1), -torch.inf))
        return torch.stack(logits, 1) if logits else None


def _logits(queries: Tensor, mixed: Tensor, scale: Tensor) -> Tensor:
    # Normalised after mixing: the mean of two unit vectors is shorter than 1, and would look less similar than both.
    return scale * (queries * F.normalize(mixed, dim=1)).sum(1)
