"""Which rows of the data can be trained: all are looked at once before long work, and the others are set aside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.bulk.limit import Limit
from zoo.errors import InputError, MissingWordError, TableError, TooManyBadItemsError
from zoo.inputs.identity import Answers
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair, PairTable, Selection, answers_of, numbers_in, of_datasets, place_of

from .losses import Loss, build_loss
from .parts import parts_of
from .recipe import Recipe, stages_of

WITHOUT_IT = "the pair goes without it"  # what is said of a negative that cannot be had
_SHOWN = 5


class GoodRows(Selection):
    """The rows of some pairs that can be trained.

    Attributes:
        answers: what is right for what, by these rows. inputs: how many rows there were.
        bad: what is wrong with the others, and with negatives that are not there, by the place of the row.
        unscored: rows, of these, that have negatives and no `teacher_scores` for them.
    """

    def __init__(
        self, pairs: Sequence[Pair] | PairTable, answers: Answers, bad: Mapping[str, str], unscored: Sequence[int]
    ) -> None:
        rows = np.flatnonzero(answers.sizes > 0)
        super().__init__(pairs, rows)
        self.answers, self.inputs, self.bad = answers.at(rows), len(pairs), dict(bad)
        self.unscored = np.searchsorted(rows, unscored)


def set_aside(pairs: Sequence[Pair] | PairTable, max_bad: Any, *, progress: bool | None = None) -> GoodRows:
    """Looks at every row and leaves out those that are no pairs: broken lines, empty cells, files that are not there, scores
    that are no numbers. Nothing is decoded. A further positive or a negative whose file is missing is left out alone.

    Args:
        max_bad: how many rows may have something wrong (`Limit`): a number, or a share of all rows; the limit itself is
            allowed, and so is one row by any share.
        progress: a bar; None for one on a terminal when it takes over two seconds.

    Raises:
        TooManyBadItemsError: there are more; the first of them are named. TableError: texts that may stand for a missing
        value, or no row is a pair.
    """
    if isinstance(pairs, GoodRows):
        return pairs
    bad: dict[str, str] = {}
    words: list[str] = []
    unscored: list[int] = []
    in_memory = isinstance(pairs, list | tuple)

    def note(row: int, error: InputError) -> None:
        if isinstance(error, MissingWordError):
            words.append(str(error))
        where = place_of(pairs, row)
        bad[where] = str(error).removeprefix(f"{where}: ")

    def look(row: int, pair: Pair) -> None:
        if in_memory:
            _check(pair)
        if pair.negatives and len(pair.teacher_scores) != 1 + len(pair.negatives):
            unscored.append(row)
        if lost := [path for item in (*pair.extra_positives, *pair.negatives) for path in missing(item)]:
            bad[pair.where or place_of(pairs, row)] = f"there is no file {lost[0]}; {WITHOUT_IT}"

    answers = answers_of(pairs, progress=progress, bad=note, look=look)
    if words:
        more = f"\n  … and {len(words) - _SHOWN:,} more" if len(words) > _SHOWN else ""
        raise TableError("\n  ".join(words[:_SHOWN]) + more)
    check_limit(bad, max_bad, len(pairs))
    if len(pairs) and not answers.sizes.any():
        raise TooManyBadItemsError(f"none of the {len(pairs):,} inputs can be trained:{_listed(bad)}")
    return GoodRows(pairs, answers, bad, unscored)


def check_limit(bad: Mapping[str, str], max_bad: Any, inputs: int) -> None:
    """Raises TooManyBadItemsError, which names the first, where more of the inputs are bad than is allowed."""
    limit = Limit.parse(max_bad)
    if len(bad) > limit.allowed(inputs):
        raise TooManyBadItemsError(
            f"{len(bad):,} of {inputs:,} inputs are bad ({len(bad) / inputs:.2%}) and the limit is {limit} "
            f"(max_bad):{_listed(bad)}\nmend them or take them out, or allow as many: --max-bad {len(bad)} "
            f"(max_bad={len(bad)})"
        )


def _listed(bad: Mapping[str, str]) -> str:
    shown = "".join(f"\n  {place}: {reason}" for place, reason in list(bad.items())[:_SHOWN])
    return shown + (f"\n  … and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else "")


def told_aside(pairs: Sequence[Pair] | PairTable, out: Path | None = None) -> str:
    """What was set aside, in a line; "" for nothing.

    Args:
        out: the folder of the run, in which it is listed.
    """
    good = root_of(pairs)
    if good is None or not good.bad:
        return ""
    place, reason = next(iter(good.bad.items()))
    more = f", and {len(good.bad) - 1:,} more" if len(good.bad) > 1 else ""
    listed = "" if out is None else f" (listed in {out / 'skipped.jsonl'})"
    return f"set aside: {len(good.bad):,} of {good.inputs:,} inputs{listed}: {place}: {reason}{more}"


def root_of(pairs: Any) -> GoodRows | None:
    """The looked-at rows of which these are a part; None where nothing was looked at."""
    while not isinstance(pairs, GoodRows):
        if not isinstance(pairs, Selection):
            return None
        pairs = pairs.pairs
    return pairs


def known_answers(pairs: Sequence[Pair] | PairTable) -> Answers:
    """What is right for what by these rows alone; they are read where they were not looked at."""
    good = root_of(pairs)
    if good is None:
        return answers_of(pairs)
    return good.answers if pairs is good else good.answers.alone(numbers_in(pairs, good))


def missing(item: Item) -> list[Path]:
    """The files of an item that are not there."""
    return [value for value in item.media if isinstance(value, Path) and not value.is_file()]


def _check(pair: Pair) -> None:
    """What the readers of tables check of a row; raises InputError."""
    facts = (*(() if pair.score is None else (pair.score,)), *pair.teacher_scores)
    if not np.isfinite(facts).all():
        raise InputError(f"a score is {next(fact for fact in facts if not np.isfinite(fact))}, not a finite number")
    if pair.teacher_scores and len(pair.teacher_scores) != 1 + len(pair.negatives):
        raise InputError(
            f"the teacher_scores are {len(pair.teacher_scores)}, for a positive and {len(pair.negatives)} negatives"
        )
    if lost := [path for item in (pair.query, pair.positive) for path in missing(item)]:
        raise InputError(f"there is no file {lost[0]}")


# ------------------------------------------------------------------------------------------------ hard negatives


def negatives_of(pairs: Sequence[Pair] | PairTable) -> np.ndarray:
    """Hard negatives of every row `(n,)`."""
    good = root_of(pairs)
    if good is None:
        return count_negatives(answers_of(pairs))
    return count_negatives(good.answers)[numbers_in(pairs, good)]


def count_negatives(answers: Answers) -> np.ndarray:
    """Hard negatives of every row `(n,)`; 0 for one that could not be read."""
    return np.maximum(answers.sizes - 1 - answers.counts, 0)


def negatives_each(counts: np.ndarray, recipe: Recipe) -> int:
    """Places for hard negatives of a pair in a batch: the recipe's number and no more than any row has, or as many as most
    of those have that have some; 0 where none has."""
    return most(counts) if recipe.negatives is None else min(recipe.negatives, int(counts.max(initial=0)))


def most(counts: Sequence[int] | np.ndarray) -> int:
    """The middle one of the counts above 0; 0 where none is."""
    some = sorted(int(count) for count in counts if count > 0)
    return some[len(some) // 2] if some else 0


def with_negatives(pairs: Sequence[Pair] | PairTable, rows: np.ndarray) -> np.ndarray:
    """Those of some rows that have a hard negative."""
    return rows[negatives_of(Selection(pairs, rows)) > 0]


def uneven_lines(
    pairs: Sequence[Pair] | PairTable, recipe: Recipe | Sequence[Recipe], loss: Loss | None = None
) -> list[str]:
    """What is said of the hard negatives, a line for each stage that sees other ones; see `uneven`."""
    lines = [
        uneven(negatives_of(of_datasets(pairs, part.datasets)), part, loss or build_loss(part.loss))
        for stage in stages_of(recipe)
        for part in parts_of(stage, pairs)
    ]
    good = root_of(pairs)
    if good is not None and not negatives_of(good).any():
        for schema in getattr(good.pairs, "schemas", ()):
            if columns := [part.column for parts in schema.negatives for part in parts]:
                lines.append(f"{schema.source}: no row has a negative: {', '.join(columns)} holds nothing")
    return list(dict.fromkeys(filter(None, lines)))


def uneven(counts: np.ndarray, recipe: Recipe, loss: Loss) -> str:
    """What rows without hard negatives, with fewer and with more than others learn from, in a line; "" where all have as
    many.

    "1,204 of 3,600 rows have no negative: they learn from the others' negatives."
    """
    each, total = negatives_each(counts, recipe), len(counts)
    if recipe.negatives == 0 or not each:
        return ""
    if not loss.hard_negatives:
        return f"the loss {recipe.loss} does not look at the hard negatives"
    parts = []
    if none := int((counts == 0).sum()):
        how = "they learn from the others' negatives"
        if recipe.without_negatives == "drop":
            how = "left out, as was asked for"
        elif loss.needs_negatives:
            how = f"the loss {recipe.loss} learns nothing from them (--without-negatives drop leaves them out)"
        parts.append(f"{none:,} of {total:,} rows have no negative: {how}")
    if fewer := int(((counts > 0) & (counts < each)).sum()):
        parts.append(f"{fewer:,} of {total:,} rows have fewer than {each} negatives: the places left are empty")
    if more := int((counts > each).sum()):
        wider = "" if recipe.negatives is not None else f" (--negatives {counts.max()} takes all)"
        parts.append(f"{more:,} of {total:,} rows have more than {each} negatives: the first {each} train{wider}")
    return "; ".join(parts)
