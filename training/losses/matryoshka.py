"""Matryoshka: the first columns of an embedding are an embedding themselves (Kusupati et al., 2022)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LossError
from .base import Loss, register_loss
from .parts import Wrapper


@register_loss("matryoshka")
class Matryoshka(Wrapper):
    """Weighted sum of another loss over cuts of the embeddings, each made unit length again; one temperature for all.

    Args:
        inner: any loss. dims: lengths of the cuts; the whole length is trained only if it is among them.
        weights: of the cuts, 1 each by default.
        per_step: how many of the cuts are drawn for a step; None takes all.
    """

    def __init__(
        self,
        inner: Loss,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        per_step: int | None = None,
    ) -> None:
        super().__init__(inner)
        if not dims or min(dims) < 1 or len(set(dims)) < len(dims):
            raise ValueError(f"dims must be different lengths of at least 1, not {list(dims)}")
        if weights is not None and len(weights) != len(dims):
            raise ValueError(f"{len(dims)} dims need as many weights, not {len(weights)}")
        if weights is not None and (min(weights) < 0 or not any(weights)):
            raise ValueError(f"weights of the cuts must not be negative, nor all of them 0: {list(weights)}")
        if per_step is not None and not 1 <= per_step <= len(dims):
            raise ValueError(f"per_step must be 1 to {len(dims)}, the number of dims, not {per_step}")
        self.inner, self.dims, self.per_step = inner, tuple(dims), per_step
        self.weights = tuple(weights or [1.0] * len(dims))

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Sum over the cuts of weight times the inner loss.

        Args:
            queries: unit vectors `(B, D)`. targets: `(B + B·M, D)`. extras: what the inner loss reads, not cut.

        Raises:
            LossError: D is below the longest cut.
        """
        chosen = range(len(self.dims)) if self.per_step is None else draw(len(self.dims), self.per_step)
        terms = []
        for i in chosen:
            dim = self.dims[i]
            # A sum, not a mean (Kusupati et al., 2022, eq. 1): a further cut adds to the step,
            # it does not dilute the others.
            terms.append(self.weights[i] * self.inner(cut(queries, dim), cut(targets, dim), **extras))
        return torch.stack(terms).sum()


def cut(vectors: Tensor, dim: int) -> Tensor:
    """The first `dim` columns at unit length: `(..., D)` → `(..., dim)`; the whole length stays as it is.

    Raises:
        LossError: D is below `dim`.
    """
    if dim > vectors.shape[-1]:
        raise LossError(f"cannot cut embeddings of {vectors.shape[-1]} columns to {dim}; give the loss shorter dims")
    # Normalised after cutting: a cut unit vector is shorter than 1, by another amount for each, so its dot
    # products are no cosines.
    return vectors if dim == vectors.shape[-1] else F.normalize(vectors[..., :dim], dim=-1)


def draw(count: int, number: int) -> list[int]:
    """`number` different ones of `count`, by torch's global generator, which the trainer seeds for each step."""
    return torch.randperm(count)[:number].tolist()
