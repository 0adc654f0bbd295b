"""Recipes of one stage for pairs of one's own; a variant calls another and changes a field."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..adapters import Lora
from ..recipe import Recipe


def finetune(**changes: Any) -> Recipe:
    """A gentle run over pairs of one's own: all towers learn, from low rates; batch norm keeps its statistics."""
    return replace(Recipe(name="finetune", epochs=3, batch_size=64, still_norms=True, holdout=0.1), **changes)


def finetune_locked_text(**changes: Any) -> Recipe:
    """Images are brought to a text tower that stays as it is (LiT's idea with the towers swapped)."""
    return replace(finetune(name="finetune-locked-text", freeze=("text",), lr=3e-4), **changes)


def finetune_locked_image(**changes: Any) -> Recipe:
    """Texts are brought to an image tower that stays as it is (LiT, Zhai et al., 2022): its vectors are computed once."""
    return replace(finetune(name="finetune-locked-image", freeze=("image",), lr=3e-4), **changes)


def lora(**changes: Any) -> Recipe:
    """Low-rank adapters in place of the backbones' weights: little memory, a small file, nothing forgotten."""
    return replace(finetune(name="lora", lora=Lora(), lr=1e-3), **changes)


def hard_negatives(**changes: Any) -> Recipe:
    """Queries and documents with mined negatives (`zoo mine`): one direction, no duplicates in a batch."""
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


def matryoshka(*, dims: Sequence[int] = (384, 192, 96, 48), **changes: Any) -> Recipe:
    """Vectors that stay useful when cut (Kusupati et al., 2022); `dims` are the cuts, zoo-mini's by default."""
    return replace(finetune(name="matryoshka", loss=f"matryoshka(dims={list(dims)}):infonce"), **changes)


def distilled(**changes: Any) -> Recipe:
    """The pairs, and a teacher's similarities beside them; name the teacher: teacher="…"."""
    return replace(finetune(name="distilled", loss="distillation"), **changes)


def regions(**changes: Any) -> Recipe:
    """Regions and their captions, told from the captions of what else the image shows: the image tower's head learns alone.

    The pairs have an image with its regions in their queries, and hard negatives (`pack:regions` shows the form). The model's rule
    of regions reads them; what is below the head is computed once.
    """
    recipe = finetune(
        name="regions",
        loss="infonce(temperature=0.05)",
        freeze=("text", "image.encoder"),
        lr=1e-4,
        epochs=5.0,
        batch_size=256,
        weight_decay=0.0,
    )
    return replace(recipe, **changes)


def regions_lora(**changes: Any) -> Recipe:
    """As `regions`, with low-rank adapters in the image tower's backbone: also for towers whose head has no weights."""
    return replace(
        regions(name="regions-lora", freeze=("text",), lora=Lora(), lr=1e-3, epochs=3.0, batch_size=64), **changes
    )


def composed(**changes: Any) -> Recipe:
    """A combiner learns composed search, image + text → image, while both towers stay (CLIP4Cir's second stage).

    For models with a tower each; the pairs have an image and a text in their queries, images as positives.
    """
    recipe = finetune(
        name="composed", combiner=512, freeze=("towers",), lr=1e-3, epochs=30.0, batch_size=256, weight_decay=0.01
    )
    return replace(recipe, **changes)
