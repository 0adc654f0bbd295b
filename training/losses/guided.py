"""GIST: a frozen guide decides which candidates may be negatives (GISTEmbed, Solatorio, 2024)."""

from typing import Any, Literal

from torch import Tensor

from .base import register_loss_part
from .parts import Block, Mask

# The paper's, where the guide stands alone: candidates from the other queries and the other positives too.
ALONE: dict[str, Any] = {
    "temperature": 0.01,
    "learn": False,
    "symmetric": False,
    "query_query": True,
    "positive_positive": True,
}


@register_loss_part("gist", **ALONE)
@register_loss_part("guided", **ALONE)
class Guided(Mask):
    """Leaves out the candidates that a guide finds nearer to the query than its own positive (GIST).

    Args:
        guide: the frozen model, as `load_model` opens it; "" for the teacher of the recipe.
        strategy: how `margin` is taken from the guide's similarity t of query and positive: "absolute" removes above
            t - margin, "relative" above t - |t| * margin.
        margin: 0 removes what is nearer than the positive; larger removes more.
    """

    reads = frozenset({"teacher_queries", "teacher_targets"})

    def __init__(
        self, guide: str = "", strategy: Literal["absolute", "relative"] = "absolute", margin: float = 0.0
    ) -> None:
        super().__init__()
        if strategy not in ("absolute", "relative"):
            raise ValueError(f"strategy must be absolute or relative, not {strategy!r}")
        self.teacher, self.strategy, self.margin = guide, strategy, margin

    def removed(self, block: Block) -> Tensor:
        scores, own = block.teacher()
        margin = self.margin if self.strategy == "absolute" else own.abs() * self.margin
        # Strictly above: the positive itself, and what the guide finds equally near, stay with margin 0.
        return scores > own - margin
