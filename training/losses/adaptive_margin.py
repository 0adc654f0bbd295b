"""Adaptive margins: likely false negatives are left out, determined by a teacher (LG-ANNA-Embedding, 2025).

The paper's margin is not published; the formula is that of a relative margin (NV-Retriever) which grows with how far
apart the teacher's best scores lie.
"""

import torch
from torch import Tensor

from .base import register_loss_part, without_empty
from .parts import Block, Mask

_NEAREST = 50  # best teacher scores of a row whose spread counts, as in mining (`zoo.training.mining`)


@register_loss_part("adaptive_margin", symmetric=False)
class AdaptiveMargin(Mask):
    """Leaves out the candidates whose similarity by the teacher is above t - m * |t|, t being the positive's.

    m = least + (most - least) * spread, with spread the standard deviation of the teacher's 50 best scores of the row
    over |t|, cut to 0..1: where the teacher tells candidates apart, it may be stricter. With least = most it is a fixed relative
    margin: 0.05 is NV-Retriever's 95 % rule.

    Args:
        least, most: bounds of m. teacher: its name, as `load_model` opens it; "" for the teacher of the recipe.
    """

    reads = frozenset({"teacher_queries", "teacher_targets"})
    may_read = frozenset({"empty"})

    def __init__(self, least: float = 0.05, most: float = 0.3, teacher: str = "") -> None:
        super().__init__()
        if not 0 <= least <= most:
            raise ValueError(f"least and most must be 0 <= least <= most, not {least} and {most}")
        self.least, self.most, self.teacher = least, most, teacher

    def removed(self, block: Block) -> Tensor:
        scores, own = block.teacher()  # (b, N), (b, 1)
        size = own.abs().clamp(min=torch.finfo(own.dtype).tiny)  # never divide by a similarity of 0
        there = without_empty(scores.T, block.extras.get("empty") if block.column_side == "target" else None).T
        best = there.topk(min(_NEAREST, there.shape[1]), dim=1).values
        spread = (best.std(1, correction=0, keepdim=True) / size).clamp(0, 1)
        return scores > own - size * (self.least + (self.most - self.least) * spread)
