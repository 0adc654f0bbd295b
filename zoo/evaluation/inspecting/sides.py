"""A sample of pairs, embedded: the distinct items of both sides, and which of them belong together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.errors import UnsupportedModalityError
from zoo.evaluation.inspecting.embedding import Embedding
from zoo.evaluation.inspecting.material import Sample
from zoo.evaluation.metrics import first_ranks
from zoo.inputs.identity import Answers, Right, Row
from zoo.inputs.item import Item
from zoo.prompts import Role


@dataclass(frozen=True, eq=False)
class Side:
    """The distinct items of one side that could be embedded.

    Attributes:
        name: what it is called: its kind, or its role where both sides are of one kind. kind: modality, "mixed" of several.
        role: in which it is embedded. other: modalities of what it is compared with.
        items, contents, vectors: one of each; vectors `(n, dim)` as the model gives them.
    """

    name: str
    kind: str
    role: Role
    other: frozenset[str]
    items: list[Item]
    contents: np.ndarray
    vectors: Tensor

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, eq=False)
class Embedded:
    """A sample whose sides are embedded; a side that the model does not read is None.

    Attributes:
        name, split: of the data. left, right: of queries and of targets.
        relevant: bool `(left, right)`, what belongs together; itself: the same item. None where a side is.
    """

    name: str
    split: str
    left: Side | None
    right: Side | None
    relevant: Tensor | None
    itself: Tensor | None

    @property
    def sides(self) -> list[Side]:
        """Those that are there."""
        return [side for side in (self.left, self.right) if side is not None]

    @property
    def crossing(self) -> bool:
        """Whether both sides are there, and of two kinds."""
        return self.left is not None and self.right is not None and self.left.kind != self.right.kind

    def answers(self, side: Side) -> tuple[Tensor, Tensor, Tensor, str]:
        """What a side is asked to find: vectors `(m, dim)`, bool `(n, m)` which are right, which are itself, and their name.

        With one side alone every item should find itself.
        """
        other = self.right if side is self.left else self.left
        if other is None or self.relevant is None or self.itself is None:
            return (
                side.vectors,
                torch.eye(len(side), dtype=torch.bool),
                torch.zeros(len(side), len(side)).bool(),
                side.name,
            )
        turned = (self.relevant, self.itself) if side is self.left else (self.relevant.T, self.itself.T)
        return other.vectors, *turned, other.name


def found_first(queries: Tensor, candidates: Tensor, relevant: Tensor, itself: Tensor | None = None) -> np.ndarray:
    """Whether the first candidate of each query `(n, dim)` is a right one: 0 or 1 `(n,)`; ties count against it."""
    similarity = queries @ candidates.T
    if itself is not None:
        similarity = similarity.masked_fill(itself & ~relevant, -torch.inf)
    return (first_ranks(similarity, relevant) == 1).double().numpy()


def embed_sample(embedding: Embedding, sample: Sample, left_out: dict[str, str]) -> Embedded:
    """The sample with both sides embedded; of a kind that the model does not read `left_out` says so."""
    rows = zip(sample.queries, sample.targets, sample.groups, strict=True)
    answers = Answers(Row(query, (target,), group=group) for query, target, group in rows)
    numbers = [answers.numbers[answers.starts + side] for side in (0, 1)]
    kinds = [_kind(items) for items in (sample.queries, sample.targets)]
    roles: tuple[Role, Role] = ("query", "document")
    names = kinds if kinds[0] != kinds[1] else list(roles)
    sides: list[Side | None] = []
    for place, items in enumerate((sample.queries, sample.targets)):
        if not _reads(embedding.model, items[0]):
            left_out[f"{sample.name}, {names[place]}"] = (
                f"{embedding.model.spec.name} does not read {several(kinds[place])}"
            )
            sides.append(None)
            continue
        contents, first = np.unique(numbers[place], return_index=True)
        chosen = [items[row] for row in first]
        partner = sample.targets if place == 0 else sample.queries
        other = partner[0].modalities if _reads(embedding.model, partner[0]) else items[0].modalities
        vectors, kept = embedding.of(f"{sample.name}, {names[place]}", chosen, roles[place], other)
        sides.append(
            Side(names[place], kinds[place], roles[place], other, [chosen[i] for i in kept], contents[kept], vectors)
            if len(kept) > 1
            else None
        )
    left, right = sides
    if left is None or right is None:
        return Embedded(sample.name, sample.split, left, right, None, None)
    relation = answers.right(left.contents, right.contents)
    return _paired(sample, left, right, relation)


def _paired(sample: Sample, left: Side, right: Side, relation: Right) -> Embedded:
    """Both sides without the items whose partners could not be embedded."""
    every = slice(None)
    relevant, itself = relation.answers(every), relation.same(every, "query", "target")
    rows, columns = relevant.any(1), relevant.any(0)
    return Embedded(
        sample.name,
        sample.split,
        _some(left, rows),
        _some(right, columns),
        relevant[rows][:, columns],
        itself[rows][:, columns],
    )


def _some(side: Side, there: Tensor) -> Side:
    places = there.nonzero()[:, 0].tolist()
    items = [side.items[place] for place in places]
    return Side(side.name, side.kind, side.role, side.other, items, side.contents[places], side.vectors[places])


def several(kind: str) -> str:
    """A kind as what a model reads many of."""
    return kind if kind in ("text", "audio", "mixed") else f"{kind}s"


def _kind(items: Iterable[Item]) -> str:
    kinds = {item.modalities for item in items}
    return "+".join(sorted(next(iter(kinds)))) if len(kinds) == 1 else "mixed"


def _reads(model: Embedder, item: Item) -> bool:
    try:
        model.route(item)
    except UnsupportedModalityError:
        return False
    return True


def readable(model: Embedder, samples: Sequence[Sample]) -> int:
    """How many items `embed_sample` will embed, about: of a text that many rows have it counts each."""
    sides = [items for sample in samples for items in (sample.queries, sample.targets)]
    return sum(len(items) for items in sides if _reads(model, items[0]))
