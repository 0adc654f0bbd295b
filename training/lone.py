"""Whether batch normalisation will meet an item that passes alone, told from counts before the first step."""

from collections import Counter

from zoo.embedder import Embedder
from zoo.inputs.identity import Answers

from .gather import world
from .grad_cache import normalises_batches
from .recipe import Recipe
from .rows import count_negatives, negatives_each
from .samplers import BatchSampler

_MOST_ROWS = 100_000  # that are counted: under a second
_WAYS = "let 2 or more pass together, or its statistics stand still (still_norms=True, freeze)"


def lone_items(model: Embedder, answers: Answers, sampler: BatchSampler, recipe: Recipe) -> str:
    """What is said of towers that measure a batch and are given one item of it, in a line; "" for nothing.

    Whether such a step can be trained depends on the item: `RecipeError` says so where it has one value a channel. Of
    several processes, each of which measures its own rows, nothing is told.

    Args:
        model: in training mode. answers: of the rows of the stage. sampler: which of them make the batches.
    """
    norms = {place: tower for place, tower in enumerate(model.towers) if normalises_batches(tower)}
    if not norms or world()[1] > 1:
        return ""
    if recipe.micro_batch == 1:
        return f"micro_batch 1 leaves batch normalisation one item to measure; {_WAYS}"
    steps = min(recipe.steps, sampler.steps_per_epoch, max(1, _MOST_ROWS // recipe.batch_size))
    negatives = negatives_each(count_negatives(answers), recipe)
    lone: Counter[int] = Counter()
    for step in range(steps):
        items = Counter(
            _place(model, answers.contents.modalities[number])
            for row in sampler.rows(step).tolist()
            for number in _trained(answers, row, negatives)
        )
        lone.update(place for place in norms if items[place] == 1)
    told = [f"{'+'.join(sorted(norms[p].encoder.modalities))} in {count:,}" for p, count in sorted(lone.items())]
    if not told:
        return ""
    return (
        f"one item alone is all that batch normalisation has to measure: {', '.join(told)} of {steps:,} steps; {_WAYS}, or "
        "put data of one kind together (sampler='homogeneous')"
    )


def _trained(answers: Answers, row: int, negatives: int) -> list[int]:
    """Numbers of the items that a step trains of a row: the query, one answer, its first hard negatives."""
    numbers, first = answers.of(row).tolist(), 1 + int(answers.counts[row])
    return numbers[:2] + numbers[first : first + negatives]


def _place(model: Embedder, modalities: frozenset[str]) -> int | None:
    """The tower that reads them; None for what is fused of several."""
    return next((place for place, tower in enumerate(model.towers) if modalities <= tower.encoder.modalities), None)
