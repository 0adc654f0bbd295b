"""Binary cross-entropy: every candidate by itself is right or wrong (monoBERT, Nogueira & Cho, 2019)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LossError
from .base import register_loss
from .rerank import RerankLoss, exact, present


@register_loss("binary")
class Binary(RerankLoss):
    """Cross-entropy of sigmoid(logit) with the label of every query and candidate, mean over all of them.

    sentence-transformers' `BinaryCrossEntropyLoss`. Labels are 1 and 0, or grades between.

    Args:
        pos_weight: factor on the part of the positives, such as M where there are M negatives to one.
    """

    bounded = True

    def __init__(self, pos_weight: float = 1.0) -> None:
        super().__init__()
        if not pos_weight > 0:
            raise ValueError(f"pos_weight must be above 0, not {pos_weight}")
        self.pos_weight = pos_weight

    def forward(self, logits: Tensor, **extras: Any) -> Tensor:
        """Mean loss of the candidates, in nats; logits, labels `(B, 1 + M)`."""
        labels = extras["labels"]
        there = present(logits, labels)
        known = exact(labels[there])
        if bool(((known < 0) | (known > 1)).any()):
            raise LossError(
                f"binary reads grades from 0 to 1, not {known.min():g} to {known.max():g}; scale the column, or take plistmle"
            )
        weight = torch.tensor(self.pos_weight, device=logits.device)
        z = exact(logits[there])
        return F.binary_cross_entropy_with_logits(z, known.to(z), pos_weight=weight)
