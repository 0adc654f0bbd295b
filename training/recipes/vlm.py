"""Recipes of vision-language models, as their authors trained them."""

from dataclasses import replace
from typing import Any

from ..adapters import Lora
from ..recipe import Recipe

LANGUAGE = ("language_model",)  # of a vision-language backbone: its vision layers and projector stay
CAPTIONS = "infonce(temperature=0.05, learn=False)"


def vlm2vec(**changes: Any) -> Recipe:
    """VLM2Vec-V2 (Meng et al., 2025): DoRA on the language model, fixed temperature, batches of two data sets each.

    The authors' weights of the data sets are for their data: sampler="interleaved(sub_batch=0.5, weights={…}, …)". They
    train in bf16 (precision="bf16", for GPUs).
    """
    recipe = Recipe(
        name="vlm2vec",
        loss="infonce(temperature=0.02, learn=False, symmetric=False)",
        steps=5000,
        batch_size=1024,
        micro_batch=8,
        lr=5e-5,
        schedule="linear",
        warmup=100,
        weight_decay=0.0,
        lora=Lora(rank=16, alpha=64, dropout=0.1, targets=LANGUAGE, dora=True, init="gaussian"),
        sampler='interleaved(sub_batch=0.5, temperature=0.0, order="drawn")',
        negatives=0,
    )
    return replace(recipe, **changes)


def umarvel_stages(**changes: Any) -> tuple[Recipe, ...]:
    """U-MARVEL's five stages (Li et al., 2025): texts, captions, instructions, hard negatives, a reranker's scores.

    The data sets' names begin with text, caption, instruct, hard and distil; of the last, `teacher_scores` are a reranker's
    P(yes), 50 candidates a query. Adapters are merged after every stage. Batches are the authors' over 8 processes.
    """
    first = Recipe(
        name="text",
        datasets=("text*",),
        loss="infonce(temperature=0.05, learn=False, symmetric=False)",
        epochs=2,
        batch_size=576,
        micro_batch=8,
        lr=2e-4,
        warmup=0.03,
        weight_decay=0.0,
        lora=Lora(rank=64, alpha=128, targets=LANGUAGE),
    )
    next_ = replace(first, epochs=1, lora=Lora(rank=128, alpha=256, targets=LANGUAGE))
    learned = "infonce(divisor=True, symmetric=False)"  # from the 0.05 of the captions on, over all later stages
    stages = (
        first,
        replace(next_, name="caption", datasets=("caption*",), loss=CAPTIONS, batch_size=480, lr=1e-4),
        replace(next_, name="instruct", datasets=("instruct*",), loss=learned, batch_size=3840, lr=4e-4, negatives=0),
        replace(next_, name="hard", datasets=("hard*",), loss=learned, batch_size=136, lr=1.5e-5),
        replace(
            next_,
            name="distil",
            datasets=("distil*",),
            loss='distillation(space="group", cosine=0.5, divisor=True, learn=True)',
            teacher="itself",
            batch_size=16,
            lr=1e-5,
        ),
    )
    return tuple(replace(stage, **changes) for stage in stages)


def instructcir_stages(**changes: Any) -> tuple[Recipe, Recipe]:
    """InstructCIR's two stages (Zhong et al., 2024): captions, then image + change → caption of what it becomes.

    The data sets' names begin with caption and triplet; a triplet's one hard negative is the caption of the unchanged
    image. Rates and sizes are not published; these are ours.
    """
    first = Recipe(
        name="caption",
        datasets=("caption*",),
        loss=CAPTIONS,
        batch_size=256,
        micro_batch=8,
        warmup=0.03,
        weight_decay=0.0,
        lora=Lora(rank=64, alpha=128, targets=LANGUAGE),
    )
    second = replace(
        first,
        name="triplet",
        datasets=("triplet*",),
        loss="infonce(temperature=0.05, learn=False, symmetric=False)",
        negatives=1,
        lr=2e-5,
    )
    return replace(first, **changes), replace(second, **changes)
