"""Rerankers: models that read a query and a document together and say how well the one answers the other.

Facts and names: `spec`, `registry`; the families are the files of `zoo/rerankers`. What scores: `reranker`. Opening and saving:
`loading`, `saving`. The hits of a search, ranked anew: `matches`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.reranking.registry import build_reranker, get_reranker_spec, is_reranker, list_rerankers, register_reranker
from zoo.reranking.spec import RerankerFormat, RerankerSpec

if TYPE_CHECKING:
    from zoo.reranking.loading import load_reranker
    from zoo.reranking.reranker import Reranker, Scored

__all__ = [
    "Reranker",
    "RerankerFormat",
    "RerankerSpec",
    "Scored",
    "build_reranker",
    "get_reranker_spec",
    "is_reranker",
    "list_rerankers",
    "load_reranker",
    "register_reranker",
]
# Names whose modules import torch: found here, loaded when first used.
_LAZY = {
    "Reranker": "zoo.reranking.reranker",
    "Scored": "zoo.reranking.reranker",
    "load_reranker": "zoo.reranking.loading",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo.reranking' has no attribute {name!r}")
