"""What the tests of mining share: a real model whose vectors are known, and pairs of its words."""

import math

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.nn import functional as F

from zoo.embedder import Embedder, Tower
from zoo.encoders.static import StaticText
from zoo.heads import Identity
from zoo.inputs.item import Item
from zoo.pooling import Mean
from zoo.spec import ModelSpec
from zoo.tables.pairs import Pair

DIM = 64


def teacher_of(vectors: dict[str, torch.Tensor]) -> Embedder:
    """A static model that gives every word the vector it is told."""
    words = ["[UNK]", *vectors]
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    width = len(next(iter(vectors.values())))
    encoder = StaticText(len(words), width, tokenizer=tokenizer)
    with torch.no_grad():
        encoder.table.weight.copy_(torch.stack([torch.ones(width), *vectors.values()]))
    spec = ModelSpec("words", frozenset({"text"}), width, "mit")
    return Embedder(spec, [Tower(encoder, Mean(), Identity())]).eval()


def at_cosine(vector: torch.Tensor, cosine: float, generator: torch.Generator) -> torch.Tensor:
    """A random unit vector with this cosine to a unit vector."""
    other = torch.randn(len(vector), generator=generator)
    other = F.normalize(other - (other @ vector) * vector, dim=0)
    return cosine * vector + math.sqrt(1 - cosine**2) * other


def text(word: str) -> Item:
    return Item(text=word)


def words(pair: Pair) -> list[str]:
    return [item.text for item in pair.negatives]


def cosine(teacher: Embedder, left: str, right: str) -> float:
    return float(teacher.similarity(teacher.encode(left), teacher.encode(right)))


def random_cloud() -> tuple[Embedder, list[Pair]]:
    """Random vectors: 50 queries, each with its positive."""
    generator = torch.Generator().manual_seed(1)
    vectors = {f"{kind}{i}": torch.randn(DIM, generator=generator) for i in range(50) for kind in "qp"}
    return teacher_of(vectors), [Pair(text(f"q{i}"), text(f"p{i}")) for i in range(50)]


def ranking(teacher: Embedder, query: str, documents: list[str]) -> list[str]:
    return [documents[hit.index] for hit in teacher.rank(query, documents, k=None)]
