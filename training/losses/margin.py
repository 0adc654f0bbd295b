"""A margin: what lies much nearer than the own positive is left out as a likely false negative (Qwen3-Embedding, 2025)."""

from torch import Tensor

from .base import register_loss_part
from .parts import Block, Mask


@register_loss_part("margin")
class Margin(Mask):
    """Leaves out candidates more similar than the own positive by this much, as likely false negatives.

    Args:
        margin: of similarities; Qwen3-Embedding uses 0.1.
    """

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def removed(self, block: Block) -> Tensor:
        return block.similarity.detach() > block.own.detach() + self.margin
