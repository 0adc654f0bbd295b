"""Recipes of rerankers: models that read a query and a document together; a variant calls another and changes a field."""

from dataclasses import replace
from typing import Any

from ..adapters import Lora
from ..recipe import Recipe


def reranker(**changes: Any) -> Recipe:
    """Queries and documents for a reranker, right or wrong each by itself; `zoo mine` gives the hard negatives."""
    return replace(
        Recipe(name="reranker", loss="binary", epochs=1, batch_size=16, lr=2e-5, holdout=0.1),
        **changes,
    )


def reranker_listwise(**changes: Any) -> Recipe:
    """The same by the order of each query's candidates, whose first place weighs most (PListMLE)."""
    return replace(reranker(name="reranker-listwise", loss="plistmle"), **changes)


def reranker_distilled(**changes: Any) -> Recipe:
    """The margins between a query's candidates as a teacher scores them: a column teacher_scores, or --teacher RERANKER."""
    return replace(reranker(name="reranker-distilled", loss="score_distillation"), **changes)


def granite_reranker(**changes: Any) -> Recipe:
    """Granite Embedding Reranker R2's training: PListMLE over 8 negatives of each query.

    As reported (Awasthy et al., 2025): 15,000 steps, rate 2e-4, weight decay 0.05, warm-up 0.15, clip 1.0; negatives mined by the
    retriever up to 0.95 of the positive's score, of which a smaller reranker chose 8. Not published: the batch; 32 is ours.
    """
    recipe = Recipe(
        name="granite-reranker",
        loss="plistmle",
        steps=15_000,
        batch_size=32,
        lr=2e-4,
        weight_decay=0.05,
        warmup=0.15,
        clip=1.0,
        negatives=8,
        holdout=0.1,
    )
    return replace(recipe, **changes)


def reranker_lora(**changes: Any) -> Recipe:
    """Low-rank adapters in place of a reranker's weights, and its classifier in full where it has one."""
    return replace(reranker(name="reranker-lora", lora=Lora(), lr=2e-4), **changes)
