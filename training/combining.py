"""What a recipe sets in a model before it is trained: a combiner, the rule of regions."""

from collections.abc import Sequence

import torch

from zoo.embedder import Embedder
from zoo.embedder.fused import disjoint
from zoo.embedder.regional import RegionTower
from zoo.fusion import Combiner

from .errors import RecipeError
from .recipe import Recipe

_USUAL = ("image", "text")


def add_combiner(model: Embedder, hidden: int, seed: int = 0) -> Embedder:
    """Gives a model an untrained `Combiner`, on its device; one that has one keeps it. Changed in place.

    Raises:
        ValueError: no two towers of the model read different things, or many do and none of them images and texts.
    """
    pairs = [parts for parts in map(tuple, disjoint(model.towers)) if len(parts) == 2]
    if not pairs:
        raise ValueError(
            f"{model.spec.name} has no towers that read different things, so a combiner has nothing to fuse"
        )
    if len(pairs) > 1 and _USUAL not in pairs:
        raise ValueError(
            f"{model.spec.name} has several pairs of towers ({', '.join(map('+'.join, pairs))}), and a combiner is for one: "
            "set model.fusion = zoo.fusion.Combiner(dim, hidden, parts=…)"
        )
    if not isinstance(model.fusion, Combiner):
        parts = _USUAL if _USUAL in pairs else pairs[0]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.fusion = Combiner(model.spec.dim, hidden, parts=parts).to(model.device)
    return model


def set_region_rule(model: Embedder, stages: Sequence[Recipe]) -> None:
    """Sets the rule of regions that the stages name; without one the model keeps its own. Changed in place.

    Raises:
        RecipeError: stages name different ones, or the model's own encoder reads regions. ArgumentError: a rule that is for none
        of its towers.
    """
    rules = list(dict.fromkeys(stage.region for stage in stages))
    if len(rules) > 1:
        raise RecipeError(
            f"a model has one rule of regions, and the stages name several: {', '.join(map(repr, rules))}"
        )
    if not rules[0]:
        return
    model.region_rule = rules[0]
    if not any(isinstance(reader, RegionTower) for reader in model.routes):
        raise RecipeError(f"{model.spec.name} reads regions by itself, so that no rule is followed; leave region out")


def prepare(model: Embedder, stages: Sequence[Recipe]) -> None:
    """Gives a model what the stages need before the first step: their rule of regions, an untrained combiner. Changed in place.

    Raises:
        As `set_region_rule` and `add_combiner`.
    """
    set_region_rule(model, stages)
    for stage in stages:
        if stage.combiner:
            add_combiner(model, stage.combiner, stage.seed)
