"""2D Matryoshka: an embedding that can be cut in columns and taken from an earlier block (2DMSE, Li et al., 2024)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Loss, register_loss, without_empty
from .matryoshka import Matryoshka, draw
from .parts import Wrapper

# How much an earlier block counts, by its number from 1.
WEIGHTINGS: dict[str, Callable[[int], float]] = {
    "uniform": lambda block: 1.0,
    "log": lambda block: 1 / (1 + math.log(1 + block)),
    "linear": lambda block: 1 / (1 + block),
}


@register_loss("matryoshka_2d")
class Matryoshka2d(Wrapper):
    """The inner loss at the last block and, averaged, at earlier ones, which also follow the last block's columns.

    As sentence-transformers' Matryoshka2dLoss: cuts and blocks are drawn at each step, and the divergence is of the
    softmax over a vector's columns; the last block is its teacher and gets no gradient from it.

    Args:
        inner: any loss over final embeddings. dims: lengths of the cuts. weights: of the cuts, 1 each by default.
        dims_per_step, layers_per_step: how many cuts and earlier blocks are drawn; None takes all.
        prior: weight of the earlier blocks. weighting: "uniform", "log" (ESE) or "linear", by block number.
        kl: weight of the divergence. kl_temperature: of its softmax.
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
        super().__init__(inner)
        self.inner = Matryoshka(without_layers(inner, "matryoshka_2d"), dims, weights, dims_per_step)
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
        if layers_per_step is not None and layers_per_step < 1:
            raise ValueError(f"layers_per_step must be at least 1, not {layers_per_step}")
        if not kl_temperature > 0:
            raise ValueError(f"kl_temperature must be above 0, not {kl_temperature}; kl=0 leaves the divergence out")
        self.layers_per_step, self.prior, self.weighting = layers_per_step, prior, weighting
        self.kl, self.kl_temperature = kl, kl_temperature
        self.may_read, self.layers = self.may_read | {"empty"}, "all"

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Loss of the last block, of earlier ones, and their divergence.

        Args:
            queries: unit vectors `(B, L, D)` of all blocks, in order. targets: `(B + B·M, L, D)`.
        """
        earlier = queries.shape[1] - 1
        number = earlier if self.layers_per_step is None else min(self.layers_per_step, earlier)
        empty = extras.get("empty")
        terms = [self.inner(queries[:, -1], targets[:, -1], **extras)]
        teacher = torch.cat([queries[:, -1], without_empty(targets[:, -1], empty)])
        for place in draw(earlier, number):
            mine = self.inner(queries[:, place], targets[:, place], **extras)
            terms.append(self.prior * WEIGHTINGS[self.weighting](place + 1) / number * mine)
            if self.kl:
                student = torch.cat([queries[:, place], without_empty(targets[:, place], empty)])
                step = column_divergence(student, teacher, self.kl_temperature)
                terms.append(self.kl * self.kl_temperature * step)
        return torch.stack(terms).sum()


def column_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over vectors of KL(softmax of the teacher's columns ‖ of the student's): `(B, D)` twice; no gradient to it."""
    target = (teacher.detach() / temperature).log_softmax(1)
    return F.kl_div((student / temperature).log_softmax(1), target, reduction="batchmean", log_target=True)


def without_layers(inner: Loss, name: str) -> Loss:
    """The inner loss, unless it compares layers itself (ValueError)."""
    if inner.layers:
        raise ValueError(f"the loss inside compares layers already; {name} wraps a loss over final embeddings")
    return inner
