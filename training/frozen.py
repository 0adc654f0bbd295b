"""Vectors of what does not learn, computed once and kept on disk: locked towers, and the teacher of a loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zoo.embedder import Embedder
from zoo.items import Item

from .feed import prompted, role_prefixes
from .gather import wait_for_all, world
from .optim import frozen_towers
from .pairs import Pair, PairTable
from .recipe import Recipe
from .vector_cache import VectorCache, encode_cached


@dataclass(frozen=True)
class _Items:
    """The items of one side or both, in order, read when asked for."""

    pairs: Sequence[Pair] | PairTable
    model: Embedder
    tower: int | None
    prefixes: tuple[str, str]

    def __iter__(self) -> Iterator[Item]:
        for row in range(len(self.pairs)):
            pair = self.pairs[row]
            for place, item in enumerate(pair.items()):
                if self.tower is None or self.model.route(item) is self.model.towers[self.tower]:
                    yield prompted(item, self.prefixes[min(place, 1)])
