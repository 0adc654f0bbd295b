"""Starbucks: fixed pairs of depth and length, small to large, all trained at every step (Zhuang et al., 2024)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LossError
from .base import Loss, Temperature, register_loss, without_empty
from .distillation import row_divergence
from .layers import column_divergence
from .parts import Wrapper


@register_loss("starbucks")
class Starbucks(Wrapper):
    """Sum of the inner loss over pairs (block, columns); the smaller sizes also follow the largest, which is the model.

    Sizes are cut and made unit length again, as `encode(dim=...)` does; the authors' retrieval code leaves that out. The
    divergence of columns is of the vectors before that, as in theirs.

    Args:
        inner: any loss over final embeddings.
        pairs: (block from 1, columns), growing in both; the last is the whole model, such as [[2, 32], ..., [12, 768]].
        kl: weight of the divergence from the full size, which gets no gradient from it.
        space: "scores" compares the softmax of a query's similarities to all targets (the authors' retrieval code, kl
            1), "columns" the softmax of a vector's columns (their STS code, kl 0.3).
        temperature: of the scores; None for that of the inner loss.
    """

    over_layers = True

    def __init__(
        self,
        inner: Loss,
        pairs: Sequence[Sequence[int]],
        kl: float = 1.0,
        space: Literal["scores", "columns"] = "scores",
        temperature: float | None = None,
    ) -> None:
        super().__init__(inner)
        self.inner, self.pairs = inner, [tuple(pair) for pair in pairs]
        growing = all(
            a[0] <= b[0] and a[1] <= b[1] and a != b for a, b in zip(self.pairs, self.pairs[1:], strict=False)
        )
        if not self.pairs or any(len(pair) != 2 or min(pair) < 1 for pair in self.pairs) or not growing:
            raise ValueError(f"pairs must be [block, columns] from 1, growing in both, not {list(pairs)}")
        if space not in ("scores", "columns"):
            raise ValueError(f"space must be scores or columns, not {space!r}")
        shared = next((module for module in inner.modules() if isinstance(module, Temperature)), None)
        if space == "scores" and temperature is None and shared is None:
            raise ValueError("the inner loss has no temperature to share; give starbucks one, such as temperature=0.05")
        self.kl, self.space, self.temperature = kl, space, temperature
        self.dims = tuple(dict.fromkeys(dim for _, dim in self.pairs))
        self.layers = tuple(sorted({block for block, _ in self.pairs}))
        self.may_read = self.may_read | {"empty"}

    @property
    def scale(self) -> Tensor | float:
        """What similarities are multiplied by in the divergence; the inner loss alone trains it."""
        if self.temperature is not None:
            return 1 / self.temperature
        return next(module.scale for module in self.inner.modules() if isinstance(module, Temperature)).detach()

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """Sum over the pairs of the inner loss, and of `kl` times the divergence from the last.

        Args:
            queries: vectors `(B, L, D)` of the blocks in `layers`, before they are of unit length. targets: `(B + B·M, L, D)`.

        Raises:
            LossError: D is not the length of the last pair.
        """
        if queries.shape[-1] != self.pairs[-1][1]:
            block, dim = self.pairs[-1]
            raise LossError(
                f"the last pair must be the whole model, but it is [{block}, {dim}] and embeddings have "
                f"{queries.shape[-1]} columns"
            )
        empty = extras.get("empty")
        full = queries[:, -1], targets[:, -1]
        terms = [self.inner(*_units(*full), **extras)]
        # After the inner loss, which knows empty places itself: the divergence does not.
        full = full[0], without_empty(full[1], empty)
        # Every pair at every step, summed and not averaged, as in the authors' code; 2DMSE draws one instead.
        for block, dim in self.pairs[:-1]:
            place = self.layers.index(block)
            small = queries[:, place, :dim], targets[:, place, :dim]
            terms.append(self.inner(*_units(*small), **extras))
            if self.kl:
                small = small[0], without_empty(small[1], empty)
                terms.append(self.kl * self._divergence(small, full, dim))
        return torch.stack(terms).sum()

    def _divergence(self, small: tuple[Tensor, Tensor], full: tuple[Tensor, Tensor], dim: int) -> Tensor:
        if self.space == "columns":
            return column_divergence(torch.cat(small), torch.cat(full)[:, :dim], temperature=1.0)
        scale = torch.as_tensor(self.scale, dtype=small[0].dtype, device=small[0].device)
        return row_divergence(*_units(*small), *_units(*full), scale, scale)


def _units(*vectors: Tensor) -> list[Tensor]:
    return [F.normalize(one, dim=-1) for one in vectors]
