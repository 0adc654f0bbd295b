"""Heads: the pooled vector → the shared space. Normalisation comes after them, once, in `Tower.forward`."""

from typing import Any

import torch
from torch import Tensor, nn


class Identity(nn.Module):
    """The pooled vector is the embedding."""

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


class Linear(nn.Module):
    """One projection `(B, width)` → `(B, dim)`."""

    def __init__(self, width: int, dim: int, bias: bool = False) -> None:
        super().__init__()
        self.width, self.dim, self.bias = width, dim, bias
        self.project = nn.Linear(width, dim, bias=bias)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.project(vectors)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"width": self.width, "dim": self.dim, "bias": self.bias}


class Mlp(nn.Module):
    """Two layers with GELU between: `(B, width)` → `(B, hidden)` → `(B, dim)`.

    Args:
        norm: whether the vector is layer-normalised before them, so that its scale does not matter.
        dropout: before both layers, in training.
    """

    def __init__(
        self, width: int, dim: int, hidden: int | None = None, norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.width, self.dim, self.hidden, self.dropout = width, dim, hidden or width, dropout
        self.norm = nn.LayerNorm(width) if norm else None
        self.layers = nn.Sequential(nn.Linear(width, self.hidden), nn.GELU(), nn.Linear(self.hidden, dim))

    def forward(self, vectors: Tensor) -> Tensor:
        vectors = vectors if self.norm is None else self.norm(vectors)
        for layer in self.layers:
            if self.dropout and isinstance(layer, nn.Linear):
                vectors = nn.functional.dropout(vectors, self.dropout, self.training)
            vectors = layer(vectors)
        return vectors

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        own = {"width": self.width, "dim": self.dim, "hidden": self.hidden}
        return (
            own
            | ({"norm": True} if self.norm is not None else {})
            | ({"dropout": self.dropout} if self.dropout else {})
        )


class Blend(nn.Module):
    """Two projections of one vector, each of unit length, added: `share` of the first and the rest of the second.

    The first may be trained to tell things apart, the second to lie where the words are: the sum does both better than
    either (see `training/recipes/mini/regress.py`).
    """

    def __init__(self, width: int, dim: int, share: float = 0.5) -> None:
        super().__init__()
        self.width, self.dim, self.share = width, dim, share
        self.first, self.second = Linear(width, dim), Linear(width, dim, bias=True)

    def forward(self, vectors: Tensor) -> Tensor:
        # Unit length each, so that `share` weighs directions; a projection with larger outputs would win otherwise.
        first, second = (nn.functional.normalize(head(vectors), dim=-1) for head in (self.first, self.second))
        return self.share * first + (1 - self.share) * second

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"width": self.width, "dim": self.dim, "share": self.share}


class Named(nn.Module):
    """A projection, plus the names of what a classifier recognises: `(B, width)` → `(B, dim)`.

    An image that shows a class of the classifier lies near that class's name from the start, also where no pair of a training
    set had it; the projection learns the rest. The names are weighted by the classifier's probabilities, as in ConSE (Norouzi et
    al., 2014), and lie around their mean, so that an image that it does not recognise gets little of them.

    Args:
        classes: of the classifier. gain: of the names' part. temperature: of the classifier's probabilities.
        beside: further dimensions of the vector, after the classifier's, for which there is a projection of their own; 0 for none.

    Raises:
        ValueError: the temperature is not above 0, or a negative number of dimensions.
    """

    def __init__(
        self, width: int, dim: int, classes: int, gain: float = 1.0, temperature: float = 1.0, beside: int = 0
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature!r}")
        if beside < 0:
            raise ValueError(f"beside must be 0 or more dimensions, not {beside}")
        self.width, self.dim, self.classes, self.gain, self.temperature = width, dim, classes, gain, temperature
        self.project, self.classify = nn.Linear(width, dim), nn.Linear(width, classes)
        self.names = nn.Parameter(torch.zeros(classes, dim))  # text vectors less their mean
        self.beside = nn.Linear(beside, dim, bias=False) if beside else None

    def forward(self, vectors: Tensor) -> Tensor:
        """`(B, width + beside)` → `(B, dim)`."""
        seen = vectors[:, : self.width]
        found = self.project(seen) + self.gain * self.named(seen)
        return found if self.beside is None else found + self.beside(vectors[:, self.width :])

    def named(self, vectors: Tensor) -> Tensor:
        """The mean of the names by the classifier's probabilities `(B, dim)`."""
        return (self.classify(vectors) / self.temperature).softmax(-1) @ self.names

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        facts = ("width", "dim", "classes", "gain", "temperature")
        own = {name: getattr(self, name) for name in facts}
        return own if self.beside is None else {**own, "beside": self.beside.in_features}


class DenseStack(nn.Module):
    """sentence-transformers' Dense, LayerNorm and Normalize modules after the pooling, and its cut, in their order.

    Args:
        layers: dictionaries with "kind" dense (width, dim, bias, activation), layer_norm (width), normalize or cut (dim).
    """

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        super().__init__()
        self.specs = [dict(layer) for layer in layers]
        self.layers = nn.ModuleList(_layer(layer) for layer in layers)

    def forward(self, vectors: Tensor) -> Tensor:
        for layer in self.layers:
            vectors = layer(vectors)
        return vectors

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"layers": self.specs}


class _Unit(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1)


class _Cut(nn.Module):
    """The first dimensions alone: `(B, width)` → `(B, dim)`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self.dim]


ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "LeakyReLU", "ELU")


def _layer(spec: dict[str, Any]) -> nn.Module:
    kind = spec["kind"]
    if kind == "normalize":
        return _Unit()
    if kind == "cut":
        return _Cut(spec["dim"])
    if kind == "layer_norm":
        return nn.LayerNorm(spec["width"])
    if kind == "dense" and spec["activation"] in ACTIVATIONS:
        linear = nn.Linear(spec["width"], spec["dim"], bias=spec["bias"])
        return nn.Sequential(linear, getattr(nn, spec["activation"])())
    raise ValueError(
        f"unknown layer {spec}; known are dense (with one of {ACTIVATIONS}), layer_norm, normalize and cut"
    )
