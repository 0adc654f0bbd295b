"""The Embedding Zoo: load, compare, search with, fine-tune and publish multimodal embedding models by name."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.errors import InputError, ZooError
from zoo.inputs.item import Box, Item, Mask, Point
from zoo.registry import build_model, get_spec, list_models, register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.bulk import embed_dataset
    from zoo.embedder import Embedder, Encoded, Hit
    from zoo.index import open_index
    from zoo.loading import load_model

__all__ = [
    "Box",
    "Embedder",
    "Encoded",
    "Hit",
    "InputError",
    "Item",
    "Mask",
    "ModelSpec",
    "Point",
    "ZooError",
    "__version__",
    "build_model",
    "embed_dataset",
    "get_spec",
    "list_models",
    "load_model",
    "open_index",
    "register_model",
]

# Names whose modules import torch or a store: found here, loaded when first used.
_LAZY = {
    "Embedder": "zoo.embedder",
    "Encoded": "zoo.embedder",
    "Hit": "zoo.embedder",
    "embed_dataset": "zoo.bulk",
    "load_model": "zoo.loading",
    "open_index": "zoo.index",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
