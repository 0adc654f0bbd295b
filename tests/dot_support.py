"""Tiny models that compare by dot product, of texts and of both towers, whose norms change the ranking."""

from dataclasses import replace

import torch

import zoo
from tests.reference.base import TEXTS, stir

QUERIES, DOCUMENTS = list(TEXTS[:4]), list(TEXTS[4:])
BOUND = 1e-5


def dot_model(name: str = "text-test", **facts: object) -> zoo.Embedder:
    """A test model with telling weights whose spec says "dot"; unregistered, so that no other test meets it."""
    model = stir(zoo.build_model(name))
    model.spec = replace(model.spec, name="dot-model", similarity="dot", **facts)
    return model


def as_cosine(model: zoo.Embedder) -> zoo.Embedder:
    """The same weights compared by cosine, under the same name."""
    other = zoo.build_model("text-test" if len(model.towers) == 1 else "clip-test")
    other.load_state_dict(model.state_dict())
    other.spec = replace(model.spec, similarity="cosine")
    return other


def ranking(scores: torch.Tensor) -> list[list[int]]:
    """Columns of every row, best first."""
    return scores.sort(dim=1, descending=True, stable=True).indices.tolist()
