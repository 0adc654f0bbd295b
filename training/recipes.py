"""Named recipes, one short function each; a variant calls another and changes a field."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .recipe import Distillation, Recipe, Regression, Stage


def zoo_mini(**changes: Any) -> Recipe:
    """The packaged default: text distilled and held still, pictures brought to it, small ones first, then regression."""
    recipe = Recipe(
        model="zoo-mini",
        steps=1900,
        batch_size=256,
        lr=2e-3,
        warmup=120,
        weight_decay=0.05,
        towers=("image",),
        stages=(Stage(64, 0.75), Stage(96, 0.17), Stage(112, 0.08)),
        store_size=128,
        augment=True,
        colour_captions=0.25,
        tint=0.08,
        ema=0.995,
        checkpoint_every=100,
        distillation=Distillation(),
        regression=Regression(size=112),
    )
    return replace(recipe, **changes)


def finetune(*, pairs: int, epochs: int = 3, model: str = "zoo-mini", batch_size: int = 64, **changes: Any) -> Recipe:
    """A gentle run over pairs of one's own: both towers learn, from low rates.

    Args:
        pairs: how many there are. epochs: passes over them. model: what is tuned, for the record.
    """
    steps = max(1, epochs * (pairs // min(batch_size, pairs)))
    recipe = Recipe(model=model, steps=steps, batch_size=batch_size, lr=1e-4, warmup=max(1, steps // 10), clip=1.0)
    return replace(recipe, **changes)


def mini_test(**changes: Any) -> Recipe:
    """A run of seconds with the test model's shape: both towers learn, nothing is distilled."""
    recipe = Recipe(model="mini-test", steps=60, batch_size=16, lr=3e-3, warmup=5, checkpoint_every=20)
    return replace(recipe, **changes)


RECIPES: dict[str, Callable[..., Recipe]] = {
    "zoo-mini": zoo_mini,
    "mini-test": mini_test,
}
