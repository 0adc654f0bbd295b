"""Routes over several towers: each embeds its part of an item, and the model's rule (`zoo.fusion`) makes one vector of them."""

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.embedder.tower import Tower
from zoo.encoders.base import Batch, Cut, Encoder
from zoo.errors import NoSuchBlockError
from zoo.fusion import described, fuse
from zoo.inputs.item import Item, Tokens
from zoo.modalities import Modality
from zoo.similarity import finished
from zoo.spec import Similarity


class Known(NamedTuple):
    """A part of an item whose unit vector `(dim,)` is there already, as of a tower that does not learn."""

    vector: Tensor


class FusedEncoder(Encoder):
    """Reads an item by the encoders of several towers. A read is a dictionary by part, of what its encoder read or `Known`;
    a batch holds all their tensors, with prefixed names.

    Args:
        encoders: by the names of the parts; no two read the same modality. rule: of the model. width: of its vectors.
    """

    def __init__(self, encoders: Mapping[str, Encoder], rule: nn.Module, width: int) -> None:
        super().__init__()
        self.encoders, self.rule, self.width = dict(encoders), rule, width
        self.modalities = frozenset().union(*(encoder.modalities for encoder in encoders.values()))
        self.batch_budget = min(encoder.batch_budget for encoder in encoders.values())

    def takes(self, modalities: Set[Modality], ordered: bool = False) -> bool:
        """Whether every encoder has a part of such an item to read, and nothing of it is left over."""
        whole = not ordered and modalities <= self.modalities
        parts = ((modalities & encoder.modalities, encoder) for encoder in self.encoders.values())
        return whole and all(part and encoder.takes(part) for part, encoder in parts)

    def parts(self, item: Item) -> tuple[Item, ...]:
        """An item for every encoder; its instruction goes with its text, or with all parts where it has none."""
        return tuple(self._parts(item).values())

    def _parts(self, item: Item) -> dict[str, Item]:
        found = {}
        for name, encoder in self.encoders.items():
            told = item.instruction if item.text is None or "text" in encoder.modalities else None
            media = {modality: getattr(item, modality) for modality in item.modalities & encoder.modalities}
            found[name] = Item(**media, instruction=told)
        return found

    def prompted(self, item: Item, prompt: str) -> Item:
        """The item with the prompt before its text, or wherever the encoder of its text wants it."""
        text = self._text(item)
        for name, encoder in self.encoders.items():
            if name == text or text is None:
                item = encoder.prompted(item, prompt)
        return item

    def _text(self, item: Item) -> str | None:
        """The part that an item's text is in."""
        return next(
            (name for name, e in self.encoders.items() if "text" in e.modalities and item.text is not None), None
        )

    def prepare_item(self, item: Item) -> dict[str, Any]:
        """What the encoders read of the item, by part."""
        return {name: self.encoders[name].prepare_item(part) for name, part in self._parts(item).items()}

    def joined(self, reads: Sequence[tuple[Any, Tensor | None]]) -> dict[str, Any]:
        """A read of what was read, or is known, of every part."""
        parts = (value if vector is None else Known(vector) for value, vector in reads)
        return dict(zip(self.encoders, parts, strict=True))

    def cut(self, item: Item) -> Cut | None:
        """Of the text's encoder."""
        text = self._text(item)
        return None if text is None else self.encoders[text].cut(self._parts(item)[text])

    def unknown_share(self, item: Item) -> float:
        """Of the text's encoder."""
        text = self._text(item)
        return 0.0 if text is None else self.encoders[text].unknown_share(item)

    def doubtful(self, read: dict[str, Any], prompted: Item, item: Item) -> bool:
        """By the text's encoder; a known part is not read again."""
        text = self._text(item)
        known = text is None or isinstance(read[text], Known)
        return not known and self.encoders[text].doubtful(read[text], prompted, item)

    def tokens(self, read: dict[str, Any]) -> int:
        """Of the parts that are or hold a text."""
        fresh = [
            name for name, e in self.encoders.items() if "text" in e.modalities and not isinstance(read[name], Known)
        ]
        return sum(self.encoders[name].tokens(read[name]) for name in fresh)

    def collate(self, reads: Sequence[dict[str, Any]]) -> Batch:
        """All encoders' batches in one: `image.pixels`, `text.ids`, ...; of known parts `image.known`, `image.places`."""
        batch = {}
        for name, encoder in self.encoders.items():
            part = _collate(encoder, [read[name] for read in reads])
            batch |= {f"{name}.{key}": tensor for key, tensor in part.items()}
        return batch

    def length(self, read: dict[str, Any]) -> float:
        """Cost of the costliest part, in units of the smallest budget; known parts cost next to nothing."""
        return max([0.01, *(self._cost(name, part) for name, part in read.items() if not isinstance(part, Known))])

    def _cost(self, name: str, part: Any) -> float:
        encoder = self.encoders[name]
        cost = encoder.length(part)
        same = encoder.batch_budget == self.batch_budget
        return cost if same else cost / encoder.batch_budget * self.batch_budget

    def size(self, read: dict[str, Any]) -> int:
        """Of all parts that say theirs."""
        return sum(self.encoders[name].size(part) for name, part in read.items() if not isinstance(part, Known))

    def forward(self, batch: Batch) -> Tokens:
        """Never: the parts become vectors before they are fused (see `FusedTower`)."""
        raise NoSuchBlockError("a fused item has no tokens; its parts are embedded by a tower each")

    def preprocessing(self) -> dict[str, Any]:
        """Of all encoders, and the rule."""
        parts = {name: encoder.preprocessing() for name, encoder in self.encoders.items()}
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
        # Both in their places of one tensor; known vectors come from disk and carry no gradient.
        torch.empty(len(others), known.shape[1], dtype=fresh.dtype, device=fresh.device)
        .index_copy(0, others.nonzero()[:, 0], fresh)
        .index_copy(0, places, known.to(fresh.dtype))
    )


