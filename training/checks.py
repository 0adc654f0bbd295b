"""What is checked before any long work starts: the pairs, the recipe and the loss against each other."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from zoo.encoders.int8 import need_float
from zoo.errors import InputError
from zoo.inputs.identity import Contents
from zoo.tables.pairs import Pair, PairTable, numbers_in, place_of

from .adapters import adapted, check_lora
from .dataloader import sample_of
from .errors import PairsError, RecipeError
from .gather import world
from .kinds import kind_of
from .losses import Loss
from .optim import select
from .recipe import Recipe
from .rows import negatives_each, negatives_of, root_of

# What a batch may hold beyond queries and targets.
_NAMES = {
    "right",
    "empty",
    "ignore",
    "scores",
    "labels",
    "teacher_queries",
    "teacher_targets",
    "teacher_scores",
    "progress",
}


def check_run(model: nn.Module, pairs: Sequence[Pair] | PairTable, recipe: Recipe, loss: Loss) -> None:
    """Raises an error that says what would go wrong.

    Raises:
        PairsError: no pairs, a single one, fewer than a batch, or all of them the same.
        PairsError: the loss needs a column or a teacher that is not there.
        UnsupportedModalityError: the model does not read the pairs' modalities.
        TokenVectorsError: a model of late interaction. NormsLostError: a loss of unit vectors alone, and a model that
            compares by dot product. NotOfferedError: an int8 model.
    """
    need_float(model, "training")
    kind = kind_of(model)
    kind.check(model, recipe, loss)
    if loss.teacher != "" and loss.teacher != recipe.teacher:
        raise RecipeError(
            f"{recipe.name}: the loss reads the teacher {loss.teacher}; name it: teacher={loss.teacher!r}"
        )
    count = len(pairs)
    if count == 0:
        raise PairsError("there are no pairs to train on")
    if count == 1:
        raise PairsError("one pair alone has nothing to be told apart from; give at least two")
    if recipe.batch_size > count:
        raise PairsError(
            f"a batch of {recipe.batch_size} is larger than the {count} pairs; set batch_size={count} or less"
        )
    if recipe.batch_size % world()[1]:
        raise PairsError(
            f"a batch of {recipe.batch_size} cannot be shared evenly by {world()[1]} processes; set another"
        )
    sample = sample_of(pairs)
    if not sample:
        raise PairsError("none of the pairs that were tried can be read")
    for pair in sample:
        kind.check_pair(model, pair)
    contents = Contents()
    told = {pair.group or contents.number(pair.positive) for pair in sample}
    if len(told) == 1 and not any(pair.score is not None for pair in sample):
        positive = sample[0].group or sample[0].positive.text or "one of no text"
        raise PairsError(
            f"all positives are the same ({positive!r:.80}): there is nothing to tell apart; each query "
            "needs a positive of its own"
        )
    _check_names(model, recipe)
    if unknown := sorted((loss.reads | loss.may_read) - _NAMES):
        raise PairsError(
            f"the loss {type(loss).__name__} reads {', '.join(unknown)}, which no batch has; there are "
            f"{', '.join(sorted(_NAMES))} (query_groups and target_groups have become right)"
        )
    several = next((pair for pair in sample if pair.extra_positives), None)
    if _from_column(recipe, loss) and several is not None:
        raise PairsError(
            f"{several.where or 'a pair'} has {1 + len(several.extra_positives)} positives, and the loss {recipe.loss} reads "
            "teacher_scores, which are of the first alone; give each positive a row of its own, with its scores"
        )
    have = kind.given(sample, recipe)
    if loss.grades is not None and "scores" in have:
        _check_grades(pairs, recipe, loss.grades)
    if missing := sorted(loss.reads - have):
        remedy = {"scores": "a column score", "teacher_scores": "a column teacher_scores (zoo mine --reranker)"}
        teacher = "a teacher (teacher=, --teacher, or in the loss: guided(NAME))"
        needs = " and ".join(dict.fromkeys(remedy.get(name, teacher) for name in missing))
        raise PairsError(f"the loss {recipe.loss} needs {', '.join(missing)}: give {needs}")


def _check_grades(pairs: Sequence[Pair] | PairTable, recipe: Recipe, most: int) -> None:
    """Reads on until there are more grades than the loss tells apart; raises an error that names the row."""
    grades: dict[float, str] = {}
    for row in range(len(pairs)):
        try:
            pair = pairs[row]
        except InputError:
            continue
        if pair.score is not None:
            grades.setdefault(pair.score, pair.where or f"pair {row}")
        if len(grades) > most:
            shown = ", ".join(f"{grade:g} ({where})" for grade, where in grades.items())
            raise PairsError(
                f"the loss {recipe.loss} tells {most} grades apart, and the pairs have more: {shown}; write {most} different "
                "ones, leave the other rows out, or take a loss of any grades"
            )


def _check_names(model: nn.Module, recipe: Recipe) -> None:
    """Every pattern of weights that the recipe gives means some."""
    for pattern in (*recipe.freeze, *(pattern for pattern, _ in recipe.rates)):
        select(model, pattern)
    if recipe.lora is not None:
        check_lora(model, recipe.lora)
    check_learning(model, recipe)


def _from_column(recipe: Recipe, loss: Loss) -> bool:
    """Whether the data have to have the teacher's scores: a reranker as teacher gives them itself."""
    return "teacher_scores" in loss.reads and not (loss.trains == "rerankers" and recipe.teacher)


