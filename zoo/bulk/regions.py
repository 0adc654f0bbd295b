"""Regions of a source of images as inputs: one for each region that a finder finds, with its box beside the vector."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.bulk.finders import Finder, Found
from zoo.bulk.sources import Record, Source, stamp
from zoo.bulk.tables import attribute_names
from zoo.errors import InputError, TableError
from zoo.inputs.item import Item
from zoo.inputs.region_json import regions_to_json
from zoo.inputs.regions import Region, bounds

if TYPE_CHECKING:
    pass

BARE = "image-without-regions"


class RegionSource:
    """The regions of every image of another source, in its order; ids are those of the images with the number of the region.

    Beside each vector are the columns of the source and `regions` (as `zoo.inputs.region_json` writes them), `x0`, `y0`, `x1`, `y1` and
    `area` of the box around it, in pixels or in parts of the sides as the finder has them, and `label` and `score` where it tells them.

    Raises:
        TableError: the source holds something else than images, or regions of its own.
    """

    def __init__(self, images: Source, finder: Finder) -> None:
        import pyarrow as pa

        if images.kind != "image":
            own = ", which says its regions itself (--ignore reads it without them)" if "regions" in images.kind else ""
            raise TableError(f"{images.path} holds {images.kind}{own}; --regions are of images alone")
        self.images, self.finder = images, finder
        added = [("regions", pa.string()), *((name, pa.float64()) for name in ("x0", "y0", "x1", "y1", "area"))]
        added += [("label", pa.string())] * finder.labels + [("score", pa.float64())] * finder.scores
        names = attribute_names([*images.schema.names, *(name for name, _ in added)])
        self.schema: pa.Schema = pa.schema(
            list(zip(names, [*images.schema.types, *(kind for _, kind in added)], strict=True))
        )
        self.regions = names[len(images.schema)]
        self.kind = "image+regions"

    def __getattr__(self, name: str) -> Any:
        """What is not of regions, as the source of images has it."""
        return getattr(self.images, name)

    def count(self) -> int:
        """How many regions there are, bad ones included; fills `ignored`."""
        self.images.count()
        bare = 0

        def told(without: int) -> None:
            nonlocal bare
            bare = without

        found = sum(1 for _ in self._walk(told))
        if bare:
            self.images.ignored[BARE] = bare
        return found

    def records(self) -> Iterator[Record]:
        """A record for each region, and one for each image that cannot be read and each region that is none."""
        return self._walk(lambda _: None)

    def described(self) -> dict[str, Any]:
        """See `Source`."""
        return {**self.images.described(), "kind": self.kind, "regions": self.regions}

    def _walk(self, told: Any) -> Iterator[Record]:
        bare, met = 0, set()
        nothing = (None,) * (len(self.schema) - len(self.images.schema))
        for record in self.images.records():
            if record.reference in self.finder.images:
                met.add(record.reference)
            if record.error is not None:
                yield replace(record, attributes=(*record.attributes, *nothing))
                continue
            try:
                found = self.finder.find(record.value, record.reference)
            except InputError as error:
                yield replace(record, value=None, attributes=(*record.attributes, *nothing), error=error)
                continue
            bare += not found
            yield from self._regions_of(record, found)
        for name in (name for name in self.finder.images if name not in met):
            lost = Record(name, name, None, stamp("absent", name), (None,) * len(self.images.schema))
            yield from self._regions_of(lost, self.finder.find(None, name))
        told(bare)

    def _regions_of(self, record: Record, found: Sequence[Found]) -> Iterator[Record]:
        for number, one in enumerate(found):
            facts = _facts(one.region) if one.region is not None else (None,) * 6
            facts = (*facts, *[one.label] * self.finder.labels, *[one.score] * self.finder.scores)
            own = stamp(record.stamp, facts[0] or "bad", str(one.error or ""))
            value = Item(image=record.value, regions=(one.region,)) if one.error is None else None
            attributes = (*record.attributes, *facts)
            yield Record(f"{record.id}#{number}", record.reference, value, own, attributes, one.error)


def _facts(region: Region) -> tuple[Any, ...]:
    x0, y0, x1, y1 = bounds(region)
    return regions_to_json([region]), x0, y0, x1, y1, (x1 - x0) * (y1 - y0)
