"""Where vectors are kept and searched: `open_index` over the shards of `zoo embed`, and the stores behind it."""

from zoo.index.base import IndexFacts, SearchHit, VectorIndex
from zoo.index.exact import ExactIndex
from zoo.index.hybrid import HybridIndex, reciprocal_rank_fusion
from zoo.index.kinds import Compared, Mixed, compared, search_kinds
from zoo.index.lance import LanceIndex
from zoo.index.living import Compacted, Deleted, compact, delete_vectors
from zoo.index.opening import check_model, iter_tables, open_index, read_manifest

__all__ = [
    "Compacted",
    "Compared",
    "Deleted",
    "ExactIndex",
    "HybridIndex",
    "IndexFacts",
    "LanceIndex",
    "Mixed",
    "SearchHit",
    "VectorIndex",
    "check_model",
    "compact",
    "compared",
    "delete_vectors",
    "iter_tables",
    "open_index",
    "read_manifest",
    "reciprocal_rank_fusion",
    "search_kinds",
]
