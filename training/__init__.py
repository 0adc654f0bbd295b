"""Training: one trainer of embedders and rerankers, its losses, its recipes and its data."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Pair": "zoo.tables.pairs",
    "PairTable": "zoo.tables.pairs",
    "Recipe": ".recipes",  # which knows all kinds, so that `Recipe.from_dict` reads each
    "build_loss": ".losses",
    "finish": ".trainer",
    "list_losses": ".losses",
    "merging": ".merging",
    "mine": ".mining",
    "open_all": "zoo.tables",
    "open_pairs": "zoo.tables",
    "recipes": ".recipes",
    "rehearse": ".dry_run",
    "train": ".trainer",
    "write_pairs": "zoo.tables",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Looked up when asked for: the losses need no data reader, the miner no trainer.
    if name not in _HOMES:
        raise AttributeError(f"zoo.training has no {name}")
    home = _HOMES[name]
    module = import_module(home, __name__)
    return module if home == f".{name}" else getattr(module, name)
