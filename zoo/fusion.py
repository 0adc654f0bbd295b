"""Rules of fusion: one vector of the parts of an item that a tower each reads, for composed search ("this, but in blue").

A rule of the model, `Embedder.fusion`, takes the vectors of all parts. `WeightedSum` needs no training and is the default;
`Combiner` is learned (`zoo.training.recipes.composed`). To choose another: `model.fusion = WeightedSum(image=0.3)`.

A rule of one's own is a module of two `(B, dim)` to one `(B, dim)`, called in the order of the parts' names. With a method `fuse`
of vectors by part it takes any number; `refusal` says of which parts it does not, and why. `@register_part("fusion", …)` of
`zoo.registry.parts` makes it one that is saved and opened.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WeightedSum(nn.Module):
    """Every part times its weight; a sum of CLIP's two vectors already finds composed targets (Baldrati et al., "Conditioned
    and composed image retrieval combining and partially fine-tuning CLIP-based features", CVPRW 2022, table 2).

    One weight is of two parts: `WeightedSum(image=0.3)` is `0.3 · image + 0.7 · the other`. More parts have a weight each,
    `WeightedSum(image=0.2, text=0.3, audio=0.5)`; an item that has some of them shares theirs alone. Parts of which none is
    named, and all of a `WeightedSum()`, have equal shares.

    Args:
        image, text, video, audio: weights of the parts with this modality, 0 to 1; several add up to 1.

    Raises:
        ValueError: a weight outside 0 to 1, or several that do not add up to 1.
    """

    def __init__(
        self,
        image: float | None = None,
        text: float | None = None,
        video: float | None = None,
        audio: float | None = None,
    ) -> None:
        super().__init__()
        given = {"image": image, "text": text, "video": video, "audio": audio}
        said = {name: weight for name, weight in given.items() if weight is not None}
        for name, weight in said.items():
            if isinstance(weight, str) or not 0 <= weight <= 1:
                raise ValueError(f"the weight of the {name} must be from 0 to 1, not {weight!r}")
        self.weights = {name: float(weight) for name, weight in said.items()} or {"image": 0.5}
        if len(self.weights) > 1 and not math.isclose(sum(self.weights.values()), 1, abs_tol=1e-6):
            raise ValueError(f"weights of several parts must add up to 1, not {self.extra_repr()}")

    @property
    def image(self) -> float | None:
        """Weight of the image, None where it has none of its own. Set, it is the only one that is said."""
        return self.weights.get("image")

    @image.setter
    def image(self, weight: float) -> None:
        self.weights = WeightedSum(image=weight).weights

    @property
    def equal(self) -> bool:
        """Whether all parts of any item have the same weight."""
        return list(self.weights.values()) == [0.5]

    def refusal(self, parts: Sequence[str]) -> str:
        """Why these parts cannot be summed, "" where they can: whether each has a weight."""
        own = [self._weight(part) for part in parts]
        named = [part for part, weight in zip(parts, own, strict=True) if weight is not None]
        if self.equal or not named or (len(self.weights) == 1 and len(parts) == 2):
            return ""
        if unnamed := [part for part in parts if part not in named]:
            return f"WeightedSum({self.extra_repr()}) says no weight of {' and '.join(unnamed)}; give each part one"
        if not sum(own):
            return f"WeightedSum({self.extra_repr()}) weighs {' and '.join(parts)} with 0"
        return ""

    def shares(self, parts: Sequence[str]) -> list[float]:
        """The weights of these parts, which add up to 1.

        Raises:
            ValueError: see `refusal`.
        """
        if why := self.refusal(parts):
            raise ValueError(why)
        own = [self._weight(part) for part in parts]
        if self.equal or all(weight is None for weight in own):
            return [1 / len(parts)] * len(parts)
        if len(self.weights) == 1:
            return [1 - next(iter(self.weights.values())) if weight is None else weight for weight in own]
        return [weight / sum(own) for weight in own]

    def _weight(self, part: str) -> float | None:
        """What is said of a part, None for nothing; one of several modalities has the weights of all of them."""
        said = [self.weights[name] for name in part.split("+") if name in self.weights]
        return sum(said) if said else None

    def forward(self, *vectors: Tensor, parts: Sequence[str] = ("image", "text")) -> Tensor:
        """Unit vectors `(B, dim)` of the named parts to their sum `(B, dim)`, of any length."""
        weighted = [share * vector for share, vector in zip(self.shares(parts), vectors, strict=True)]
        return sum(weighted[1:], start=weighted[0])

    def fuse(self, parts: Mapping[str, Tensor]) -> Tensor:
        """`forward` of vectors by the names of their parts."""
        return self(*parts.values(), parts=tuple(parts))

    def config(self) -> dict[str, float]:
        """Constructor arguments."""
        return dict(self.weights)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())


class Combiner(nn.Module):
    """CLIP4Cir's combiner: a learned gate between two parts, plus a learned mixture of both (Baldrati et al., "Effective
    conditioned and composed image retrieval combining CLIP-based features", CVPR 2022, section 3.2).

    Before training it is `WeightedSum(0.5)`: the gate's and the mixture's last layers begin at zero.

    Args:
        dim: length of the model's vectors. hidden: width of the hidden layers. dropout: in training, as the authors'.
        parts: the two that it learns to fuse, in the order of their names; others it refuses.

    Raises:
        ValueError: not two parts in that order.
    """

    def __init__(
        self, dim: int, hidden: int, dropout: float = 0.5, parts: tuple[str, str] | None = ("image", "text")
    ) -> None:
        super().__init__()
        self.dim, self.hidden, self.dropout, self.parts = dim, hidden, dropout, tuple(parts or ("image", "text"))
        if len(self.parts) != 2:
            raise ValueError(f"a combiner is for two parts, not {', '.join(self.parts)}; WeightedSum takes any number")
        if list(self.parts) != sorted(set(self.parts)):
            raise ValueError(f"the parts of a combiner stand in the order of their names, not {self.parts}")
        # Called so in what is stored; the first and the second of the parts.
        self.image, self.text = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.mixture, self.gate = (
            nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
            for width in (dim, 1)
        )
        for last in (self.mixture[-1], self.gate[-1]):
            # sigmoid(0) = 1/2 and a mixture of 0: the first step of training starts from the
            # sum that works without any.
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def refusal(self, parts: Sequence[str]) -> str:
        """Why these parts cannot be fused, "" for the two that it is for."""
        if tuple(parts) == self.parts:
            return ""
        return f"the combiner is for two parts, {' and '.join(self.parts)}; WeightedSum takes any"

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Unit vectors `(B, dim)` of the first and of the second part to one vector of both `(B, dim)`, of any length."""
        image, text = image.to(self.image.weight.dtype), text.to(self.image.weight.dtype)
        scale = self.dim**0.5  # columns of a unit vector are small; layers want them around 1
        projected = [F.relu(self.image(image * scale)), F.relu(self.text(text * scale))]
        both = torch.cat([F.dropout(part, self.dropout, self.training) for part in projected], -1)
        share = torch.sigmoid(self.gate(both))
        # The residual form: the mixture only has to learn what the weighted sum lacks.
        return self.mixture(both) + share * image + (1 - share) * text

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        others = {} if self.parts == ("image", "text") else {"parts": list(self.parts)}
        return {"dim": self.dim, "hidden": self.hidden, "dropout": self.dropout, **others}


