"""Catalogue: every distinct query and document of some pairs, by the place where it is read."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.items import Item
from zoo.keys import item_key

from .pairs import Pair, PairTable, datasets_of


class Catalogue:
    """Every distinct query and document once, by place: items are read when needed, never kept.

    A place is (row, slot): slot -1 is the row's query, 0 its positive, then its negatives; row -1 means the corpus.

    Attributes:
        queries, documents: places. query_of, positive_of: `(n,)` number of each pair's query and positive.
        document_kinds: equal numbers are equal modalities. datasets, names: as of a `PairTable`.
        readable: `(n,)` False for rows that are no pair; `bad` holds the place and reason of these.
    """

    def __init__(self, pairs: Sequence[Pair] | PairTable, corpus: Sequence[Item]) -> None:
        self.pairs, self.corpus = pairs, corpus
        numbers, self.names = datasets_of(pairs)
        self.datasets = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
        self.queries: list[tuple[int, int]] = []
        self.documents: list[tuple[int, int]] = []
        query_ids: dict[bytes, int] = {}
        document_ids: dict[bytes, int] = {}
        kinds: dict[frozenset, int] = {}
        document_kinds: list[int] = []

        def document(item: Item, key: bytes, place: tuple[int, int]) -> int:
            number = document_ids.setdefault(key, len(document_ids))
            if number == len(self.documents):
                self.documents.append(place)
                document_kinds.append(kinds.setdefault(item.modalities, len(kinds)))
            return number

        query_of, positive_of = [0] * len(pairs), [0] * len(pairs)
        by_group: dict[str, set[bytes]] = {}
        by_query: list[set[bytes]] = []
        self._groups: list[set[str]] = []  # of every query
        self.bad: list[tuple[str, str]] = []
        self.readable = torch.ones(len(pairs), dtype=torch.bool)
        for row in range(len(pairs)):
            try:
                pair = pairs[row]
                key, *answers = [item_key(item) for item in (pair.query, pair.positive, *pair.also)]
                others = [(item, item_key(item)) for item in pair.negatives]
            except InputError as error:
                self.readable[row] = False
                self.bad.append((pairs.where(row) if hasattr(pairs, "where") else f"pair {row}", str(error)))
                continue
            query = query_of[row] = query_ids.setdefault(key, len(query_ids))
            if query == len(self.queries):
                self.queries.append((row, -1))
                by_query.append({key})  # a query is no negative of itself
                self._groups.append(set())
            by_query[query].update(answers)
            if pair.group:
                by_group.setdefault(pair.group, set()).update(answers)
                self._groups[query].add(pair.group)
            positive_of[row] = document(pair.positive, answers[0], (row, 0))
            for slot, (item, other) in enumerate(others, 1):
                document(item, other, (row, slot))
        for slot, item in enumerate(corpus):
            document(item, item_key(item), (-1, slot))

        def numbers_of(keys: set[bytes]) -> Tensor:
            return torch.tensor([document_ids[key] for key in keys if key in document_ids], dtype=torch.long)

        self.query_of, self.positive_of = torch.tensor(query_of), torch.tensor(positive_of)
        self.document_kinds = torch.tensor(document_kinds)
        self._by_group = {group: numbers_of(keys) for group, keys in by_group.items()}
        self._by_query = [numbers_of(keys) for keys in by_query]

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

    def own(self, row: int) -> list[Tensor]:
        """Documents that are no negatives of this pair, as index tensors."""
        query = int(self.query_of[row])
        return [self._by_query[query], *(self._by_group[group] for group in self._groups[query])]

    def where(self, place: tuple[int, int]) -> str:
        """The place in words, for messages."""
        row, slot = place
        if row < 0:
            return f"corpus, item {slot}"
        pair = self.pairs[row]
        part = "query" if slot < 0 else "positive" if slot == 0 else "negative"
        return f"{pair.where or f'pair {row}'}, {part}"


class Items(Sequence):
    """Items at some places, read when asked for."""

    def __init__(self, places: list[tuple[int, int]], catalogue: Catalogue) -> None:
        self.places, self.catalogue = places, catalogue

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Item:
        return self.catalogue.item(self.places[number])
