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
    targets = model.spec.targets
    if not targets or model.against != targets[0]:
        return model
    fitting = {_target(targets, one) for one in {frozenset(other) for other in others}}
    target = next(iter(fitting)) if len(fitting) == 1 else None
    return model if target is None else model.with_against(target)


def _target(targets: tuple[str, ...], other: frozenset[str]) -> str | None:
    if "regions" in other:
        return "regions" if "regions" in targets else None
    return next((target for target in targets if set(target.split("+")) == other - {"text"}), None)
