"""Where vectors are kept and searched: `open_index` over the shards of `zoo embed`, and the stores behind it."""

from zoo.index.base import IndexFacts, IndexStateError, Match, VectorError, VectorIndex
from zoo.index.exact import ExactIndex
from zoo.index.lance import LanceIndex
from zoo.index.opening import check_model, iter_tables, open_index, read_manifest
from zoo.index.where import FilterError

__all__ = [
    "ExactIndex",
    "FilterError",
    "IndexFacts",
    "IndexStateError",
    "LanceIndex",
    "Match",
    "VectorError",
    "VectorIndex",
    "check_model",
    "iter_tables",
    "open_index",
    "read_manifest",
]
