"""Fusion: one vector of a picture and a text that two towers read apart, for composed search ("this, but in blue").

A rule of the model, `Embedder.fusion`, takes the vectors of both. `WeightedSum` needs no training and is the default;
`Combiner` is learned (`zoo.training.recipes.composed`). To choose another: `model.fusion = WeightedSum(image=0.3)`.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.base import Batch, Cut, Encoder, NoSuchBlockError
from zoo.inputs.item import Item, Tokens
from zoo.similarity import finished

if TYPE_CHECKING:
    from zoo.embedder import Embedder

_IMAGE, _TEXT = "image.", "text."  # of the names in a batch of both


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


class Known(NamedTuple):
    """A part of an item whose unit vector `(dim,)` is there already, as of a tower that does not learn."""

    vector: Tensor


class FusedRead(NamedTuple):
    """What the two encoders read of one item, or `Known`."""

    image: Any
    text: Any


class FusedEncoder(Encoder):
    """Reads a picture and a text by the encoders of two towers; its batch is both of theirs, with prefixed names."""

    reads = frozenset({"image", "text"})

    def __init__(self, image: Encoder, text: Encoder, rule: nn.Module, width: int) -> None:
        super().__init__()
        self.image, self.text, self.rule, self.width = image, text, rule, width
        self.batch_budget = image.batch_budget

    def parts(self, item: Item) -> tuple[Item, Item]:
        """The picture, and the text with its instruction, as an item each."""
        return Item(image=item.image), Item(text=item.text, instruction=item.instruction)

    def prompted(self, item: Item, prompt: str) -> Item:
        """The item with the prompt before its text, or wherever the text's encoder wants it."""
        return self.text.prompted(item, prompt)

    def read(self, item: Item) -> FusedRead:
        """What the two encoders read of the item."""
        image, text = self.parts(item)
        return FusedRead(self.image.read(image), self.text.read(text))

    def cut(self, item: Item) -> Cut | None:
        """Of the text's encoder."""
        return self.text.cut(self.parts(item)[1])

    def unknown_share(self, item: Item) -> float:
        """Of the text's encoder."""
        return self.text.unknown_share(item)

    def doubtful(self, read: FusedRead, prompted: Item, item: Item) -> bool:
        """By the text's encoder; a known part is not read again."""
        return not isinstance(read.text, Known) and self.text.doubtful(read.text, prompted, item)

    def collate(self, reads: Sequence[FusedRead]) -> Batch:
        """Both encoders' batches in one: `image.pixels`, `text.ids`, ...; of known parts `image.known`, `image.places`."""
        image = _collate(self.image, [read.image for read in reads])
        text = _collate(self.text, [read.text for read in reads])
        return {_IMAGE + k: v for k, v in image.items()} | {_TEXT + k: v for k, v in text.items()}

    def length(self, read: FusedRead) -> float:
        """Cost of the dearer part, in units of the picture's budget; known parts cost next to nothing."""
        image = 0.01 if isinstance(read.image, Known) else self.image.length(read.image)
        text = 0 if isinstance(read.text, Known) else self.text.length(read.text) / self.text.batch_budget
        return max(image, text * self.batch_budget)

    def forward(self, batch: Batch) -> Tokens:
        """Never: the parts become vectors before they are fused (see `FusedTower`)."""
        raise NoSuchBlockError("a fused item has no tokens; its picture and its text are embedded by a tower each")

    def preprocessing(self) -> dict[str, Any]:
        """Of both encoders, and the rule."""
        parts = {"image": self.image.preprocessing(), "text": self.text.preprocessing()}
        return {**parts, "fusion": _described(self.rule)}


def _collate(encoder: Encoder, parts: Sequence[Any]) -> Batch:
    places = [i for i, part in enumerate(parts) if isinstance(part, Known)]
    fresh = [part for part in parts if not isinstance(part, Known)]
    batch = encoder.collate(fresh) if fresh else {}
    if places:
        batch = {**batch, "known": torch.stack([parts[i].vector for i in places]), "places": torch.tensor(places)}
    return batch


