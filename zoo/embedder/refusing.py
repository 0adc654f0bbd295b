"""Why a model does not embed an item: what it reads instead, and what to do."""

from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.embedder.fused import disjoint
from zoo.errors import UnsupportedModalityError
from zoo.fusion import refusal
from zoo.inputs.item import Item

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder


def unsupported(model: "Embedder", item: Item, wanted: Set[str]) -> UnsupportedModalityError:
    """What to raise for an item of these modalities, which nothing in the model reads together; it says why, and what to do."""
    offered = [t.encoder.reads for t in model.readers if "regions" in wanted or "regions" not in t.encoder.reads]
    reads = " or ".join("+".join(sorted(each)) for each in offered)
    hint = "; encode them apart" if len(wanted) > 1 and wanted <= model.spec.modalities else ""
    if "regions" in wanted:
        whys = [model.region_rule.refusal(tower) for tower in model.towers if "image" in tower.encoder.reads]
        hint = f": {why}" if (why := next(filter(None, whys), "")) else ""
    if why := _fusion_refusal(model, wanted):
        hint = f": {why}"
    if item.parts and wanted <= model.spec.modalities:
        hint = "; it does not read parts in an order: encode them apart"
    files = [str(v) for v in item.media if isinstance(v, Path)]
    named = f" ({', '.join(files)})" if files else ""
    together = " in one item" if len(wanted) > 1 else ""
    return UnsupportedModalityError(
        f"{model.spec.name} reads {reads}, not {'+'.join(sorted(wanted))}{together}{named}{hint}",
        what=files[0] if files else "+".join(sorted(wanted)),
    )


def _fusion_refusal(model: "Embedder", wanted: Set[str]) -> str:
    """Why the rule of fusion does not fuse what towers could read of an item, "" where they could not."""
    for parts in disjoint(model.towers) if model.fusion is not None else ():
        reads = [tower.encoder.reads for tower in parts.values()]
        if wanted <= frozenset().union(*reads) and all(wanted & each for each in reads):
            return refusal(model.fusion, tuple(parts))
    return ""
