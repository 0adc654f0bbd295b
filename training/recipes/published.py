"""Recipes of published embedders, with the constants that their authors gave; what they did not give is said, and ours.

Text lengths and prompts are the model's own; precision is the machine's (`--precision bf16`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..adapters import Lora
from ..recipe import Recipe

# KaLM's cuts of its 896 dimensions, and their weights.
KALM_DIMS, KALM_WEIGHTS = (896, 512, 256, 128, 64), (1.0, 0.3, 0.2, 0.1, 0.1)
# LLM-Embedder's tasks and what each learns by, from its code; with a large model's log-likelihoods as teacher_scores.
STABLE = "stable_distillation(temperature=0.01)"
LLM_EMBEDDER = {
    "qa": STABLE,
    "convsearch": "infonce(temperature=0.01, learn=False, symmetric=False)",
    "chat": "distillation(space='group', temperature=0.01, teacher_temperature=0.1)",
    "lrlm": "distillation(space='group', temperature=0.01, teacher_temperature=0.1)",
    "icl": STABLE,
    "tool": "infonce(temperature=0.01, learn=False, symmetric=False)",
}


def kalm(
    *, dims: Sequence[int] = KALM_DIMS, weights: Sequence[float] = KALM_WEIGHTS, gamma: float = 0.5, **changes: Any
) -> Recipe:
    """KaLM-Embedding-V2's fine-tuning: focal weights, mixed hard negatives and Matryoshka together; 7 negatives of each query.

    From its script: temperature 0.01, rate 1e-5, warm-up 0.1, one epoch, 48 rows a device, dims and weights. Of its 12B sibling:
    gamma 0.5. Not published: gamma of this size, how many mixtures and by which weights, and the share of a batch that is
    exchanged between tasks; these are ours (one pair, one list, 0.25).
    """
    parts = f"focal({gamma}) + mixing(1, lists=1, list_temperature=0.01)"
    cuts = f"matryoshka({list(dims)}, weights={list(weights)})"
    recipe = Recipe(
        name="kalm",
        loss=f"infonce(0.01, learn=False, symmetric=False) + {parts} + {cuts}",
        epochs=1.0,
        batch_size=48,
        micro_batch=8,
        lr=1e-5,
        warmup=0.1,
        negatives=7,
        sampler="homogeneous(exchange=0.25)",
        holdout=0.1,
    )
    return replace(recipe, **changes)


def nv_embed(**changes: Any) -> tuple[Recipe, Recipe]:
    """NV-Embed's two stages: data sets named retrieval* with in-batch negatives, then all tasks with hard negatives alone.

    As reported: batches of 128, 7 hard negatives, rates 2e-5 and 1.5e-5, 20,000 and 18,000 steps, warm-up 500, LoRA of rank 16 with
    alpha 32 and dropout 0.1 (negatives mined by NV-Retriever's 95 % rule in version 2, which takes 4). Not published for
    certain: the temperature; 0.02 is ours.
    """
    first = Recipe(
        name="retrieval",
        datasets=("retrieval*",),
        loss="infonce(0.02, learn=False, symmetric=False)",
        steps=20_000,
        batch_size=128,
        micro_batch=8,
        lr=2e-5,
        warmup=500,
        negatives=7,
        lora=Lora(rank=16, alpha=32.0, dropout=0.1),
        holdout=0.1,
    )
    second = replace(
        first,
        name="all-tasks",
        datasets=(),
        loss="infonce(0.02, learn=False, symmetric=False, in_batch=False)",
        steps=18_000,
        lr=1.5e-5,
        sampler="homogeneous",
        holdout=0.0,
    )
    return replace(first, **changes), replace(second, **{k: v for k, v in changes.items() if k != "holdout"})


def peg(**changes: Any) -> Recipe:
    """PEG: rows with hard negatives count more and more, among 80,000 negatives of a batch; 5 of each query.

    As reported: 80,000 negatives in a batch (13,334 rows with 5 of their own each) and weights that follow the difficulty of a
    row's negatives over the run. Not published: the formula of the weights and its schedule (see `Progressive`), temperature,
    rate and steps; these are ours.
    """
    recipe = Recipe(
        name="peg",
        loss="infonce(0.02, learn=False, symmetric=False) + progressive(1.0, ramp=0.5)",
        epochs=1.0,
        batch_size=13_334,
        micro_batch=64,
        lr=2e-5,
        negatives=5,
        holdout=0.1,
    )
    return replace(recipe, **changes)


def lg_anna(**changes: Any) -> Recipe:
    """LG-ANNA-Embedding: InfoNCE without likely false negatives, by a margin that adapts, plus a reranker's soft labels.

    As reported: the teacher's scores of the positive and the hard negatives as soft labels beside InfoNCE, and a margin that
    depends on the positive's own score. Not published: the formula of the margin and its bounds, the weight of the soft labels
    (1 here), temperatures, rate and batch; these are ours. Needs a teacher (--teacher) and a column teacher_scores.
    """
    margin = "adaptive_margin(0.05, most=0.3)"
    recipe = Recipe(
        name="lg-anna",
        loss=f"infonce(0.02, learn=False, symmetric=False) + {margin} + distillation(space='group', teacher_temperature=1.0)",
        epochs=1.0,
        batch_size=128,
        micro_batch=8,
        lr=2e-5,
        holdout=0.1,
    )
    return replace(recipe, **changes)


def llm_embedder(*, tasks: Sequence[str] = tuple(LLM_EMBEDDER), **changes: Any) -> Recipe:
    """LLM-Embedder: one batch, one task, each with its loss; data sets are named qa*, convsearch*, chat*, lrlm*, icl* and tool*.

    From its code: losses and temperatures by task, groups of 8, 100 rows on each of 8 devices, rate 5e-6, warm-up 0.1, weight
    decay 0.01, 10,000 steps. Rewards are a column teacher_scores, a language model's mean log-likelihood of the answer. lrlm leaves
    out rows whose rewards differ by less than 0.1, which is the data's to do, and draws 10,000 at most.

    Args:
        tasks: those that the data have.
    """
    named = {task: LLM_EMBEDDER[task] for task in tasks}
    recipe = Recipe(
        name="llm-embedder",
        loss=named[tasks[0]],
        losses=tuple((f"{task}*", loss) for task, loss in list(named.items())[1:]),
        steps=10_000,
        batch_size=800,
        micro_batch=64,
        lr=5e-6,
        warmup=0.1,
        weight_decay=0.01,
        negatives=7,
        sampler="homogeneous",
        holdout=0.1,
    )
    return replace(recipe, **changes)


def lightclip(**changes: Any) -> Recipe:
    """LightCLIP's first loss: labels of images and texts are softened towards similar negatives, more as the run goes on.

    As reported in its abstract: labels softened progressively, negatives by their similarity. Not published: how much (0.2 at
    the end here) and every number of the run. Its matching of tokens and its masked language model are not here.
    """
    recipe = Recipe(
        name="lightclip", loss="infonce + softened(0.2)", batch_size=1024, micro_batch=64, lr=5e-4, holdout=0.1
    )
    return replace(recipe, **changes)
