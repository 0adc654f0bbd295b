"""Rerankers: what the trainer does of its own for models that score a query and a document together."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.inputs.item import Item
from zoo.publishing.cards import rerankers as cards
from zoo.reranking import Reranker, RerankerSpec, get_reranker_spec
from zoo.tables.pairs import Pair, PairTable

from ..cached_embeddings import ITSELF
from ..dataloader import sample_of
from ..errors import LossError, PairsError, RecipeError
from ..losses import Loss
from ..outside import is_place
from ..recipe import Recipe
from ..rows import negatives_each
from ..run import Run
from .embedders import scored
from .group_feed import RANDOM, GroupFeed, random_each
from .group_scoring import GroupScoring
from .pair_model import PairModel
from .pair_scorer import PairScorer
from .teacher_scores import TeacherScores, teacher_scores

# Of an embedder's inputs and towers.
_NOT_OURS = (
    "combiner",
    "region",
    "augment",
    "views",
    "query_prompt",
    "document_prompt",
    "query_prompt_name",
    "document_prompt_name",
)


_SAMPLED = 128  # rows: tokenising them takes a fraction of a second


class Rerankers:
    """See `Kind`."""

    def prepare(self, model: PairModel, stages: Sequence[Recipe]) -> None:
        """Nothing; raises RecipeError for what only an embedder can be given."""
        usual = {field.name: field.default for field in fields(Recipe)}
        for stage in stages:
            if own := [name for name in _NOT_OURS if getattr(stage, name) != usual[name]]:
                raise RecipeError(
                    f"{stage.name}: {own[0]}={getattr(stage, own[0])!r} is of embedders, and {model.spec.name} is a reranker, which "
                    "is asked as its own facts say; leave it out"
                )
            if type(stage) is not Recipe:
                raise RecipeError(
                    f"{stage.name} is a recipe of embedders, and {model.spec.name} is a reranker: --recipe reranker"
                )

    def check(self, model: PairModel, recipe: Recipe, loss: Loss) -> None:
        """Raises LossError for a loss over vectors, RecipeError or UnknownModelError for a teacher that is no reranker."""
        if any(part.trains != "rerankers" for part in loss.used()):
            raise LossError(
                f"{recipe.name}: the loss {recipe.loss} trains embedders, and {model.spec.name} is a reranker; take binary, plistmle "
                "or score_distillation (--recipe reranker)"
            )
        if recipe.teacher and not any("teacher_scores" in part.reads for part in loss.used()):
            raise RecipeError(
                f"{recipe.name}: the loss {recipe.loss} reads no teacher's scores; take score_distillation, or leave the teacher "
                f"{recipe.teacher} out"
            )
        if recipe.teacher not in ("", ITSELF) and not is_place(recipe.teacher):
            get_reranker_spec(recipe.teacher)

    def check_pair(self, model: PairModel, pair: Pair) -> None:
        for item in pair.items():
            model.reranker.check_read(item)

    def check_rows(self, pairs: Sequence[Pair] | PairTable, counts: np.ndarray, recipe: Recipe, loss: Loss) -> None:
        each = negatives_each(counts, recipe)
        drawn, sample = random_each(pairs, recipe, loss, each), sample_of(pairs)
        taught = "teacher_scores" in loss.reads
        if taught and drawn:
            raise PairsError(
                f"random_negatives={drawn}: a teacher's scores are of the pairs' own negatives, and {recipe.loss} reads them; leave "
                "it out, or mine more (zoo mine)"
            )
        graded = len({pair.score for pair in sample}) > 1
        if not each and not drawn and (loss.needs_negatives or not (graded or taught)):
            raise PairsError(
                f"the loss {recipe.loss} has nothing to tell a query's document from: give hard negatives (zoo mine), grades, or "
                f"random_negatives={RANDOM} (--random-negatives)"
            )
        bounded = [part for part in loss.modules() if getattr(part, "bounded", False)]
        wrong = [pair for pair in sample if pair.score is not None and not 0 <= pair.score <= 1]
        if bounded and wrong:
            raise PairsError(
                f"{wrong[0].where or 'a pair'} has the grade {wrong[0].score:g}, and the loss {recipe.loss} reads 0 to 1; scale the "
                "column, or take plistmle"
            )

    def given(self, sample: Sequence[Pair], recipe: Recipe) -> set[str]:
        return {"labels", "progress"} | ({"teacher_scores"} if recipe.teacher else scored(sample))

    def truncated(self, model: PairModel, pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> list[str]:
        """Of the pairs that a step may read: which part of a pair goes first is the model's own."""
        found = [
            cut
            for pair in sample_of(pairs, _SAMPLED)
            for document in (pair.positive, *pair.extra_positives, *pair.negatives)
            if (cut := _truncated(model.reranker, pair.query, document)) is not None
        ]
        if not any(found):
            return []
        share = f"{100 * sum(found) / len(found):.0f} %" if sum(found) * 200 >= len(found) else "under 1 %"
        return [
            f"{share} of the queries with their documents are truncated: the model reads {model.spec.max_tokens:,} tokens of both "
            f"({sum(found):,} of {len(found):,} that were looked at)"
        ]

    def teacher(
        self,
        model: PairModel,
        pairs: Sequence[Pair] | PairTable,
        recipe: Recipe,
        folder: Path,
        loss: Loss,
        *,
        progress: bool,
    ) -> TeacherScores | None:
        """The teacher's scores."""
        return teacher_scores(model, pairs, recipe, folder, progress=progress)

    def feed(
        self,
        model: PairModel,
        pairs: Sequence[Pair] | PairTable,
        recipe: Recipe,
        folder: Path,
        loss: Loss,
        *,
        progress: bool,
        teacher: TeacherScores | None,
        **shared: Any,
    ) -> GroupFeed:
        return GroupFeed(pairs, model, recipe, loss=loss, teacher=teacher, **shared)

    def scoring(self, out: Path, model: PairModel, held_out: Any, stage: Recipe, **options: Any) -> GroupScoring:
        return GroupScoring(out, model, held_out, ("", ""), **options)

    def held_out(self, run: Run) -> PairScorer:
        return PairScorer(run.model, run)

    def finish(self, model: PairModel, name: str, stage: Recipe, loss: Loss) -> None:
        """Its name, and what it was made of."""
        spec = model.spec
        if name != spec.name:
            base = spec.hub_id or spec.base or spec.name
            model.reranker.spec = replace(spec, name=name, base=base, hub_id="", revision=None)

    def save(self, model: PairModel, out: Path, dtype: Any) -> None:
        model.reranker.save_pretrained(out, dtype=dtype)

    def front_matter(self, spec: RerankerSpec, results: Any, kept: dict[str, Any]) -> str:
        return cards.front_matter(spec, kept)

    def facts(self, spec: RerankerSpec, place: str) -> list[str]:
        use = f"## Use\n\n```python\n{cards.usage(spec, place)}\n```"
        return [cards.summary(spec, weights=True), cards.fact_table(spec), use]


def _truncated(reranker: Reranker, query: Item, document: Item) -> bool | None:
    """None for a pair that cannot be read: the run sets it aside and lists it."""
    try:
        return reranker.lost_tokens(query, document) > 0
    except InputError:
        return None
