"""zoo-mini's way of training from scratch: images fed from memory, text distilled first, images regressed last."""

from dataclasses import replace
from typing import Any

from .plans import Distillation, Pictures, PictureSize, Regression
from .recipe import MiniRecipe

__all__ = [
    "Distillation",
    "MiniRecipe",
    "PictureSize",
    "Pictures",
    "Regression",
    "mini_test",
    "zoo_mini",
    "zoo_mini_v1",
]


def zoo_mini(**changes: Any) -> MiniRecipe:
    """The packaged default."""
    return replace(zoo_mini_v1(model="zoo-mini", name="zoo-mini"), **changes)


def zoo_mini_v1(**changes: Any) -> MiniRecipe:
    """From scratch: text distilled and held still, pictures brought to it, small ones first, then regression."""
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
        pictures=Pictures(augment=False),
    )
    return replace(recipe, **changes)
