"""What is checked before any long work starts: the pairs, the recipe and the loss against each other."""

from collections.abc import Sequence

import numpy as np

from zoo.embedder import Embedder
from zoo.errors import InputError, NormsLostError
from zoo.inputs.identity import Contents
from zoo.loading import is_source
from zoo.registry import get_spec
from zoo.spec import ModelSpec, need_one_vector
from zoo.tables.pairs import Pair, PairTable, numbers_in, place_of

from .adapters import adapted, check_lora
from .augmentation import Augmentation
from .cached_embeddings import ITSELF, check_teacher
from .dataloader import sample_of
from .errors import LossError, PairsError, RecipeError
from .gather import world
from .losses import Loss
from .optim import select
from .recipe import Recipe
from .rows import negatives_each, negatives_of, root_of
from .run import layers_of

# What a batch may hold beyond queries and targets.
_NAMES = {"right", "empty", "ignore", "scores", "teacher_queries", "teacher_targets", "teacher_scores", "progress"}


def check_run(model: Embedder, pairs: Sequence[Pair] | PairTable, recipe: Recipe, loss: Loss) -> None:
    """Raises an error that says what would go wrong.

    Raises:
        PairsError: no pairs, a single one, fewer than a batch, or all of them the same.
        PairsError: the loss needs a column or a teacher that is not there.
        UnsupportedModalityError: the model does not read the pairs' modalities.
        TokenVectorsError: a model of late interaction. NormsLostError: a loss of unit vectors alone, and a model that
            compares by dot product.
    """
    need_one_vector(model.spec, "training")
    check_similarity(model.spec, loss)
    if loss.teacher != "" and loss.teacher != recipe.teacher:
        raise RecipeError(
            f"{recipe.name}: the loss reads the teacher {loss.teacher}; name it: teacher={loss.teacher!r}"
        )
    if recipe.teacher == ITSELF:
        check_teacher(model.spec, loss)
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
        for item in pair.items():
            model.route(item)
    contents = Contents()
    told = {pair.group or contents.number(pair.positive) for pair in sample}
    if len(told) == 1 and not any(pair.score is not None for pair in sample):
        positive = sample[0].group or sample[0].positive.text or "one of no text"
        raise PairsError(
            f"all positives are the same ({positive!r:.80}): there is nothing to tell apart; each query "
            "needs a positive of its own"
        )
    _check_names(model, recipe, loss)
    if unknown := sorted((loss.reads | loss.may_read) - _NAMES):
        raise PairsError(
            f"the loss {type(loss).__name__} reads {', '.join(unknown)}, which no batch has; there are "
            f"{', '.join(sorted(_NAMES))} (query_groups and target_groups have become right)"
        )
    several = next((pair for pair in sample if pair.extra_positives), None)
    if "teacher_scores" in loss.reads and several is not None:
        raise PairsError(
            f"{several.where or 'a pair'} has {1 + len(several.extra_positives)} positives, and the loss {recipe.loss} reads "
            "teacher_scores, which are of the first alone; give each positive a row of its own, with its scores"
        )
    have = {"right", "empty", "ignore", "progress"}
    have |= {"scores"} if all(pair.score is not None for pair in sample) else set()
    scored = [len(pair.teacher_scores) == 1 + len(pair.negatives) for pair in sample if pair.negatives]
    have |= {"teacher_scores"} if (any(scored) if scored else all(pair.teacher_scores for pair in sample)) else set()
    have |= {"teacher_queries", "teacher_targets"} if recipe.teacher else set()
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


def check_similarity(spec: ModelSpec, loss: Loss) -> None:
    """Raises NormsLostError where the loss's maths is not of vectors like the model's."""
    refusing = [
        part for part in loss.modules() if spec.similarity not in getattr(part, "similarities", {spec.similarity})
    ]
    if not refusing:
        return
    # What refuses by itself, not for a part of its own.
    name = type(next((p for p in refusing if spec.similarity not in type(p).similarities), refusing[-1])).__name__
    raise NormsLostError(
        f"{spec.name} compares by dot product, and the loss {name} is of unit vectors; take one that holds for norms too, "
        "such as infonce (temperature=1), or in a loss of your own say so: similarities = {'cosine', 'dot'}"
    )


def _check_names(model: Embedder, recipe: Recipe, loss: Loss) -> None:
    """Every name that the recipe gives means something."""
    for pattern in (*recipe.freeze, *(pattern for pattern, _ in recipe.rates)):
        select(model, pattern)
    if recipe.lora is not None:
        check_lora(model, recipe.lora)
    Augmentation.parse(recipe.augment)
    check_learning(model, recipe)
    layers_of(model, loss)
    for part in loss.modules():
        if (longest := max(getattr(part, "dims", None) or (0,))) > model.spec.dim:
            raise LossError(
                f"{model.spec.name} gives embeddings of {model.spec.dim} dimensions, which cannot be cut to {longest}; give the "
                "loss shorter dims"
            )
    if recipe.teacher not in ("", ITSELF) and not is_place(recipe.teacher):
        get_spec(recipe.teacher)


def check_learning(model: Embedder, recipe: Recipe) -> None:
    """Raises RecipeError where a recipe freezes all that could learn."""
    names = [name for name, _ in model.named_parameters()]
    if recipe.lora is not None:
        names = adapted(model, recipe.lora)
    frozen = {name for pattern in recipe.freeze for name in select(model, pattern)}
    if frozen.issuperset(names):
        raise RecipeError(
            f"{recipe.name}: nothing of {model.spec.name} would learn: freeze={recipe.freeze} leaves all of it frozen; freeze less"
        )


def is_place(name: str) -> bool:
    """Whether `load_model` opens a folder or a library's checkpoint by this name, not a registered model."""
    return is_source(name) or name.startswith(("./", "../", "/", "~"))


def check_rows(pairs: Sequence[Pair] | PairTable, recipe: Recipe, loss: Loss) -> None:
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
    if not each and loss.needs_negatives:
        raise PairsError(
            "without in-batch negatives a query has nothing to be told apart from; give hard negatives (zoo mine)"
        )
    for part in loss.modules():  # of wrappers what they wrap
        if isinstance(part, Loss):
            part.check_negatives(each)
    if each and counts.min() < each and loss.hard_negatives and not {"right", "empty"} & (loss.reads | loss.may_read):
        raise PairsError(
            f"{int((counts < each).sum()):,} of {len(pairs):,} pairs have fewer than {each} hard negatives, and the loss "
            f"{type(loss).__name__} reads neither `right` nor `empty`, which tell the places that are left: let it read one, "
            f"or say negatives={max(1, int(counts.min()))} (--negatives) and without_negatives='drop'"
        )
    good = root_of(pairs)
    if each and good is not None and "teacher_scores" in loss.reads:
        mine = np.isin(numbers_in(pairs, good), good.unscored)
        if mine.any():
            first = int(np.flatnonzero(mine)[0])
            raise PairsError(
                f"{int(mine.sum()):,} of {len(pairs):,} pairs have no teacher_scores for their negatives, which the loss "
                f"{recipe.loss} reads; the first is {place_of(pairs, first)}: score them, or take the rows out"
            )
