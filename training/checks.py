"""What is checked before any long work starts: the pairs, the recipe and the loss against each other."""

from collections.abc import Sequence

import numpy as np

from zoo.embedder import Embedder
from zoo.errors import InputError, ZooError

from .feed import count_negatives
from .losses import Loss
from .pairs import Pair, PairTable
from .recipe import Recipe
from .run import MissingExtrasError

_SAMPLE = 256


class PairsError(ZooError, ValueError):
    """The pairs cannot be trained on as they are; the message says why and what to do."""


def check_run(model: Embedder, pairs: Sequence[Pair] | PairTable, recipe: Recipe, loss: Loss) -> None:
    """Raises an error that says what would go wrong.

    Raises:
        PairsError: no pairs, a single one, fewer than a batch, or all of them the same.
        MissingExtrasError: the loss needs a column or a teacher that is not there.
        UnsupportedModalityError: the model does not read the pairs' modalities.
    """
    count = len(pairs)
    if count == 0:
        raise PairsError("there are no pairs to train on")
    if count == 1:
        raise PairsError("one pair alone has nothing to be told from; give at least two")
    if recipe.batch_size > count:
        raise PairsError(
            f"a batch of {recipe.batch_size} is larger than the {count} pairs; set batch_size={count} or less"
        )
    sample = _sample(pairs)
    for pair in sample:
        for item in pair.items():
            model.route(item)
    if len({_told_apart_by(pair) for pair in sample}) == 1 and not any(pair.score is not None for pair in sample):
        raise PairsError(
            f"all positives are the same ({_told_apart_by(sample[0])!r:.80}): there is nothing to tell apart; each query "
            "needs a positive of its own"
        )
    if recipe.negatives is None or recipe.negatives:
        wanted = recipe.negatives if recipe.negatives is not None else count_negatives(pairs)
        for pair in sample if wanted else ():
            if not pair.negatives:
                raise PairsError(
                    f"{pair.where or 'a pair'} has no hard negative and the recipe asks for {wanted}; add one, mine them "
                    "(zoo mine), or set negatives=0"
                )
    have = {"query_groups", "target_groups", "ignore", "progress"}
    have |= {"scores"} if all(pair.score is not None for pair in sample) else set()
    have |= {"teacher_scores"} if all(len(p.teacher_scores) > len(p.negatives) for p in sample) else set()
    have |= {"teacher_queries", "teacher_targets"} if recipe.teacher else set()
    if missing := sorted(loss.reads - have):
        remedy = {"scores": "a column score", "teacher_scores": "a column teacher_scores (zoo mine --reranker)"}
        needs = " and ".join(dict.fromkeys(remedy.get(name, "a teacher (teacher=, --teacher)") for name in missing))
        raise MissingExtrasError(f"the loss {recipe.loss} needs {', '.join(missing)}: give {needs}")


def _sample(pairs: Sequence[Pair] | PairTable) -> list[Pair]:
    """Some pairs from all over the table; unreadable ones are left to the feed, which counts them."""
    found = []
    for row in np.unique(np.linspace(0, len(pairs) - 1, min(_SAMPLE, len(pairs))).astype(int)):
        try:
            found.append(pairs[int(row)])
        except InputError:
            continue
    if not found:
        raise PairsError("none of the pairs that were tried can be read")
    return found


def _told_apart_by(pair: Pair) -> object:
    return pair.group or (pair.positive.text if pair.positive.text is not None else id(pair.positive))
