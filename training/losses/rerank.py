"""What every loss of a reranker is: logits of each query's candidates, and what is known of them."""

from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import LossError
from .base import Loss


class RerankLoss(Loss):
    """Base of the losses that train rerankers: logits `(B, 1 + M)` and named tensors of the batch → one number.

    Column 0 is a query's positive, the others are its candidates: the hard negatives, then documents drawn at random. Of a query
    with fewer than M the last columns are empty places, whose logits are any.

    Attributes:
        reads: see `Loss`; those of the candidates are `labels` `(B, 1 + M)`, 1 for the positive or the grade that the data give
            it, 0 for the others, and `teacher_scores` `(B, 1 + M)`, a reranker's logits. Both are -inf in empty places.
        bounded: whether its labels are from 0 to 1.
    """

    trains: Literal["embedders", "rerankers"] = "rerankers"
    reads = frozenset({"labels"})
    bounded: bool = False

    def forward(self, logits: Tensor, **extras: Any) -> Tensor:
        """The mean loss over the queries or their candidates."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")


def exact(values: Tensor) -> Tensor:
    """In float32 at least: a sum of exponentials in half precision is none."""
    return values if values.dtype == torch.float64 else values.float()


def present(logits: Tensor, told: Tensor, name: str = "labels") -> Tensor:
    """Which places hold a candidate, bool `(B, 1 + M)`.

    Args:
        told: labels or teacher scores, -inf in empty places.

    Raises:
        LossError: they are not one a logit.
    """
    if logits.ndim != 2 or told.shape != logits.shape:
        raise LossError(f"{name} must be one a logit, {tuple(logits.shape)}, not {tuple(told.shape)}")
    return told.isfinite()