def check_learning(model: nn.Module, recipe: Recipe) -> None:
    """Raises RecipeError where a recipe freezes all that could learn."""
    names = [name for name, _ in model.named_parameters()]
    if recipe.lora is not None:
        names = adapted(model, recipe.lora)
    frozen = {name for pattern in recipe.freeze for name in select(model, pattern)}
    if frozen.issuperset(names):
        raise RecipeError(
            f"{recipe.name}: nothing of {model.spec.name} would learn: freeze={recipe.freeze} leaves all of it frozen; freeze less"
        )


def check_rows(model: nn.Module, pairs: Sequence[Pair] | PairTable, recipe: Recipe, loss: Loss) -> None:
    """What all rows tell, those that a stage learns from: as `check_run`, which looks at some of them alone.

    Raises:
        PairsError: fewer than a batch; no hard negatives where they are asked for; pairs without scores for their
            negatives; or the loss does not tell places without a negative. And those
            of the loss's `check_negatives`.
    """
    counts = negatives_of(pairs)
    if not len(pairs):
        dropped = (
            ": no pair has a hard negative, and without_negatives='drop'" if recipe.without_negatives == "drop" else ""
        )
        raise PairsError(f"no pairs are left to train on{dropped}")
    if recipe.batch_size > len(pairs):
        raise PairsError(
            f"a batch of {recipe.batch_size} is larger than the {len(pairs)} pairs that are left; set "
            f"batch_size={len(pairs)} or less"
        )
    each = negatives_each(counts, recipe)
    if recipe.negatives and not each:
        raise PairsError(
            f"each of the {len(pairs):,} pairs has no hard negative and the recipe asks for {recipe.negatives}; add some, mine "
            "them (zoo mine), or set negatives=0"
        )
    kind_of(model).check_rows(pairs, counts, recipe, loss)
    if each and counts.min() < each and loss.hard_negatives and not loss.tells_empty:
        raise PairsError(
            f"{int((counts < each).sum()):,} of {len(pairs):,} pairs have fewer than {each} hard negatives, and the loss "
            f"{type(loss).__name__} reads neither `right` nor `empty`, which tell the places that are left: let it read one, "
            f"or say negatives={max(1, int(counts.min()))} (--negatives) and without_negatives='drop'"
        )
    good = root_of(pairs)
    if each and good is not None and _from_column(recipe, loss):
        mine = np.isin(numbers_in(pairs, good), good.unscored)
        if mine.any():
            first = int(np.flatnonzero(mine)[0])
            raise PairsError(
                f"{int(mine.sum()):,} of {len(pairs):,} pairs have no teacher_scores for their negatives, which the loss "
                f"{recipe.loss} reads; the first is {place_of(pairs, first)}: score them, or take the rows out"
            )
