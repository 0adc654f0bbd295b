"""GroupFeed: pairs → the batch of a reranker's step: each query with its positive, its hard negatives and documents of other rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair, datasets_of

from ..dataloader import Drawn, RowFeed, sample_of
from ..grad_cache import Read
from ..losses import Loss
from ..recipe import Recipe
from .pair_model import PairModel
from .teacher_scores import TeacherScores

RANDOM = 4  # documents of other rows beside each query, where nothing else is wrong for it
_STREAM = 3  # tells the draw of these from other random streams
_TIMES, _SPARE = 2, 8  # more are drawn than are wanted: some are right for the query, or the same


def random_each(pairs: Any, recipe: Recipe, loss: Loss, negatives: int) -> int:
    """Documents of other rows beside each query: the recipe's number, else 4 where the data say of none that it is wrong.

    Args:
        negatives: places for hard negatives.
    """
    if recipe.random_negatives is not None:
        return recipe.random_negatives
    told = negatives or "teacher_scores" in loss.reads or any(pair.score is not None for pair in sample_of(pairs))
    return 0 if told else RANDOM


@dataclass(frozen=True)
class GroupBatch:
    """What one step of one process trains on: see `Batch`.

    Attributes:
        reads: of b queries with each of their 1 + M candidates, query by query.
        extras: `labels` and `teacher_scores` `(b, 1 + M)`. rows: which pairs they are. part: which loss of the stage it has.
    """

    reads: list[Read]
    extras: dict[str, Tensor]
    rows: list[int]
    part: int = 0
    # What is right for what is in the labels, so nothing is asked of all pairs.
    negatives: int = field(default=0, init=False)
    numbers: Tensor | None = field(default=None, init=False)
    answers: Any = field(default=None, init=False)

    @property
    def told(self) -> str:
        """What is in it, for people."""
        return f"{len(self.rows)} queries, {len(self.reads)} pairs with their candidates"

    def sides(self, vectors: Tensor) -> list[tuple[Tensor, int]]:
        """The logits `(b, 1 + M)`, one row per query, so that the rows of several processes join like any others."""
        return [(vectors.reshape(len(self.rows), -1), 0)]


class GroupFeed(RowFeed):
    """Batches of any pairs for a reranker.

    Args:
        model: reads them. loss: of the stage. teacher: scores of the pairs, None without one.
        pairs, recipe, sampler, skipped, shared: as of `RowFeed`. Documents of other rows are of the same data set and drawn anew
            in every step; one that is right for the query is never among them.
    """

    def __init__(
        self,
        pairs: Any,
        model: PairModel,
        recipe: Recipe,
        sampler: Any,
        skipped: Any,
        *,
        loss: Loss,
        teacher: TeacherScores | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(pairs, recipe, sampler, skipped, **shared)
        self.reranker, self.teacher = model.reranker, teacher
        self.drawn = random_each(pairs, recipe, loss, self.negatives)
        self.told = f"{self.drawn} documents of other rows beside each query" if self.drawn else ""

    @property
    def places_each(self) -> int:
        return self.negatives + self.drawn

    def read(self, items: Sequence[Item], slot: int, place: int, seed: tuple[int, ...]) -> Read | None:
        """See `RowFeed`: a candidate with its query; the query by itself is no read."""
        return Read(0, self.reranker.prepare(items[0], items[slot])) if place else None

    def candidates(self, pair: Pair, row: int, step: int, place: int) -> tuple[list[Item], list[int], list[int]]:
        """See `RowFeed`; the documents of other rows come after the pair's own items."""
        items, numbers, slots = super().candidates(pair, row, step, place)
        if not self.drawn:
            return items, numbers, slots
        others = self._others(numbers, row, np.random.default_rng((self.recipe.seed, step, place, _STREAM)))
        return (
            [*items, *(item for item, _ in others)],
            [*numbers, *(number for _, number in others)],
            [*slots, *range(len(items), len(items) + len(others))],
        )

    def _others(self, own: Sequence[int], row: int, rng: np.random.Generator) -> list[tuple[Item, int]]:
        """Documents of other rows of the data set, with their numbers: none is the pair's own, or right for its query."""
        alike = self._rows_of[self._datasets[row]]
        rows = rng.choice(alike, min(len(alike), _TIMES * self.drawn + _SPARE), replace=False)
        rows = rows[self.answers.sizes[rows] > 0]
        numbers = np.array([self.answers.of(int(other))[1] for other in rows], dtype=np.int64)
        if not len(numbers):
            return []
        spared = self.answers.right(np.array([own[0]]), numbers).spared(slice(0, 1))[0].tolist()
        found: dict[int, Item] = {}
        for other, number, right in zip(rows.tolist(), numbers.tolist(), spared, strict=True):
            if len(found) == self.drawn:
                break
            if right or number in found or number in own:
                continue
            try:
                found[number] = self.pairs[other].positive
            except InputError:
                continue  # listed when its own turn comes
        return [(item, number) for number, item in found.items()]

    @cached_property
    def _datasets(self) -> np.ndarray:
        return datasets_of(self.pairs)[0]

    @cached_property
    def _rows_of(self) -> list[np.ndarray]:
        """Rows of every data set, by its number."""
        return [np.flatnonzero(self._datasets == number) for number in range(int(self._datasets.max(initial=-1)) + 1)]

    def together(self, step: int, drawn: list[Drawn]) -> GroupBatch:
        """See `RowFeed`."""
        labels = [
            [1.0 if one.pair.score is None else one.pair.score, *(-math.inf if n < 0 else 0.0 for n in one.numbers[2:])]
            for one in drawn
        ]
        extras = {"labels": torch.tensor(labels)}
        if self.teacher is not None:
            taught = [self._taught(one) for one in drawn]
            extras["teacher_scores"] = torch.tensor(taught)
        elif not self.drawn and all(one.scores is not None and one.pair.teacher_scores for one in drawn):
            extras["teacher_scores"] = torch.tensor([one.scores for one in drawn])
        reads = [read for one in drawn for read in one.reads[1:]]
        return GroupBatch(reads, extras, [one.row for one in drawn], self.part(step))

    def _taught(self, one: Drawn) -> list[float]:
        query, *items = one.items
        there = [number >= 0 for number in one.numbers[1:]]
        return [self.teacher.score(query, item) if some else -math.inf for item, some in zip(items, there, strict=True)]
