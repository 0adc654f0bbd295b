"""Held-out pairs that also stand in the training data: found by content, told, and left out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zoo.errors import InputError
from zoo.inputs.identity import Answers
from zoo.tables.pairs import Pair, PairTable

from .errors import PairsError


class Held(NamedTuple):
    """Held-out pairs as they are ranked, each positive as a pair of its own, and what is to be said of them."""

    pairs: list[Pair]
    told: list[str]


def check_held_out(
    held_out: Sequence[Pair] | PairTable | None, answers: Answers, *, keep_leaks: bool = False
) -> Held | None:
    """The held-out pairs that are not learned too; None where none were held out.

    A pair is learned where a row of the training data has its two items, either way round. A pair of which one item alone
    is learned is counted and stays: new captions of known images are a fair question.

    Args:
        answers: the contents of the training data. keep_leaks: leave learned pairs among the held-out ones.

    Raises:
        PairsError: none is left.
    """
    if held_out is None or len(held_out) == 0:
        return None
    pairs, unread = one_by_one(held_out)
    told = [f"{len(unread):,} held-out rows cannot be read and are left out; the first: {unread[0]}"] if unread else []
    if not pairs:
        raise PairsError(f"none of the {len(held_out):,} held-out rows can be read; the first: {unread[0]}")
    whole, part = _learned(pairs, answers)
    many = f"{whole.sum():,} of {len(pairs):,} held-out pairs stand in the training data"
    if whole.any() and keep_leaks:
        told.append(f"{many} and are kept, as asked: the figures flatter")
    elif whole.all():
        raise PairsError(
            f"all {len(pairs):,} held-out pairs stand in the training data, so their figures would tell what was learned by "
            "heart; hold out others (--held-out FILE, or --holdout 0.1 of the pairs), or keep them all the same: --keep-leaks"
        )
    elif whole.any():
        told.append(f"{many}: left out")
        pairs = [pair for pair, learned in zip(pairs, whole, strict=True) if not learned]
    if shared := (part & ~whole).sum():
        told.append(f"{shared:,} of {len(pairs):,} held-out pairs share an item with a pair that is learned: kept")
    return Held(pairs, told)


def one_by_one(pairs: Sequence[Pair] | PairTable) -> tuple[list[Pair], list[str]]:
    """The pairs that can be read, a list of positives as a row for each, and why the others cannot."""
    found: list[Pair] = []
    unread: list[str] = []
    for row in range(len(pairs)):
        try:
            pair = pairs[row]
        except InputError as error:
            unread.append(str(error))
            continue
        found += [
            replace(pair, positive=answer, extra_positives=()) for answer in (pair.positive, *pair.extra_positives)
        ]
    return found, unread


def _learned(pairs: Sequence[Pair], answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs are learned whole, and which in one of their items `(n,)` each."""
    known = len(answers.contents)
    sides = np.array([[answers.contents.number(item) for item in (pair.query, pair.positive)] for pair in pairs])
    queries = np.repeat(answers.numbers[answers.starts[answers.sizes > 0]], answers.counts[answers.sizes > 0])
    begin = np.repeat(answers.starts + 1 - (np.cumsum(answers.counts) - answers.counts), answers.counts)
    positives = answers.numbers[begin + np.arange(len(begin))]
    # Of the training data only what touches a held-out item.
    near = np.isin(queries, sides) & np.isin(positives, sides)
    learned = {frozenset(pair) for pair in zip(queries[near].tolist(), positives[near].tolist(), strict=True)}
    whole = np.array([frozenset(pair) in learned for pair in sides.tolist()])
    seen = (sides < known) & (np.isin(sides, queries) | np.isin(sides, positives))
    return whole, seen.any(1)
