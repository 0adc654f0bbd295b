"""Samplers that know what a row is: its label, or how hard it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import SamplerError
from .base import BatchSampler, Rows, by_number, register_sampler
from .datasets import by_pattern
from .duplicates import pair_keys
from .plain import Shuffled


@register_sampler("label_balanced")
class LabelBalanced(BatchSampler):
    """Every label as often as any other, however rare it is (classification pairs, as in QZhou-Embedding).

    Args:
        per_label: rows of a label that come together in a batch; more than 1 for losses that know groups.
    """

    def __init__(self, rows: Rows, *, per_label: int = 1, **given: Any) -> None:
        super().__init__(rows, **given)
        if per_label < 1 or self.batch_size % per_label:
            raise ValueError(f"per_label {per_label} does not divide a batch of {self.batch_size}")
        labels = pair_keys(rows, "positive")[:, 0] if rows.labels is None else np.asarray(rows.labels)
        self.labels, self.per_label = np.unique(labels, return_inverse=True)[1], per_label
        self.counts = np.bincount(self.labels)
        if len(self.counts) < 2:
            raise SamplerError(f"all {len(rows)} pairs have one label; there is nothing to balance: take shuffled")

    def draw(self, epoch: int) -> np.ndarray:
        rng = self._random(epoch)
        order = rng.permutation(len(self.labels))
        order = order[by_number(self.labels[order])]  # label by label, shuffled within
        starts = np.cumsum(self.counts) - self.counts
        count = self.steps_per_epoch * self.batch_size // self.per_label
        # Rounds of all labels, shuffled apart: no label is two ahead of another.
        turns = -(-count // len(self.counts))
        drawn = rng.permuted(np.tile(np.arange(len(self.counts)), (turns, 1)), axis=1).ravel()[:count]
        # In turn t every label gives its rows t·per_label and on, from the start again when it has no more.
        nth = np.arange(count)[:, None] // len(self.counts) * self.per_label + np.arange(self.per_label)
        rows = order[starts[drawn][:, None] + nth % self.counts[drawn][:, None]]
        return rows.reshape(self.steps_per_epoch, self.batch_size)


@register_sampler("curriculum")
class Curriculum(BatchSampler):
    """From easy to hard: the share of the rows that may be drawn grows with the run (Platanios et al., 2019, eq. 7).

    Args:
        start: share of the rows, the easiest, at the beginning. until: share of the run after which all may be drawn.
        power: 2 is the paper's square root, which admits quickly at first; 1 admits evenly.
        order: shell patterns of data sets from easy to hard, in place of difficulties ("*" for the rest).
    """

    def __init__(
        self,
        rows: Rows,
        *,
        start: float = 0.1,
        until: float = 0.5,
        power: float = 2.0,
        order: Sequence[str] = (),
        **given: Any,
    ) -> None:
        super().__init__(rows, **given)
        if not 0 < start <= 1 or not 0 < until <= 1 or not power > 0:
            raise ValueError(f"start and until must be above 0 and at most 1, power above 0: {start}, {until}, {power}")
        if self.steps is None:
            raise SamplerError("a curriculum needs to know how long the run is; set steps of the recipe")
        self.start, self.until, self.power = start, until, power
        difficulty = np.asarray(self._levels(order) if order else self._difficulty())
        if difficulty.shape != (len(rows),):
            raise SamplerError(f"{len(rows)} rows need as many difficulties, not {difficulty.shape}")
        self.sorted = np.argsort(difficulty, kind="stable")
        self.after = Shuffled(rows, **given)

    def _levels(self, order: Sequence[str]) -> np.ndarray:
        levels = by_pattern(self.data.known, {pattern: level for level, pattern in enumerate(order)}, len(order))
        return np.array(levels)[np.unique(self.data.datasets, return_inverse=True)[1]]

    def _difficulty(self) -> Any:
        if self.data.difficulty is not None:
            return self.data.difficulty
        return self.data.read(
            "difficulty", lambda pair: sum(len(item.text or "") for item in (pair.query, pair.positive))
        )

    def admitted(self, step: int) -> int:
        """How many rows, the easiest, may be drawn at a step."""
        time = min(1.0, step / max(1, round(self.until * self.steps)))
        # Competence c(t) = min(1, (t · (1 - c0^p) / T + c0^p)^(1/p)) of Platanios et al., 2019: their eq. 7 has p = 2.
        share = (time * (1 - self.start**self.power) + self.start**self.power) ** (1 / self.power)
        return min(len(self.data), max(self.batch_size, round(share * len(self.data))))

    def rows(self, step: int) -> np.ndarray:
        if (count := self.admitted(step)) == len(self.data):
            return self.after.rows(step)
        return self.sorted[self._random(step).choice(count, size=self.batch_size, replace=False)]

    def draw(self, epoch: int) -> np.ndarray:
        first = epoch * self.steps_per_epoch
        return np.stack([self.rows(step) for step in range(first, first + self.steps_per_epoch)])