class FusedTower(nn.Module):
    """Several towers and the rule between them, in the form of one tower. It owns none of them: they are the model's.

    Args:
        parts: the towers by the names of their parts, which are its attributes too (`route.image`). rule: a rule of
            `zoo.fusion`, or any module of two `(B, dim)` to one. dim: of the model's vectors.
    """

    def __init__(self, parts: Mapping[str, Tower], rule: nn.Module, dim: int) -> None:
        super().__init__()
        self.names = tuple(parts)
        for name, tower in parts.items():
            self.add_module(name, tower)
        self.rule = rule
        # Kept out of the submodules: the encoders are in the towers already.
        self._encoder = (FusedEncoder({name: tower.encoder for name, tower in parts.items()}, rule, dim),)

    @property
    def encoder(self) -> FusedEncoder:
        """Reads and collates items of all parts."""
        return self._encoder[0]

    @property
    def similarity(self) -> Similarity:
        """Of the model, as its towers say it."""
        return self.get_submodule(self.names[0]).similarity

    @property
    def headed_by(self) -> None:
        """As of `Tower`: its vectors are made of several."""
        return

    def forward(self, batch: Batch, layers: Sequence[int] = ()) -> Tensor:
        """A batch of the encoder to embeddings `(batch, dim)`, float32 at least.

        Raises:
            NoSuchBlockError: layers are asked for; several towers have none in common.
        """
        if layers:
            raise NoSuchBlockError("a fused item has no layers; take a loss that compares none")
        return self.fuse(*(_embed(self.get_submodule(name), _part(batch, f"{name}.")) for name in self.names))

    def fuse(self, *vectors: Tensor) -> Tensor:
        """Embeddings `(B, dim)` of each part, in the order of `names`, to embeddings of the whole.

        With "dot" the fused one keeps the norm that the rule gives it: the score of a weighted sum is then the weighted
        sum of the parts' scores.
        """
        return finished(fuse(self.rule, dict(zip(self.names, vectors, strict=True))), self.similarity)


def _part(batch: Batch, prefix: str) -> Batch:
    return {key.removeprefix(prefix): tensor for key, tensor in batch.items() if key.startswith(prefix)}


def part_name(tower: Tower) -> str:
    """What a tower's part of an item is called: "text", "image+video"."""
    return "+".join(sorted(tower.encoder.modalities))


def disjoint(towers: Sequence[Tower]) -> list[dict[str, Tower]]:
    """Sets of towers that read different things, of which an item may have one of each; the smallest come first.

    None whose every item one tower reads alone, and of those that read the same only the first.
    """
    found: dict[frozenset[Modality], dict[str, Tower]] = {}
    for some in _combined(towers):
        reads = [tower.encoder.modalities for tower in some]
        whole = frozenset().union(*reads)
        # Disjoint where the sizes add up to that of the union.
        apart = sum(map(len, reads)) == len(whole)
        if apart and not any(whole <= tower.encoder.modalities for tower in towers):
            found.setdefault(whole, {part_name(tower): tower for tower in sorted(some, key=part_name)})
    return list(found.values())


def _combined(towers: Sequence[Tower]) -> Iterator[tuple[Tower, ...]]:
    readable = [tower for tower in towers if tower.encoder.modalities]
    kinds = len({modality for tower in readable for modality in tower.encoder.modalities})
    for size in range(2, min(len(readable), kinds) + 1):
        yield from combinations(readable, size)
