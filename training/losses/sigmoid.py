"""The sigmoid loss: every query and target is a yes-or-no question of its own (SigLIP, Zhai et al., 2023)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Loss, Temperature, check_layout, register_loss
from .row_blocks import in_row_blocks


@register_loss("sigmoid")
class Sigmoid(Loss):
    """Sum over all targets of -log sigmoid(±(scale * similarity + bias)), mean over the queries.

    Further targets that are right for the query, and those that `ignore` names, are left out.

    Args:
        temperature, bias: at the start; by default those of a checkpoint that has both, else 1/10 and -10 as in the paper.
        learn: whether both are trained. block: rows whose similarities are in memory at once; None picks.
    """

    may_read = frozenset({"right", "ignore"})
    similarities = frozenset({"cosine", "dot"})
    of_model = True

    def __init__(
        self, temperature: float | None = None, bias: float | None = None, learn: bool = True, block: int | None = None
    ) -> None:
        super().__init__()
        self.temperature = Temperature(
            0.1 if temperature is None else temperature, learn, named=temperature is not None
        )
        # A bias fits a temperature: of a checkpoint both are taken, or none.
        self.bias_named = bias is not None or temperature is not None
        # SigLIP starts at 1/t = 10 and b = -10: nearly all of the B² questions have the answer no, and at b = 0 they
        # would make the first steps large ones that only undo this.
        self.bias = nn.Parameter(torch.tensor(-10.0 if bias is None else float(bias)), requires_grad=learn)
        self.block = block

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Mean loss of the queries, in nats."""
        check_layout(queries, targets)
        ignore, right = extras.get("ignore"), extras.get("right")

        def block(start: int, mine: Tensor, columns: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
            rows = slice(start, start + len(mine))
            gold = torch.arange(start, start + len(mine), device=mine.device)[:, None]
            logits = scale * mine @ columns.T + bias
            # -log sigmoid(z · (scale · s + b)), z = 1 for the own pair and -1 for all others (Zhai et
            # al., 2023, section 3.2).
            losses = -F.logsigmoid(-logits).scatter(1, gold, F.logsigmoid(logits.gather(1, gold)))
            gone = torch.zeros_like(logits, dtype=torch.bool)
            if right is not None:
                gone |= right.spared(rows)
            if ignore is not None:
                gone |= ignore[rows]
            # What is spared costs 0: a sum of questions, so one that is not asked changes no other.
            return losses.masked_fill(gone.scatter(1, gold, False), 0.0).sum()

        shared = (targets, self.temperature.scale, self.bias)
        return in_row_blocks(block, (queries,), shared, self.block) / len(queries)
