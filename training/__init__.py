"""Training: one contrastive trainer, its losses, its recipes and its data."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Pair": "pairs",
    "PairTable": "pairs",
    "Recipe": "recipe",
    "build_loss": "losses",
    "finish": "trainer",
    "list_losses": "losses",
    "merging": "merging",
    "mine": "mining",
    "open_all": "tables",
    "open_pairs": "tables",
    "recipes": "recipes",
    "rehearse": "rehearsal",
    "train": "trainer",
    "write_pairs": "tables",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Looked up when asked for: the losses need no data reader, the miner no trainer.
    if name not in _HOMES:
        raise AttributeError(f"zoo.training has no {name}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)
