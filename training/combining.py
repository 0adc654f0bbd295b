"""A combiner for a model that is to learn to fuse."""

import torch

from zoo.embedder import Embedder
from zoo.embedder.fused import apart
from zoo.fusion import Combiner


def add_combiner(model: Embedder, hidden: int, seed: int = 0) -> Embedder:
    """Gives a model an untrained `Combiner`, on its device; one that has one keeps it. Changed in place.

    Raises:
        ValueError: the model reads picture and text together, or not both.
    """
    if apart(model.towers) is None:
        raise ValueError(
            f"{model.spec.name} has no towers of pictures and texts apart, so a combiner has nothing to fuse"
        )
    if not isinstance(model.fusion, Combiner):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.fusion = Combiner(model.spec.dim, hidden).to(model.device)
    return model