def _embed(tower: nn.Module, batch: Batch) -> Tensor:
    """Unit vectors `(B, dim)` of one part: the tower's, with those that are known in their places."""
    batch = dict(batch)
    known, places = batch.pop("known", None), batch.pop("places", None)
    if known is None:
        return tower(batch)
    if not batch:
        return known
    fresh = tower(batch)
    others = torch.ones(len(fresh) + len(known), dtype=torch.bool, device=fresh.device)
    others[places] = False
    return (
        torch.empty(len(others), known.shape[1], dtype=fresh.dtype, device=fresh.device)
        .index_copy(0, others.nonzero()[:, 0], fresh)
        .index_copy(0, places, known.to(fresh.dtype))
    )


class FusedTower(nn.Module):
    """Two towers and the rule between them, in the form of one tower. It owns neither: they are the model's.

    Args:
        image, text: the towers (`zoo.embedder.Tower`) of pictures and of texts. rule: `WeightedSum`, `Combiner`, or any
            module of two `(B, dim)` to one.
    """

    def __init__(self, image: nn.Module, text: nn.Module, rule: nn.Module, dim: int) -> None:
        super().__init__()
        self.image, self.text, self.rule = image, text, rule
        # Kept out of the submodules: the encoders are in the towers already.
        self._encoder = (FusedEncoder(image.encoder, text.encoder, rule, dim),)

    @property
    def encoder(self) -> FusedEncoder:
        """Reads and collates items of both modalities."""
        return self._encoder[0]

    def forward(self, batch: Batch, layers: Sequence[int] = ()) -> Tensor:
        """A batch of the encoder to embeddings `(batch, dim)`, float32 at least.

        Raises:
            NoSuchBlockError: layers are asked for; two towers have none in common.
        """
        if layers:
            raise NoSuchBlockError("a fused item has no layers; take a loss that compares none")
        image, text = (
            _embed(tower, {k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)})
            for tower, prefix in ((self.image, _IMAGE), (self.text, _TEXT))
        )
        return self.fuse(image, text)

    def fuse(self, image: Tensor, text: Tensor) -> Tensor:
        """Embeddings `(B, dim)` of pictures and texts to embeddings of both.

        With "dot" the fused one keeps the norm that the rule gives it: the score of a weighted sum is then the weighted
        sum of the two scores.
        """
        return finished(self.rule(image, text), self.image.similarity)

    def made_of(self, image: nn.Module, text: nn.Module, rule: nn.Module) -> bool:
        """Whether these are its parts."""
        mine = (self.image, self.text, self.rule)
        encoders = (self.encoder.image, self.encoder.text)
        return mine == (image, text, rule) and encoders == (image.encoder, text.encoder)


def apart(towers: Sequence[nn.Module]) -> tuple[nn.Module, nn.Module] | None:
    """The towers of pictures and of texts where a model reads them apart, None where it does not read both, or together."""
    image = next((tower for tower in towers if "image" in tower.encoder.reads), None)
    text = next((tower for tower in towers if "text" in tower.encoder.reads), None)
    together = any({"image", "text"} <= tower.encoder.reads for tower in towers)
    return None if image is None or text is None or together else (image, text)


def fingerprint(rule: nn.Module) -> str:
    """Tells two rules apart, by kind, arguments and weights: 16 letters."""
    digest = hashlib.sha256(json.dumps(_described(rule), sort_keys=True).encode())
    for name, tensor in sorted(rule.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _described(rule: nn.Module) -> dict[str, Any]:
    return {"kind": type(rule).__name__, **(rule.config() if hasattr(rule, "config") else {})}


def add_combiner(model: "Embedder", hidden: int, seed: int = 0) -> "Embedder":
    """Gives a model an untrained `Combiner`, on its device; one that has one keeps it. Changed in place.

    Raises:
        ValueError: the model reads picture and text together, or not both.
    """
    if apart(model.towers) is None:
        raise ValueError(
            f"{model.spec.name} has no towers of pictures and texts apart, so a combiner has nothing to fuse"
        )
    if not isinstance(model.fusion, Combiner):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.fusion = Combiner(model.spec.dim, hidden).to(model.device)
    return model


def is_default(rule: nn.Module | None) -> bool:
    """Whether a model with this rule needs no word about it: it fuses nothing, or by equal halves."""
    return rule is None or (type(rule) is WeightedSum and rule.image == 0.5)
