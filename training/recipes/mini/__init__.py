"""zoo-mini's way of training from scratch: images fed from memory, text distilled first, images regressed last."""

from dataclasses import replace
from typing import Any

from .plans import Distillation, Images, ImageSize, Regression, Start, Student
from .recipe import MiniRecipe

__all__ = [
    "Distillation",
    "ImageSize",
    "Images",
    "MiniRecipe",
    "Regression",
    "Start",
    "Student",
    "mini_test",
    "zoo_mini",
    "zoo_mini_v1",
]


def zoo_mini(**changes: Any) -> tuple[MiniRecipe, ...]:
    """The packaged default: a text tower that stands for MiniLM, then images on a pretrained trunk brought to its words."""
    return zoo_mini_text(**changes), zoo_mini_image(**changes)


def zoo_mini_text(**changes: Any) -> MiniRecipe:
    """Three blocks of MiniLM are taught to stand for all six, on English words and what they mean."""
    recipe = MiniRecipe(
        model="zoo-mini",
        name="text",
        datasets=("words",),
        student=Student(),
        loss="imitation",
        teacher="all-minilm-l6-v2",
        freeze=("image",),
        epochs=1.5,
        batch_size=256,
        lr=3e-4,
        warmup=50,
        weight_decay=0.01,
        checkpoint_every=200,
        keep="last",
        save_as="float16",
    )
    return replace(recipe, **changes)


def zoo_mini_image(**changes: Any) -> MiniRecipe:
    """The trunk stands still; its head begins with a ridge regression and the names of ImageNet's classes, then learns."""
    recipe = MiniRecipe(
        model="zoo-mini",
        name="image",
        datasets=("photos", "emoji", "symbols"),
        loss="infonce(temperature=0.05)",
        sampler="mixed",
        freeze=("text", "image.head.classify", "image.head.names"),
        steps=600,
        batch_size=512,
        lr=6e-4,
        warmup=20,
        weight_decay=0.0,
        checkpoint_every=200,
        keep="last",
        save_as="float16",
        images=Images(store_size=208, colour_captions=0.25, tint=0.08),
        start=Start(),
    )
    return replace(recipe, **changes)


def zoo_mini_v1(**changes: Any) -> MiniRecipe:
    """From scratch: text distilled and held still, images brought to it, small ones first, then regression."""
    recipe = MiniRecipe(
        model="zoo-mini-v1",
        name="zoo-mini-v1",
        steps=1900,
        batch_size=256,
        lr=2e-3,
        warmup=120,
        clip=5.0,
        freeze=("text",),
        ema=0.995,
        checkpoint_every=100,
        save_as="float16",
        images=Images(
            store_size=128,
            sizes=(ImageSize(64, 0.75), ImageSize(96, 0.17), ImageSize(112, 0.08)),
            colour_captions=0.25,
            tint=0.08,
        ),
        distillation=Distillation(),
        regression=Regression(size=112),
    )
    return replace(recipe, **changes)


def mini_test(**changes: Any) -> MiniRecipe:
    """A run of seconds with the test model's shape: both towers learn, nothing is distilled."""
    recipe = MiniRecipe(
        model="mini-test",
        name="mini-test",
        steps=60,
        batch_size=16,
        lr=3e-3,
        warmup=5,
        clip=5.0,
        checkpoint_every=20,
        images=Images(augment=False),
    )
    return replace(recipe, **changes)
