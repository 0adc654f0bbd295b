"""A loss: each query is to be closer to its positive than to any other target, by a margin. And a part of other losses."""

from typing import Any

import torch
from torch import Tensor
from zoo.training.losses import Block, Loss, Mask, register_loss, register_loss_part


@register_loss("acme_margin")
class AcmeMargin(Loss):
    """The hardest other target may come no closer than the positive less a margin.

    Args:
        margin: in cosine.
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        similarity = queries @ targets.T  # (B, N)
        own = similarity.diagonal()
        others = similarity - 2 * torch.eye(
            *similarity.shape, device=similarity.device
        )  # the own one is out of the way
        return (others.amax(1) - own + self.margin).clamp(min=0).mean()


@register_loss_part("acme_near")
class AcmeNear(Mask):
    """Leaves out what is further from the query than this: `infonce + acme_near(0.2) + focal`.

    Args:
        least: a cosine.
    """

    def __init__(self, least: float = 0.0) -> None:
        super().__init__()
        self.least = least

    def removed(self, block: Block) -> Tensor:
        return block.similarity < self.least  # (b, N)
