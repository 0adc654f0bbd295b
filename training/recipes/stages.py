"""Recipes of several stages for texts and images."""

from dataclasses import replace
from typing import Any

from ..recipe import Recipe
from .pairs import finetune, hard_negatives


def retrieval_first(**changes: Any) -> tuple[Recipe, Recipe]:
    """Two stages, as NV-Embed and QZhou do: data sets named retrieval* with in-batch negatives, then all of them.

    In the second stage rows of one batch may share a class, so a query has its own hard negatives alone.
    """
    first = hard_negatives(
        name="retrieval", datasets=("retrieval*",), loss="infonce(symmetric=False, query_query=True)"
    )
    second = hard_negatives(
        name="all-tasks", sampler="homogeneous", loss="infonce(symmetric=False, in_batch=False)", holdout=0.0, lr=1.5e-5
    )
    return replace(first, **changes), replace(second, **{k: v for k, v in changes.items() if k != "holdout"})


def qzhou(**changes: Any) -> tuple[Recipe, Recipe]:
    """QZhou-Embedding's two stages: retrieval, then every batch of one data set with the loss of its kind.

    Data sets named graded* (STS, and NLI as grades 1, 0.5 and 0) learn their order by CoSENT; the others have the other
    queries as negatives too, and classes, with their label as `group` (--column classes:group=label), leave out what shares
    it. The authors train in bf16, and graded batches of 768; rates, steps and temperature are theirs, schedule and decay ours.
    """
    first = Recipe(
        name="retrieval",
        datasets=("retrieval*",),
        loss="infonce(temperature=0.02, learn=False, symmetric=False, query_query=True)",
        steps=32_000,
        batch_size=256,
        micro_batch=8,
        lr=3e-5,
        warmup=300,
        weight_decay=0.0,
        sampler="homogeneous",
        holdout=0.1,
    )
    second = replace(
        first,
        name="all-tasks",
        datasets=(),
        losses=(("graded*", "cosent(temperature=0.02)"),),
        steps=8_000,
        lr=2e-5,
        holdout=0.0,
    )
    return replace(first, **changes), replace(second, **{k: v for k, v in changes.items() if k != "holdout"})


def progressive(**changes: Any) -> tuple[Recipe, Recipe, Recipe]:
    """Three stages, as SAIL's content-aware training: large and diverse, then aligned to the task, then hard and clean.

    The data sets' names begin with diverse, task and hard.
    """
    stages = (
        finetune(name="diverse", datasets=("diverse*",), sampler="homogeneous"),
        finetune(name="task", datasets=("task*",), lr=5e-5, holdout=0.0),
        hard_negatives(name="hard", datasets=("hard*",), lr=2e-5, holdout=0.0),
    )
    later = {k: v for k, v in changes.items() if k != "holdout"}
    return replace(stages[0], **changes), replace(stages[1], **later), replace(stages[2], **later)
