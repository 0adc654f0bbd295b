"""Hybrid search: what vectors, words and sparse vectors find, fused by their ranks.

Reciprocal rank fusion, Cormack, Clarke and Buettcher, 2009: of two lists whose scores cannot be compared the ranks can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.arguments import checked, function, optional, text, texts, whole
from zoo.index.base import SearchHit, a_query
from zoo.index.bm25 import BM25
from zoo.index.kinds import Compared
from zoo.index.sparse import SparseIndex, check_sparse
from zoo.index.text_rows import Texts, check_columns

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.index.store import Store

RRF = 60  # of the paper
DEPTH = 100  # results of each list that are fused
DENSE, LEXICAL, SPARSE = LISTS = ("dense", "bm25", "sparse")


class Fused(NamedTuple):
    """One id in a fused list: the sum of its 1 / (60 + rank), and its ranks, from 1, by the list's name."""

    id: str
    score: float
    ranks: dict[str, int]


def reciprocal_rank_fusion(lists: Mapping[str, Sequence[str]], *, k: int = RRF) -> list[Fused]:
    """Several lists of ids, best first, as one; equal sums keep the order in which the lists have them.

    >>> [one.id for one in reciprocal_rank_fusion({"dense": ["a", "b"], "bm25": ["b", "c"]})]
    ['b', 'a', 'c']
    """
    ranks: dict[str, dict[str, int]] = {}
    for name, ids in lists.items():
        for rank, one in enumerate(ids, start=1):
            ranks.setdefault(one, {}).setdefault(name, rank)
    fused = [Fused(one, sum(1 / (k + rank) for rank in of.values()), of) for one, of in ranks.items()]
    return sorted(fused, key=lambda one: (-one.score, min(one.ranks.values())))


class HybridIndex:
    """An index that is searched by vectors and by words (BM25) at once.

    BM25 is made of the rows that the index shows when it is first asked, kept beside the vectors, and made anew for a later
    version. Rows without a text are found by their vectors alone.

    Args:
        index: what `zoo.open_index` opened.
        columns: attributes with the texts of the rows: "text" for a text file, of a table the embedded column. Others
            that describe the rows may stand here too, such as the titles of images.
        files: texts that stand in no column, such as those of text files among images (`zoo.vectors.file_texts`).
        model: one that gives sparse vectors of texts (bge-m3), which are a third list. They are made from the texts when they are
            first asked for, which is a pass over all of them, and kept beside the vectors; later only new texts are read.

    Raises:
        ArgumentError: the index has no such column, or the model gives no sparse vectors.
    """

    @checked(columns=texts, files=optional(function))
    def __init__(
        self,
        index: "Store",
        columns: Sequence[str] = ("text",),
        *,
        model: "Embedder | None" = None,
        files: Texts | None = None,
    ) -> None:
        check_columns(index, columns, files)
        if model is not None:
            check_sparse(model)
        self.index, self.columns, self.model, self.files = index, tuple(columns), model, files
        self._sparse: SparseIndex | None = None
        self._bm25: BM25 | None = None

    @checked(text=text, query=a_query, k=whole(), where=optional(text), depth=whole())
    def search(
        self, text: str, query: Any, k: int = 10, *, where: str | None = None, depth: int = DEPTH
    ) -> list[Compared]:
        """The `k` rows that both lists together rank best, best first.

        Args:
            text: the query's words, for BM25. query: its vector `(dim,)`, from `model.encode_query`.
            where: as of `index.search`. depth: results of each list that are fused, at least k.

        Returns:
            Results with `fused`, by which they are ordered, and `ranks`; `score` is the similarity of the vectors, as ever.

        Raises:
            IndexStateError: no row has a text.
        """
        depth = max(k, depth)
        dense = self.index.search(query, depth, where=where)
        return self.fuse(text, query, dense, where=where, depth=depth)[:k]

    def fuse(
        self, text: str, query: Any, dense: Sequence[SearchHit], *, where: str | None = None, depth: int = DEPTH
    ) -> list[Compared]:
        """What a search of the vectors has found, fused with what the words find; results of that search stay what they are."""
        lists = {DENSE: [hit.id for hit in dense], LEXICAL: self.bm25.search(self.index, text, depth, where)}
        if self.model is not None:
            lists[SPARSE] = self.sparse.search(self.index, text, depth, where)
        found = {hit.id: hit for hit in dense}
        others = dict.fromkeys(one for ids in lists.values() for one in ids if one not in found)
        found |= {hit.id: hit for hit in self._rows(list(others), query)}
        return [
            replace(_compared(found[one.id]), ranks=one.ranks, fused=one.score)
            for one in reciprocal_rank_fusion(lists)
            if one.id in found  # else somebody has removed it meanwhile
        ]

    @property
    def bm25(self) -> BM25:
        """The texts of the version that the index shows."""
        if self._bm25 is None or self._bm25.version != self.index.commit():
            self._bm25 = BM25(self.index, self.columns, self.files)
        return self._bm25

    @property
    def sparse(self) -> SparseIndex:
        """The sparse vectors of the version that the index shows; of a hybrid index with a model."""
        assert self.model is not None
        if self._sparse is None or self._sparse.version != self.index.commit():
            self._sparse = SparseIndex(self.index, self.columns, self.model, self.files)
        return self._sparse

    def _rows(self, ids: Sequence[str], query: Any) -> list[SearchHit]:
        """The rows with these ids, each with its similarity."""
        if not ids:
            return []
        quoted = ", ".join("'" + one.replace("'", "''") + "'" for one in ids)
        return self.index.search(query, len(ids), where=f"id IN ({quoted})", exact=True)


def _compared(hit: SearchHit) -> Compared:
    return hit if isinstance(hit, Compared) else Compared(**vars(hit))
