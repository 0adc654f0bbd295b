"""Embedders: what the trainer does of its own for models that give vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.embedder import Embedder
from zoo.errors import NormsLostError
from zoo.publishing.cards import front_matter, summary, usage
from zoo.publishing.cards.facts import fact_table
from zoo.registry import get_spec
from zoo.spec import ModelSpec, need_one_vector
from zoo.tables.pairs import Pair, PairTable

from ..augmentation import Augmentation
from ..cached_embeddings import (
    ITSELF,
    Teacher,
    check_teacher,
    frozen_vectors,
    pooled_vectors,
    role_prefixes,
    teacher_vectors,
    trained_prompts,
)
from ..combining import prepare
from ..dataloader import PairFeed
from ..errors import LossError, PairsError, RecipeError
from ..held_out import HeldOutEncoder
from ..losses import Loss
from ..outside import is_place
from ..recipe import Recipe
from ..rows import negatives_each
from ..run import Run, layers_of
from ..scoring import Scoring
from ..truncation import truncated


class Embedders:
    """See `Kind`."""

    def prepare(self, model: Embedder, stages: Sequence[Recipe]) -> None:
        """A rule of regions, an untrained combiner; raises as `combining.prepare`."""
        prepare(model, stages)

    def check(self, model: Embedder, recipe: Recipe, loss: Loss) -> None:
        """Raises an error where the model, the loss and the teacher have not the vectors that each other needs."""
        need_one_vector(model.spec, "training")
        if any(part.trains != "embedders" for part in loss.used()):
            raise LossError(
                f"{recipe.name}: the loss {recipe.loss} trains rerankers, and {model.spec.name} is an embedder; take infonce, or "
                "name a reranker (zoo list --rerankers)"
            )
        if recipe.random_negatives:
            raise RecipeError(
                f"{recipe.name}: random_negatives={recipe.random_negatives} is of rerankers; an embedder is told from the other "
                "rows of its batch: set batch_size"
            )
        check_similarity(model.spec, loss)
        if recipe.teacher == ITSELF:
            check_teacher(model.spec, loss)
        Augmentation.parse(recipe.augment)
        layers_of(model, loss)
        for part in loss.modules():
            if (longest := max(getattr(part, "dims", None) or (0,))) > model.spec.dim:
                raise LossError(
                    f"{model.spec.name} gives embeddings of {model.spec.dim} dimensions, which cannot be cut to {longest}; give "
                    "the loss shorter dims"
                )
        if recipe.teacher not in ("", ITSELF) and not is_place(recipe.teacher):
            get_spec(recipe.teacher)

    def check_pair(self, model: Embedder, pair: Pair) -> None:
        for item in pair.items():
            model.route(item)

    def check_rows(self, pairs: Sequence[Pair] | PairTable, counts: np.ndarray, recipe: Recipe, loss: Loss) -> None:
        each = negatives_each(counts, recipe)
        if not each and loss.needs_negatives:
            raise PairsError(
                "without in-batch negatives a query has nothing to be told apart from; give hard negatives (zoo mine)"
            )
        for part in loss.modules():  # of wrappers what they wrap
            if isinstance(part, Loss):
                part.check_negatives(each)

    def given(self, sample: Sequence[Pair], recipe: Recipe) -> set[str]:
        have = {"right", "empty", "ignore", "progress"}
        have |= {"scores"} if all(pair.score is not None for pair in sample) else set()
        have |= {"teacher_queries", "teacher_targets"} if recipe.teacher else set()
        return have | scored(sample)

    def truncated(self, model: Embedder, pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> list[str]:
        return truncated(model, pairs, recipe)

    def teacher(
        self,
        model: Embedder,
        pairs: Sequence[Pair] | PairTable,
        recipe: Recipe,
        folder: Path,
        loss: Loss,
        *,
        progress: bool,
    ) -> Teacher | None:
        """The teacher's vectors."""
        return teacher_vectors(model, pairs, recipe, folder, loss, progress=progress)

    def feed(
        self,
        model: Embedder,
        pairs: Sequence[Pair] | PairTable,
        recipe: Recipe,
        folder: Path,
        loss: Loss,
        *,
        progress: bool,
        teacher: Teacher | None,
        **shared: Any,
    ) -> PairFeed:
        return PairFeed(
            pairs,
            model,
            recipe,
            vectors=frozen_vectors(model, pairs, recipe, folder, progress=progress),
            pooled=pooled_vectors(model, pairs, recipe, folder, loss, progress=progress),
            teacher=teacher,
            all_positives=loss.all_positives,
            **shared,
        )

    def scoring(self, out: Path, model: Embedder, held_out: Any, stage: Recipe, **options: Any) -> Scoring:
        """With the prompts of a stage."""
        return Scoring(out, model, held_out, role_prefixes(model, stage), **options)

    def held_out(self, run: Run) -> HeldOutEncoder:
        return HeldOutEncoder(run)

    def finish(self, model: Embedder, name: str, stage: Recipe, loss: Loss) -> None:
        """Its name, the prompts it was trained with, and the lengths to which it may be cut."""
        base = model.spec
        if name != base.name:
            prompts = {**base.prompts, **trained_prompts(model, stage)}
            model.spec = base.derived(name, prompts=prompts, dims=_trained_cuts(loss, base.dim) or base.dims)

    def save(self, model: Embedder, out: Path, dtype: Any) -> None:
        model.save_pretrained(out, dtype)

    def front_matter(self, spec: ModelSpec, results: Any, kept: dict[str, Any]) -> str:
        return front_matter(spec, repo="", results=results, kept=kept)

    def facts(self, spec: ModelSpec, place: str) -> list[str]:
        return [summary(spec, weights=True), fact_table(spec), f"## Use\n\n```python\n{usage(spec, place)}\n```"]


def scored(sample: Sequence[Pair]) -> set[str]:
    """{"teacher_scores"} where pairs have them for the positive and every negative, {} where not."""
    found = [len(pair.teacher_scores) == 1 + len(pair.negatives) for pair in sample if pair.negatives]
    there = any(found) if found else all(pair.teacher_scores for pair in sample)
    return {"teacher_scores"} if there else set()


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


def _trained_cuts(loss: Loss, dim: int) -> tuple[int, ...]:
    """Lengths at which a Matryoshka loss trained the vectors, longest first."""
    modules = [module for used in loss.used() for module in used.modules()]
    cuts = {cut for module in modules for cut in getattr(module, "dims", ())}
    return tuple(sorted((cut for cut in cuts if cut < dim), reverse=True))
