"""Adaptive margins: likely false negatives are left out, told by a teacher (LG-ANNA-Embedding, 2025).

The paper's margin is not published; the formula is that of a relative margin (NV-Retriever) which grows with how far
apart the teacher's best scores lie.
"""

from typing import Any

import torch
from torch import Tensor

from .base import register_loss, without_empty
from .gist import guided
from .infonce import InfoNCE, Part

_NEAREST = 50


@register_loss("adaptive_margin")
class AdaptiveMargin(InfoNCE):
    """InfoNCE without the candidates whose similarity by the teacher is above t - m * |t|, t being the positive's.

    m = least + (most - least) * spread, with spread the standard deviation of the teacher's 50 best scores of the row
    over |t|, cut to 0..1. With least = most it is a fixed relative margin: 0.05 is NV-Retriever's 95 % rule.

    Args:
        least, most: bounds of m. options: those of `InfoNCE`; one direction.
    """

    reads = frozenset({"teacher_queries", "teacher_targets"})
    may_read = InfoNCE.may_read | {"empty"}

    def __init__(self, least: float = 0.05, most: float = 0.05, symmetric: bool = False, **options: Any) -> None:
        super().__init__(symmetric=symmetric, **options)
        if not 0 <= least <= most:
            raise ValueError(f"least and most must be 0 <= least <= most, not {least} and {most}")
        self.least, self.most = least, most

    def removed(self, part: Part) -> Tensor:
        scores, own = guided(part)
        size = own.abs().clamp(min=torch.finfo(own.dtype).tiny)
        there = without_empty(scores.T, part.extras.get("empty") if part.column_side == "target" else None).T
        best = there.topk(min(_NEAREST, there.shape[1]), dim=1).values
        spread = (best.std(1, correction=0, keepdim=True) / size).clamp(0, 1)
        return scores > own - size * (self.least + (self.most - self.least) * spread)
