"""What texts are compared with, of models that have a vector of a text for each target (`spec.targets`), where others know it."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder


def facing(model: "Embedder", others: Iterable[Collection[str]]) -> "Embedder":
    """The model whose texts are to be compared with such items; itself where one vector of a text serves for all.

    It is left as it is where somebody chose other than the usual target, or where no single target fits all of the items.

    Args:
        others: modalities of every item on the other side.
    """
    spec = model.spec
    target = spec.target_of(others) if spec.targets and model.against == spec.targets[0] else None
    return model if target is None else model.with_against(target)
