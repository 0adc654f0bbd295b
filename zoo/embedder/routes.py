"""Routes: all that items can go to, in the order in which they are asked: towers, and what reads more by means of them."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from torch import nn

from zoo.embedder.documents import DocumentTower, documentary
from zoo.embedder.fused import FusedTower, disjoint
from zoo.embedder.pages import PageTower, paged
from zoo.embedder.regional import RegionTower, regional
from zoo.embedder.tower import Tower
from zoo.errors import UnsupportedModalityError
from zoo.fusion import refusal
from zoo.inputs.excerpts import DocumentPage
from zoo.inputs.item import Item
from zoo.regions import RegionRule
from zoo.spec import ModelSpec

Reader = Tower | RegionTower | DocumentTower | PageTower | FusedTower
_BY_ROUTE = ("regions", "document")  # what models read that do not say so among their modalities


class Routes:
    """The routes of one model, for as long as its parts are the same.

    Attributes:
        readers: the towers, after them the routes for regions and for documents, then those over several of all these that the rule
            of fusion offers; of a model whose pages are read as text, last of all those that read pages so.

    Args:
        towers: of the model, as its rules and spec are.
    """

    def __init__(
        self, towers: Sequence[Tower], fusion: nn.Module | None, region_rule: RegionRule, spec: ModelSpec
    ) -> None:
        self.towers, self.fusion, self.region_rule, self.spec = tuple(towers), fusion, region_rule, spec
        pages = paged(towers, spec)
        regions, documents = regional(towers, region_rule), documentary(towers, pages)
        # A document stands where an image does, so that no item has both.
        others = [tower for tower in towers if "image" not in tower.encoder.modalities]
        with_document = [parts for parts in self._sets([*others, *documents]) if "document" in "+".join(parts)]
        fused = [self._fused(parts) for parts in self._sets([*towers, *regions])]
        self.readers: tuple[Reader, ...] = (
            *towers, *regions, *documents, *(self._fused(parts) for parts in with_document), *fused,
        )  # fmt: skip
        self._of_pages = len(self.readers)
        if pages is not None:
            with_page = [parts for parts in self._sets([*others, pages]) if "image" in "+".join(parts)]
            self.readers += (pages, *(self._fused(parts) for parts in with_page))

    def _sets(self, towers: Sequence[Any]) -> list[dict[str, Any]]:
        fuses = self.fusion is not None and self.spec.similarity != "maxsim"
        return [parts for parts in (disjoint(towers) if fuses else []) if not refusal(self.fusion, tuple(parts))]

    def _fused(self, parts: dict[str, Any]) -> FusedTower:
        return FusedTower(parts, self.fusion, self.spec.dim)

    def index_of(self, item: Item) -> int:
        """The position in `readers` of the first that reads an item.

        Raises:
            UnsupportedModalityError: none reads all its modalities.
        """
        wanted, ordered = item.modalities, bool(item.parts)
        # Regions of a page are of its image, also where the page alone is read as text.
        places = range(self._of_pages, len(self.readers)) if isinstance(item.image, DocumentPage) else ()
        for position in (*places, *range(self._of_pages)):
            if self.readers[position].encoder.takes(wanted, ordered):
                return position
        raise self._unsupported(item, wanted)

    def _unsupported(self, item: Item, wanted: Set[str]) -> UnsupportedModalityError:
        hidden = {name for name in _BY_ROUTE if name not in wanted}
        offered = [
            reader.encoder.modalities
            for reader in self.readers[: self._of_pages]
            if not hidden & reader.encoder.modalities
        ]
        reads = " or ".join("+".join(sorted(each)) for each in offered)
        hint = "; encode them apart" if len(wanted) > 1 and wanted <= self.spec.modalities else ""
        if "regions" in wanted:
            whys = [self.region_rule.refusal(tower) for tower in self.towers if "image" in tower.encoder.modalities]
            hint = f": {why}" if (why := next(filter(None, whys), "")) else ""
        if why := self._refusal(wanted):
            hint = f": {why}"
        if item.parts and wanted <= self.spec.modalities:
            hint = "; it does not read parts in an order: encode them apart"
        if "document" in wanted and not any("image" in tower.encoder.modalities for tower in self.towers):
            hint = "; pages are read as images: take a model that reads those, or embed the text of its pages"
        files = [str(v) for v in item.media if isinstance(v, Path)]
        named = f" ({', '.join(files)})" if files else ""
        together = " in one item" if len(wanted) > 1 else ""
        return UnsupportedModalityError(
            f"{self.spec.name} reads {reads}, not {'+'.join(sorted(wanted))}{together}{named}{hint}",
            what=files[0] if files else "+".join(sorted(wanted)),
        )

    def _refusal(self, wanted: Set[str]) -> str:
        """Why the rule of fusion does not fuse what towers could read of an item, "" where they could not."""
        for parts in disjoint(self.towers) if self.fusion is not None else ():
            reads = [tower.encoder.modalities for tower in parts.values()]
            if wanted <= frozenset().union(*reads) and all(wanted & each for each in reads):
                return refusal(self.fusion, tuple(parts))
        return ""
