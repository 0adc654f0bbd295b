"""A route of two towers: what each reads of an item becomes a vector, and the model's rule (`zoo.fusion`) makes one of both."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Cut, Encoder
from zoo.errors import NoSuchBlockError
from zoo.fusion import described
from zoo.inputs.item import Item, Tokens
from zoo.similarity import finished

_IMAGE, _TEXT = "image.", "text."  # of the names in a batch of both


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
        return {**parts, "fusion": described(self.rule)}


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
        image, text: the towers (`zoo.embedder.tower.Tower`) of pictures and of texts. rule: `WeightedSum`, `Combiner`, or any
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
