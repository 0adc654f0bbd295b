"""Fusion: one vector of a picture and a text that two towers read apart, for composed search ("this, but in blue").

A rule of the model, `Embedder.fusion`, takes the vectors of both. `WeightedSum` needs no training and is the default;
`Combiner` is learned (`zoo.training.recipes.composed`). To choose another: `model.fusion = WeightedSum(image=0.3)`.
"""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WeightedSum(nn.Module):
    """`image · picture + (1 - image) · text`; a sum of CLIP's two vectors already finds composed targets (Baldrati et al.,
    "Conditioned and composed image retrieval combining and partially fine-tuning CLIP-based features", CVPRW 2022, table 2).

    Args:
        image: weight of the picture, 0 (the text alone) to 1 (the picture alone).

    Raises:
        ValueError: a weight outside 0 to 1.
    """

    def __init__(self, image: float = 0.5) -> None:
        super().__init__()
        if not 0 <= image <= 1:
            raise ValueError(f"the weight of the picture must be from 0 to 1, not {image!r}")
        self.image = float(image)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Unit vectors `(B, dim)` of pictures and of texts to their sum `(B, dim)`, of any length."""
        return self.image * image + (1 - self.image) * text

    def config(self) -> dict[str, float]:
        """Constructor arguments."""
        return {"image": self.image}

    def extra_repr(self) -> str:
        return f"image={self.image:g}"


class Combiner(nn.Module):
    """CLIP4Cir's combiner: a learned gate between picture and text, plus a learned mixture of both (Baldrati et al., "Effective
    conditioned and composed image retrieval combining CLIP-based features", CVPR 2022, section 3.2).

    Before training it is `WeightedSum(0.5)`: the gate's and the mixture's last layers begin at zero.

    Args:
        dim: length of the model's vectors. hidden: width of the hidden layers. dropout: in training, as the authors'.
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dim, self.hidden, self.dropout = dim, hidden, dropout
        self.image, self.text = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.mixture, self.gate = (
            nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
            for width in (dim, 1)
        )
        for last in (self.mixture[-1], self.gate[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Unit vectors `(B, dim)` of pictures and of texts to one vector of both `(B, dim)`, of any length."""
        image, text = image.to(self.image.weight.dtype), text.to(self.image.weight.dtype)
        scale = self.dim**0.5  # columns of a unit vector are small; layers want them around 1
        projected = [F.relu(self.image(image * scale)), F.relu(self.text(text * scale))]
        both = torch.cat([F.dropout(part, self.dropout, self.training) for part in projected], -1)
        share = torch.sigmoid(self.gate(both))
        return self.mixture(both) + share * image + (1 - share) * text

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"dim": self.dim, "hidden": self.hidden, "dropout": self.dropout}


RULES = (WeightedSum, Combiner)  # what a saved model's configuration may name


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
    """Whether a model with this rule needs no word about it: it fuses nothing, or by equal halves."""
    return rule is None or (type(rule) is WeightedSum and rule.image == 0.5)
