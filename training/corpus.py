"""PairCorpus: every distinct query and document of some pairs, by the place where it is read."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoo.inputs.item import Item
from zoo.tables.pairs import datasets_of

from .rows import GoodRows

CORPUS = "corpus, item"  # how places begin that are in no pair


class PairCorpus:
    """Every distinct query and document once, by place: items are read when needed, never kept.

    A place is (row, slot): slot -1 is the row's query, 0 its positive, then its negatives; row -1 means the corpus.

    Args:
        pairs: rows that were looked at, so that all of them are pairs (`rows.set_aside`).

    Attributes:
        queries, documents: places. query_of, positive_of: `(n,)` number of each pair's query and positive.
        document_kinds: equal numbers are equal modalities. datasets, names: as of a `PairTable`.
    """

    def __init__(self, pairs: GoodRows, corpus: Sequence[Item]) -> None:
        self.pairs, self.corpus, self.answers = pairs, corpus, pairs.answers
        numbers, self.names = datasets_of(pairs)
        self.datasets = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
        self.queries: list[tuple[int, int]] = []
        self.documents: list[tuple[int, int]] = []
        query_ids: dict[int, int] = {}
        document_ids: dict[int, int] = {}
        query_of, positive_of = [0] * len(pairs), [0] * len(pairs)
        for row in range(len(pairs)):
            asked, positive, *others = self.answers.of(row).tolist()
            query_of[row] = _number(asked, (row, -1), query_ids, self.queries)
            positive_of[row] = _number(positive, (row, 0), document_ids, self.documents)
            for slot, other in enumerate(others[self.answers.counts[row] - 1 :], 1):
                _number(other, (row, slot), document_ids, self.documents)
        contents = self.answers.contents
        for slot, item in enumerate(corpus):
            _number(contents.number(item), (-1, slot), document_ids, self.documents)
        self.query_of, self.positive_of = torch.tensor(query_of), torch.tensor(positive_of)
        kinds: dict[frozenset, int] = {}
        self.document_kinds = torch.tensor(
            [kinds.setdefault(contents.modalities[number], len(kinds)) for number in document_ids]
        )
        self._asked = np.fromiter(query_ids, np.int64, len(query_ids))
        self._document_of = np.full(len(contents), -1)
        self._document_of[list(document_ids)] = np.arange(len(document_ids))

    def item(self, place: tuple[int, int]) -> Item:
        """What lies at a place."""
        row, slot = place
        if row < 0:
            return self.corpus[slot]
        pair = self.pairs[row]
        return pair.query if slot < 0 else (pair.positive, *pair.negatives)[slot]

    def document(self, number: int) -> Item:
        """A document by number."""
        return self.item(self.documents[number])

    def own(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Documents that are no negatives of some pairs, as (place in `rows`, document)."""
        queries = self._asked[self.query_of[rows].numpy()]
        places, right = self.answers.right_for(queries)
        # A query is no negative of itself.
        places, right = np.concatenate([places, np.arange(len(queries))]), np.concatenate([right, queries])
        documents = self._document_of[right]
        return torch.from_numpy(places[documents >= 0]), torch.from_numpy(documents[documents >= 0])

    def where(self, place: tuple[int, int]) -> str:
        """The place in words, for messages."""
        row, slot = place
        if row < 0:
            return f"{CORPUS} {slot}"
        pair = self.pairs[row]
        part = "query" if slot < 0 else "positive" if slot == 0 else "negative"
        return f"{pair.where or f'pair {row}'}, {part}"


def row_of(place: str) -> str:
    """The row of a place in words."""
    for part in ("query", "positive", "negative"):
        place = place.removesuffix(f", {part}")
    return place


def _number(content: int, place: tuple[int, int], ids: dict[int, int], places: list[tuple[int, int]]) -> int:
    """The number of a content among its kind; the first place where it stands is noted."""
    number = ids.setdefault(content, len(ids))
    if number == len(places):
        places.append(place)
    return number


class Items(Sequence):
    """Items at some places, read when asked for."""

    def __init__(self, places: list[tuple[int, int]], pair_corpus: PairCorpus) -> None:
        self.places, self.pair_corpus = places, pair_corpus

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Item:
        return self.pair_corpus.item(self.places[number])
