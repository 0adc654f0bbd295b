"""The Embedding Zoo: load, compare, search with, fine-tune and publish multimodal embedding models by name."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.errors import InputError, ZooError
from zoo.inputs.excerpts import DocumentPage, Excerpt
from zoo.inputs.item import Item
from zoo.inputs.regions import Box, Mask, Point, Polygon
from zoo.inputs.waveform import Waveform
from zoo.registry import build_model, get_spec, list_models, register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.bulk import embed_dataset
    from zoo.comparing import compare
    from zoo.embedder import Embedder, Encoded, RankHit
    from zoo.evaluation.inspecting import inspect_model
    from zoo.index import open_index
    from zoo.loading import load_model
    from zoo.quantizing import quantize
    from zoo.reranking import (
        Reranker,
        RerankerSpec,
        build_reranker,
        get_reranker_spec,
        list_rerankers,
        load_reranker,
        register_reranker,
    )

__all__ = [
    "Box",
    "DocumentPage",
    "Embedder",
    "Encoded",
    "Excerpt",
    "InputError",
    "Item",
    "Mask",
    "ModelSpec",
    "Point",
    "Polygon",
    "RankHit",
    "Reranker",
    "RerankerSpec",
    "Waveform",
    "ZooError",
    "__version__",
    "build_model",
    "build_reranker",
    "compare",
    "embed_dataset",
    "get_reranker_spec",
    "get_spec",
    "inspect_model",
    "list_models",
    "list_rerankers",
    "load_model",
    "load_reranker",
    "open_index",
    "quantize",
    "register_model",
    "register_reranker",
]

# Names of rooms that not every program needs, and whose modules import torch or a store: loaded when first used.
_LAZY = {
    "Embedder": "zoo.embedder",
    "Encoded": "zoo.embedder",
    "compare": "zoo.comparing",
    "RankHit": "zoo.embedder",
    "embed_dataset": "zoo.bulk",
    "inspect_model": "zoo.evaluation.inspecting",
    "load_model": "zoo.loading",
    "open_index": "zoo.index",
    "quantize": "zoo.quantizing",
    **dict.fromkeys(
        (
            "Reranker",
            "RerankerSpec",
            "build_reranker",
            "get_reranker_spec",
            "list_rerankers",
            "load_reranker",
            "register_reranker",
        ),
        "zoo.reranking",
    ),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
