"""A combiner for a model that is to learn to fuse."""

import torch

from zoo.embedder import Embedder
from zoo.embedder.fused import disjoint
from zoo.fusion import Combiner

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
