"""One loss for each kind of data: a stage's data sets train with the loss whose pattern names them (QZhou-Embedding)."""

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from .base import Loss
from .building import build_loss

OTHERS = "*"


class ByData(Loss):
    """Several losses, each with a temperature of its own, of which a batch is given one by its data sets.

    Args:
        otherwise: the loss of data sets that no pattern names, as `build_loss` reads it.
        losses: shell patterns of data sets' names, and their losses; the first that matches counts.
        numbers: of the parts that some data have, as `number` counts them; None for all. What the whole reads and asks for
            is what these do.

    Raises:
        LossError: no such loss, they compare other layers, so that a batch would be computed otherwise, or name several
        teachers.
    """

    similarities = frozenset({"cosine", "dot"})

    def __init__(self, otherwise: str, losses: Sequence[tuple[str, str]], numbers: Iterable[int] | None = None) -> None:
        super().__init__()
        # The one for the others first: its temperature is the model's own, where there are several.
        self.patterns = (OTHERS, *(pattern for pattern, _ in losses))
        self.parts = nn.ModuleList(build_loss(written) for written in (otherwise, *(loss for _, loss in losses)))
        self.in_use = range(len(self.parts)) if numbers is None else sorted({int(number) for number in numbers})
        self.take_after(self.used())

    def number(self, dataset: str) -> int:
        """Which part is a data set's."""
        # `if i`: part 0 is the loss for the others, whose "*" would match everything first.
        hits = (i for i, pattern in enumerate(self.patterns) if i and fnmatch.fnmatchcase(dataset, pattern))
        return next(hits, 0)

    def of(self, part: int) -> Loss:
        return self.parts[part]

    def used(self) -> list[Loss]:
        return [self.parts[number] for number in self.in_use]

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        raise TypeError("a batch has one of these losses: call of(part)")


def loss_of(recipe: Any, numbers: Iterable[int] | None = None) -> Loss:
    """The loss of a recipe's stage: the one of `recipe.loss`, or that and those of `recipe.losses`; numbers as of `ByData`."""
    return ByData(recipe.loss, recipe.losses, numbers) if recipe.losses else build_loss(recipe.loss)
