"""Catalogue: every distinct query and document of some pairs, by the place where it is read."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.items import Item, Mask

from .pairs import Pair, PairTable, datasets_of


class Catalogue:
    """Every distinct query and document once, by place: items are read when needed, never kept.

    A place is (row, slot): slot -1 is the row's query, 0 its positive, then `also`, then its negatives; row -1 means
    the corpus.
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

        def document(item: Item, place: tuple[int, int]) -> int:
            number = document_ids.setdefault(item_key(item), len(document_ids))
            if number == len(self.documents):
                self.documents.append(place)
                document_kinds.append(kinds.setdefault(item.modalities, len(kinds)))
            return number

        query_of, positive_of = [], []
        by_group: dict[str, list[int]] = {}
        by_query: list[list[int]] = []
        self._groups: list[set[str]] = []  # of every query
        for row in range(len(pairs)):
            pair = pairs[row]
            query = query_ids.setdefault(item_key(pair.query), len(query_ids))
            if query == len(self.queries):
                self.queries.append((row, -1))
                by_query.append([])
                self._groups.append(set())
            answers = [document(item, (row, slot)) for slot, item in enumerate((pair.positive, *pair.also))]
            for slot, item in enumerate(pair.negatives, 1 + len(pair.also)):
                document(item, (row, slot))
            by_query[query] += answers
            if pair.group:
                by_group.setdefault(pair.group, []).extend(answers)
                self._groups[query].add(pair.group)
            query_of.append(query)
            positive_of.append(answers[0])
        for slot, item in enumerate(corpus):
            document(item, (-1, slot))
        for key, query in query_ids.items():
            by_query[query] += [document_ids[key]] if key in document_ids else []
        self.query_of, self.positive_of = torch.tensor(query_of), torch.tensor(positive_of)
        self.document_kinds = torch.tensor(document_kinds)
        self._by_group = {group: torch.tensor(own).unique() for group, own in by_group.items()}
        self._by_query = [torch.tensor(own).unique() for own in by_query]

    def item(self, place: tuple[int, int]) -> Item:
        """What lies at a place."""
        row, slot = place
        if row < 0:
            return self.corpus[slot]
        pair = self.pairs[row]
        return pair.query if slot < 0 else (pair.positive, *pair.also, *pair.negatives)[slot]

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
        part = "query" if slot < 0 else "positive" if slot == 0 else "also" if slot <= len(pair.also) else "negative"
        return f"{pair.where or f'pair {row}'}, {part}"


def item_key(item: Item) -> bytes:
    """A digest that is equal for items of equal content; files are told apart by their paths."""
    digest = hashlib.blake2b(digest_size=16)
    for value in (item.text, item.image, item.video, item.audio, *item.regions):
        if value is None or isinstance(value, str | Path):
            content = f"{type(value).__name__[:3]}{value}".encode("utf-8", "surrogatepass")
        elif isinstance(value, bytes | bytearray | memoryview):
            content = b"bytes" + bytes(value)
        elif isinstance(value, Mask | list | tuple) or hasattr(value, "dtype") or hasattr(value, "getbands"):
            array = np.asarray(value.pixels if isinstance(value, Mask) else value)
            content = f"{array.shape}{array.dtype}".encode() + array.tobytes()
        else:
            content = repr(value).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()


class Items(Sequence):
    """Items at some places, read when asked for."""

    def __init__(self, places: list[tuple[int, int]], catalogue: Catalogue) -> None:
        self.places, self.catalogue = places, catalogue

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Item:
        return self.catalogue.item(self.places[number])
