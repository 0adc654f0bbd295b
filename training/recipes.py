"""Named recipes, one short function each; a variant calls another and changes a field."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .recipe import Distillation, Recipe, Stage


def zoo_mini(**changes: Any) -> Recipe:
    """The packaged default: text distilled and held still, pictures brought to it, small pictures first."""
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
    )
    return replace(recipe, **changes)


def zoo_mini_align(**changes: Any) -> Recipe:
    """The second half of the packaged default, from the weights of the first: pictures move to where their words are."""
    recipe = zoo_mini(
        steps=620,
        lr=1e-3,
        warmup=40,
        temperature=0.02,
        alignment=10.0,
        stages=(Stage(64, 0.75), Stage(96, 0.25)),
        distillation=None,
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
    "zoo-mini-align": zoo_mini_align,
    "mini-test": mini_test,
}
