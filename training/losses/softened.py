"""Softened labels: some of a row's mass goes to negatives that look right, more as the run goes on (LightCLIP, 2023)."""

from typing import Any

import torch
from torch import Tensor

from .base import register_loss_part
from .infonce import InfoNCE
from .parts import Weight


@register_loss_part("softened")
class Softened(Weight):
    """Cross-entropy against (1 - a) * own + a * P, with P the row's softmax over its negatives, without gradient.

    a rises from 0 to `most` over the run. The paper's abstract says so much; the formula is the one consistent with it.

    Args:
        most: a at the end, 0 to below 1; 0 leaves the labels as they are.
    """

    reads = frozenset({"progress"})

    def __init__(self, most: float = 0.2) -> None:
        super().__init__()
        if not 0 <= most < 1:
            raise ValueError(f"most must be from 0 to below 1, not {most}")
        self.most = most

    def check(self, objective: InfoNCE) -> None:
        if objective.multi_positive:
            raise ValueError("softened labels have one positive per row: multi_positive=False")

    def begin(self, objective: InfoNCE, queries: Tensor, targets: Tensor, extras: dict[str, Any]) -> None:
        self._share = self.most * extras["progress"]

    def of_labels(self, logits: Tensor, gold: Tensor) -> tuple[float, Tensor] | None:
        if self._share == 0:
            return None
        # (b, C) without the positive. A row whose negatives are all masked is softmax of -inf alone,
        # NaN: it softens nothing.
        return self._share, logits.detach().scatter(1, gold[:, None], -torch.inf).softmax(1).nan_to_num(0.0)
