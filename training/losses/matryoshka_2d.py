"""2D Matryoshka: an embedding that can be cut in columns and taken from an earlier block (2DMSE, Li et al., 2024)."""

from collections.abc import Sequence
from typing import Literal

from .base import Loss, register_loss
from .layers import Layers
from .matryoshka import Matryoshka


@register_loss("matryoshka_2d")
class Matryoshka2d(Layers):
    """`matryoshka` inside `layers`, with cuts and blocks drawn at each step, as sentence-transformers' Matryoshka2dLoss.

    Args:
        inner: any loss over final embeddings. dims: lengths of the cuts. weights: of the cuts, 1 each by default.
        dims_per_step, layers_per_step: how many cuts and earlier blocks are drawn; None takes all.
        prior, weighting, kl, kl_temperature: see `Layers`.
    """

    def __init__(
        self,
        inner: Loss,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        dims_per_step: int | None = 1,
        layers_per_step: int | None = 1,
        prior: float = 1.0,
        weighting: Literal["uniform", "log", "linear"] = "uniform",
        kl: float = 1.0,
        kl_temperature: float = 0.3,
    ) -> None:
        cuts = Matryoshka(inner, dims, weights, dims_per_step)
        super().__init__(cuts, layers_per_step, prior, weighting, kl, kl_temperature)
