"""The parts of a stage that has one loss for each kind of data: which data sets, which rows, and that no batch mixes them."""

import fnmatch
import glob
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoo.tables.pairs import Pair, PairTable, datasets_of, of_datasets

from .errors import RecipeError
from .losses import Loss
from .losses.by_data import ByData, loss_of
from .recipe import Recipe
from .samplers import BatchSampler
from .spec_strings import what_there_is


def parts_of(stage: Recipe, pairs: Sequence[Pair] | PairTable, *, strict: bool = True) -> list[Recipe]:
    """A stage as one recipe for each of its losses, with the data sets that it is for; the stage itself where it has one.

    Args:
        pairs: grouped by their data sets. strict: every pattern must name one of them.

    Raises:
        RecipeError: a pattern names no data set, or none that an earlier one leaves.
    """
    if not stage.losses:
        return [stage]
    numbers, names = datasets_of(of_datasets(pairs, stage.datasets) if strict else pairs)
    there = [str(names[number]) for number in np.unique(numbers)]
    for pattern, written in stage.losses if strict else ():
        if not any(fnmatch.fnmatchcase(name, pattern) for name in there):
            raise RecipeError(
                f"{stage.name}: the loss {written} is for {pattern!r}, and no data set is called so; "
                f"{what_there_is(pattern, map(repr, there))}"
            )
    loss, mine = ByData(stage.loss, stage.losses), {}
    for name in there:
        mine.setdefault(loss.number(name), []).append(glob.escape(name))
    for number, (pattern, written) in enumerate(stage.losses if strict else (), start=1):
        if number not in mine:
            raise RecipeError(
                f"{stage.name}: the loss {written} for {pattern!r} is left without data: the patterns before it name the same "
                "data sets, and the first counts; write the narrower one first"
            )
    written = (stage.loss, *(loss for _, loss in stage.losses))
    return [replace(stage, loss=written[i], losses=(), datasets=tuple(mine[i])) for i in sorted(mine)]


def part_numbers(stage: Recipe, pairs: Sequence[Pair] | PairTable) -> np.ndarray | None:
    """Which of its losses every row has `(n,)`, as `ByData` counts them; None in a stage of one."""
    if not stage.losses:
        return None
    numbers, names = datasets_of(pairs)
    loss = ByData(stage.loss, stage.losses)
    return np.array([loss.number(str(name)) for name in names], dtype=np.int64)[numbers]


def stage_loss(stage: Recipe, pairs: Sequence[Pair] | PairTable, own: Loss | None = None) -> Loss:
    """The loss of a stage over its rows: of several those count that these have. `own` stands in place of the recipe's."""
    return own or loss_of(stage, part_numbers(stage, pairs))


def check_batches(sampler: BatchSampler, stage: Recipe, pairs: Sequence[Pair] | PairTable) -> None:
    """Raises RecipeError where the sampler puts rows of several losses into one batch."""
    parts = part_numbers(stage, pairs)
    if parts is None:
        return
    inside = parts[sampler.batches(0)]
    if mixed := int((inside != inside[:, :1]).any(1).sum()):
        raise RecipeError(
            f"{stage.name}: {mixed} of {len(inside)} batches of the sampler {stage.sampler} hold rows of several losses; a "
            f"batch has one: --sampler homogeneous (sampler='homogeneous'), or interleaved(sub_batch={stage.batch_size}, ...)"
        )
