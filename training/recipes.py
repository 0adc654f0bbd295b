"""Named recipes, one short function each; a variant calls another and changes a field."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .adapters import Lora
from .errors import RecipeError
from .recipe import Distillation, Pictures, PictureSize, Recipe, Regression

LANGUAGE = ("language_model",)  # of a vision-language backbone: its vision layers and projector stay
CAPTIONS = "infonce(temperature=0.05, learn=False)"


def finetune(**changes: Any) -> Recipe:
    """A gentle run over pairs of one's own: all towers learn, from low rates; batch norm keeps its statistics."""
    return replace(Recipe(name="finetune", epochs=3, batch_size=64, still_norms=True, holdout=0.1), **changes)


def finetune_locked_text(**changes: Any) -> Recipe:
    """Pictures are brought to a text tower that stays as it is (LiT's idea with the towers swapped)."""
    return replace(finetune(name="finetune-locked-text", freeze=("text",), lr=3e-4), **changes)


def finetune_locked_image(**changes: Any) -> Recipe:
    """Texts are brought to an image tower that stays as it is (LiT, Zhai et al., 2022): its vectors are computed once."""
    return replace(finetune(name="finetune-locked-image", freeze=("image",), lr=3e-4), **changes)


def lora(**changes: Any) -> Recipe:
    """Low-rank adapters in place of the backbones' weights: little memory, a small file, nothing forgotten."""
    return replace(finetune(name="lora", lora=Lora(), lr=1e-3), **changes)


def hard_negatives(**changes: Any) -> Recipe:
    """Queries and documents with mined negatives (`zoo mine`): one direction, focal weights, no duplicates in a batch."""
    return replace(
        finetune(
            name="hard-negatives", loss="infonce(temperature=0.05, symmetric=False)", sampler="no_duplicates", lr=2e-5
        ),
        **changes,
    )


def graded(**changes: Any) -> Recipe:
    """Pairs with a degree of similarity in a column `score` (STS): CoSENT (Su, 2022)."""
    return replace(finetune(name="graded", loss="cosent", lr=2e-5), **changes)


def large_batch(**changes: Any) -> Recipe:
    """Thousands of in-batch negatives in the memory of 64 items (GradCache)."""
    return replace(finetune(name="large-batch", batch_size=4096, micro_batch=64, lr=5e-4), **changes)


def matryoshka(*, dims: Sequence[int] = (256, 128, 64, 32), **changes: Any) -> Recipe:
    """Vectors that stay useful when cut (Kusupati et al., 2022); `dims` are the cuts, zoo-mini's by default."""
    return replace(finetune(name="matryoshka", loss=f"matryoshka(dims={list(dims)}):infonce"), **changes)


def distilled(**changes: Any) -> Recipe:
    """The pairs, and a teacher's similarities beside them; name the teacher: teacher="…"."""
    return replace(finetune(name="distilled", loss="distillation"), **changes)


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


def composed(**changes: Any) -> Recipe:
    """A combiner learns composed search, picture + words → picture, while both towers stay (CLIP4Cir's second stage).

    For models with a tower each; the pairs have a picture and a text in their queries, pictures as positives.
    """
    recipe = finetune(
        name="composed", combiner=512, freeze=("towers",), lr=1e-3, epochs=30.0, batch_size=256, weight_decay=0.01
    )
    return replace(recipe, **changes)


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
    """InstructCIR's two stages (Zhong et al., 2024): captions, then picture + change → caption of what it becomes.

    The data sets' names begin with caption and triplet; a triplet's one hard negative is the caption of the unchanged
    picture. Rates and sizes are not published; these are ours.
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


def zoo_mini(**changes: Any) -> Recipe:
    """The packaged default: text distilled and held still, pictures brought to it, small ones first, then regression."""
    recipe = Recipe(
        model="zoo-mini",
        name="zoo-mini",
        steps=1900,
        batch_size=256,
        lr=2e-3,
        warmup=120,
        clip=5.0,
        freeze=("text",),
        ema=0.995,
        checkpoint_every=100,
        save_as="float16",
        pictures=Pictures(
            store_size=128,
            sizes=(PictureSize(64, 0.75), PictureSize(96, 0.17), PictureSize(112, 0.08)),
            colour_captions=0.25,
            tint=0.08,
        ),
        distillation=Distillation(),
        regression=Regression(size=112),
    )
    return replace(recipe, **changes)


def mini_test(**changes: Any) -> Recipe:
    """A run of seconds with the test model's shape: both towers learn, nothing is distilled."""
    recipe = Recipe(
        model="mini-test",
        name="mini-test",
        steps=60,
        batch_size=16,
        lr=3e-3,
        warmup=5,
        clip=5.0,
        checkpoint_every=20,
        pictures=Pictures(augment=False),
    )
    return replace(recipe, **changes)


RECIPES: dict[str, Callable[..., Recipe | tuple[Recipe, ...]]] = {
    "finetune": finetune,
    "finetune-locked-text": finetune_locked_text,
    "finetune-locked-image": finetune_locked_image,
    "lora": lora,
    "hard-negatives": hard_negatives,
    "graded": graded,
    "large-batch": large_batch,
    "matryoshka": matryoshka,
    "distilled": distilled,
    "retrieval-first": retrieval_first,
    "qzhou": qzhou,
    "progressive": progressive,
    "composed": composed,
    "vlm2vec": vlm2vec,
    "umarvel": umarvel_stages,
    "instructcir": instructcir_stages,
    "zoo-mini": zoo_mini,
    "mini-test": mini_test,
}


def get_recipe(name: str) -> Callable[..., Recipe | tuple[Recipe, ...]]:
    """A named recipe's function; raises RecipeError with the nearest names for an unknown one."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}; all: " if near else "there are "
        raise RecipeError(f"no recipe is called {name!r}; {hint}{', '.join(RECIPES)}")
    return RECIPES[name]
