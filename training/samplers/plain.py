"""Samplers that know nothing of the rows but where they lie."""

from typing import Any

import numpy as np
import torch

from .base import BatchSampler, Rows, register_sampler

STRIDE = 1_000_003  # a prime, so that the random streams of two seeds do not meet


@register_sampler("shuffled")
class Shuffled(BatchSampler):
    """Every epoch all rows in a new order; those that fill no batch at its end are left out of it."""

    def draw(self, epoch: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(self.seed * STRIDE + epoch)
        return self._cut(torch.randperm(len(self.data), generator=generator).numpy())


@register_sampler("local")
class Local(BatchSampler):
    """Shuffled by blocks, then among the rows of some blocks, so that shards and row groups are read one after another.

    Args:
        window: blocks whose rows are mixed. block: rows of a block where the data do not say.
    """

    def __init__(self, rows: Rows, *, window: int = 8, block: int = 1024, **given: Any) -> None:
        super().__init__(rows, **given)
        if window < 1 or block < 1:
            raise ValueError(f"window and block must be at least 1, not {window} and {block}")
        blocks = block if rows.blocks is None else rows.blocks
        numbers = np.arange(len(rows)) // blocks if isinstance(blocks, int) else np.asarray(blocks)
        self.blocks, self.window = np.unique(numbers, return_inverse=True)[1], window

    def draw(self, epoch: int) -> np.ndarray:
        rng = self._random(epoch)
        places = rng.permutation(int(self.blocks.max()) + 1) // self.window
        # Whole part: the window; fraction: the place inside. One sort of floats, five times as fast as lexsort.
        return self._cut(np.argsort(places[self.blocks] + rng.random(len(self.blocks))))