RULES = (WeightedSum, Combiner)  # what a saved model's configuration may name


def refusal(rule: nn.Module, parts: Sequence[str]) -> str:
    """Why a rule does not fuse these parts, "" where it does. A module that says nothing of it takes any two."""
    if hasattr(rule, "refusal"):
        return rule.refusal(parts)
    return "" if len(parts) == 2 else f"{type(rule).__name__} is for two parts"


def fuse(rule: nn.Module, parts: Mapping[str, Tensor]) -> Tensor:
    """Unit vectors `(B, dim)` by part to one vector of all `(B, dim)`, of any length. A module without `fuse` is called with
    the vectors in the order of the parts' names.
    """
    return rule.fuse(parts) if hasattr(rule, "fuse") else rule(*parts.values())


def fingerprint(rule: nn.Module) -> str:
    """Tells two rules apart, by kind, arguments and weights: 16 letters."""
    digest = hashlib.sha256(json.dumps(described(rule), sort_keys=True).encode())
    for name, tensor in sorted(rule.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def described(rule: nn.Module) -> dict[str, Any]:
    """A rule's kind and arguments."""
    return {"kind": type(rule).__name__, **(rule.config() if hasattr(rule, "config") else {})}


def is_default(rule: nn.Module | None) -> bool:
    """Whether a model with this rule needs no word about it: it fuses nothing, or by equal shares."""
    return rule is None or (type(rule) is WeightedSum and rule.equal)
