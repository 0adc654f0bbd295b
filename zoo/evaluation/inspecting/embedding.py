"""Everything that an inspection embeds, under one bar; what cannot be embedded is noted, and NaN is refused."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.embedder.aiming import facing
from zoo.errors import NonFiniteEmbeddingError
from zoo.evaluation.pairs import asked_with
from zoo.inputs.item import Item
from zoo.prompts import Role

if TYPE_CHECKING:
    from zoo.embedder import Embedder


class Embedding:
    """Vectors of items, and how far they have come.

    Args:
        progress: a bar; None for one on a terminal when it takes over two seconds. total: items that will be embedded.

    Attributes:
        failed: what could not be embedded: of which items → (how many, of how many, the first reason).
    """

    def __init__(self, model: "Embedder", progress: bool | None, total: int) -> None:
        from tqdm import tqdm

        self.model, self.failed = model, dict[str, tuple[int, int, str]]()
        self._asked = dict(zip(("query", "document"), asked_with(model, None), strict=True))
        disable = None if progress is None else not progress
        self.bar = tqdm(total=total, desc=model.spec.name, unit=" items", disable=disable, delay=0 if progress else 2)

    def expect(self, count: int) -> None:
        """So many more will be embedded than was said first."""
        self.bar.total += count
        self.bar.update(0)

    def of(
        self,
        what: str,
        items: Sequence[Item],
        role: Role,
        other: Iterable[str] = ("text",),
        make: Callable[[Item], Item] | None = None,
        *,
        noted: bool = True,
    ) -> tuple[Tensor, list[int]]:
        """Vectors `(n, dim)` of the items that can be embedded, and their places.

        Args:
            what: they are, for messages ("photos, image"). other: modalities of what they will be compared with.
            make: a change to each item, made when its turn comes. noted: what cannot be embedded goes into `failed`.

        Raises:
            NonFiniteEmbeddingError: the model gave NaN, infinity or a zero vector; the message says of what.
        """
        self.bar.set_postfix_str(what, refresh=False)
        inputs: Any = items if make is None else (make(item) for item in items)
        places, vectors, reasons = [], [], []
        stream = facing(self.model, [list(other)]).encode_stream(inputs, progress=False, **self._asked[role])
        for index, vector, error in stream:
            self.bar.update()
            if vector is not None:
                places.append(index)
                vectors.append(vector)
            elif isinstance(error, NonFiniteEmbeddingError):
                raise NonFiniteEmbeddingError(f"{what}: {error}", what=what) from error
            else:
                reasons.append(str(error))
        if reasons and noted:
            self.failed[what] = (len(reasons), len(items), reasons[0])
        return torch.stack(vectors) if vectors else torch.zeros(0, self.model.spec.dim), places
