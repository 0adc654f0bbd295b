"""Engines: what a batcher runs. An embedder makes a vector of an item, a reranker a logit of a pair of two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from zoo.embedder.streaming import forward
from zoo.errors import TextTooLongError
from zoo.inputs.item import Item
from zoo.similarity import usable

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.encoders.base import Encoder
    from zoo.reranking import Reranker

_DRIFT = 0.14  # of a probe's result, as a share of its norm; of unit vectors a cosine of 0.99


class Read(NamedTuple):
    """An input on the CPU, ready for a batch: of which encoder, and how many tokens its texts have."""

    route: int
    value: Any
    tokens: int


class Engine(Protocol):
    """A model, behind what a batcher asks of one.

    Attributes:
        encoders: of the model, by the numbers that reads have. width: columns of a result.
        broken: is said where a result is not usable.
    """

    encoders: "Sequence[Encoder]"
    width: int
    broken: str

    def items(self, asked: Any) -> tuple[Item, ...]:
        """The items of which one input consists."""
        ...

    def route(self, asked: Any) -> int:
        """Which encoder reads one input; raises UnsupportedModalityError where none does."""
        ...

    def read(self, asked: Any, route: int, prompt: str) -> Read:
        """Reads one input, in any thread; raises InputError."""
        ...

    def run(self, route: int, reads: Sequence[Any]) -> torch.Tensor:
        """Results `(n, width)` of one batch on the CPU; called by one thread alone."""
        ...

    def usable(self, results: torch.Tensor) -> torch.Tensor:
        """Which results are ones, booleans `(n,)`."""
        ...

    def probes(self) -> list[Read]:
        """Small inputs, one for each part of the model that can be asked alone."""
        ...

    def drifted(self, results: torch.Tensor, expected: torch.Tensor) -> bool:
        """Whether the probes' results are no longer what they were at the start."""
        ...


class Embedding:
    """An embedder as an engine: items → vectors `(n, dim)`."""

    broken = "the model gave no usable vector (NaN, infinity or zero); serve it as float32"

    def __init__(self, model: "Embedder") -> None:
        self.model = model.eval()
        self.width = model.spec.dim
        self._routes = model.routes  # asked once: what is served stays as it is
        self.encoders: Sequence[Encoder] = [route.encoder for route in self._routes]

    def items(self, asked: Item) -> tuple[Item, ...]:
        return (asked,)

    def route(self, asked: Item) -> int:
        return self.model.route_index(asked)

    def read(self, asked: Item, route: int, prompt: str) -> Read:
        encoder = self.encoders[route]
        value = encoder.prepare_prompted(asked, prompt)
        return Read(route, value, 0 if asked.text is None else encoder.tokens(value))

    def run(self, route: int, reads: Sequence[Any]) -> torch.Tensor:
        return forward(self.model, self._routes[route], list(reads))

    def usable(self, results: torch.Tensor) -> torch.Tensor:
        return usable(results, self.model.spec.similarity)

    def probes(self) -> list[Read]:
        samples = (Item(text="health"), Item(image=torch.arange(3 * 64 * 64).reshape(3, 64, 64).to(torch.uint8)))
        reads: dict[int, Read] = {}
        for route, tower in enumerate(self.model.towers):
            for sample in samples:
                if route not in reads and sample.modalities <= tower.encoder.modalities:
                    reads[route] = Read(route, tower.encoder.prepare_item(sample), 0)
        return list(reads.values())

    def drifted(self, results: torch.Tensor, expected: torch.Tensor) -> bool:
        return not bool((results - expected).norm(dim=-1).le(_DRIFT * expected.norm(dim=-1)).all())


@dataclass(frozen=True, eq=False)
class Pair:
    """A query with one document. `whole`: what would be cut is refused."""

    query: Item
    document: Item
    whole: bool = False


class Scoring:
    """A reranker as an engine: pairs → logits `(n, 1)`."""

    broken = "the model gave no score (NaN or infinity); serve it as float32"
    width = 1

    def __init__(self, model: "Reranker") -> None:
        self.model = model.eval()

    @property
    def encoders(self) -> "Sequence[Encoder]":
        return [self.model.encoder]

    def items(self, asked: Pair) -> tuple[Item, ...]:
        return asked.query, asked.document

    def route(self, asked: Pair) -> int:
        for item in self.items(asked):
            self.model.check_read(item)
        return 0

    def read(self, asked: Pair, route: int, prompt: str) -> Read:
        if asked.whole and self.model.lost_tokens(asked.query, asked.document):
            most = self.model.spec.max_tokens
            raise TextTooLongError(
                f"query and document are over {most:,} tokens, all that the model reads; send truncate: true"
            )
        value = self.model.prepare(asked.query, asked.document)
        return Read(route, value, self.model.encoder.tokens(value))

    def run(self, route: int, reads: Sequence[Any]) -> torch.Tensor:
        with torch.inference_mode():
            logits = self.model.logits(self.model.collate(list(reads)))
            logits = logits.float().cpu()
        return logits.clone()[:, None]

    def usable(self, results: torch.Tensor) -> torch.Tensor:
        return results.isfinite().all(-1)

    def probes(self) -> list[Read]:
        return [self.read(Pair(Item(text="health"), Item(text="health")), 0, "")]

    def drifted(self, results: torch.Tensor, expected: torch.Tensor) -> bool:
        return not bool((results - expected).abs().le(_DRIFT * expected.abs().clamp(min=1)).all())
