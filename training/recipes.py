"""Named recipes, one short function each; a variant calls another and changes a field."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .adapters import Lora
from .recipe import Distillation, Pictures, PictureSize, Recipe, RecipeError, Regression


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
    "progressive": progressive,
    "composed": composed,
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
