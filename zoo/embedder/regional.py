"""Routes for regions: a tower that reads whole images, and the model's rule (`zoo.regions`) that reads a region for it."""

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo.embedder.tower import Tower
from zoo.encoders.base import Batch, Cut, Encoder
from zoo.errors import InvalidRegionError, NotOfferedError, UnsupportedInputError
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item, Tokens, as_item
from zoo.inputs.regions import Region, mask_of
from zoo.inputs.upright import Latest
from zoo.modalities import Modality
from zoo.regions import RegionRule, described
from zoo.similarity import finished
from zoo.spec import Similarity


class RegionEncoder(Encoder):
    """Reads an item with regions for an encoder of whole images, as the rule says.

    Args:
        tower: whose encoder reads images, and no regions. rule: of the model.
    """

    def __init__(self, tower: Tower, rule: RegionRule) -> None:
        super().__init__()
        # In a tuple, so that the tower is not registered a second time.
        self._tower, self.rule = (tower,), rule
        self.modalities = tower.encoder.modalities | {"regions"}
        self.width = tower.encoder.width
        self._latest = Latest()

    @property
    def inner(self) -> Encoder:
        """The encoder of whole images."""
        return self._tower[0].encoder

    @property
    def batch_budget(self) -> int:  # type: ignore[override]
        """Of the inner encoder."""
        return self.inner.batch_budget

    def takes(self, modalities: Set[Modality], ordered: bool = False) -> bool:
        """Whether there are regions of an image, and the inner encoder reads the item without them."""
        both = {"image", "regions"} <= modalities
        return both and not ordered and self.inner.takes(modalities - {"regions"})

    def prompted(self, item: Item, prompt: str) -> Item:
        return self.inner.prompted(item, prompt)

    def cut(self, item: Item) -> Cut | None:
        return self.inner.cut(item)

    def text_tokens(self, item: Item) -> int | None:
        return self.inner.text_tokens(item)

    def unknown_share(self, item: Item) -> float:
        return self.inner.unknown_share(item)

    def doubtful(self, read: Any, prompted: Item, item: Item) -> bool:
        return any(self.inner.doubtful(one, prompted, item) for one in self.rule.reads(read))

    def prepare_item(self, item: Item) -> Any:
        """As the rule does.

        Raises:
            InvalidRegionError: a region lies outside the image, or a mask has another size. Besides what images raise.
        """
        whole = self._latest.of(item.image)
        return self.rule.read(self.inner, item, whole, mask_of(item.regions, whole.pixels))

    def collate(self, reads: Sequence[Any]) -> Batch:
        return self.rule.collate(self.inner, reads)

    def length(self, read: Any) -> float:
        return self.rule.length(self.inner, read)

    def tokens(self, read: Any) -> int:
        return max((self.inner.tokens(one) for one in self.rule.reads(read)), default=0)

    def size(self, read: Any) -> int:
        return self.rule.size(self.inner, read)

    def forward(self, batch: Batch) -> Tokens:
        """Never: the rule makes vectors of a batch (see `RegionTower`)."""
        raise NotOfferedError("a region has no tokens of its own; its tower embeds it as a whole")

    def preprocessing(self) -> dict[str, Any]:
        return {**self.inner.preprocessing(), "region": described(self.rule)}


class RegionTower(nn.Module):
    """A tower of whole images and the rule of regions, in the form of one tower. It owns no weights: they are the tower's.

    Args:
        tower: whose encoder reads images, and no regions. rule: of the model.
    """

    def __init__(self, tower: Tower, rule: RegionRule) -> None:
        super().__init__()
        self.tower, self.rule = tower, rule
        self._encoder = (RegionEncoder(tower, rule),)

    @property
    def encoder(self) -> RegionEncoder:
        """Reads and collates items with regions."""
        return self._encoder[0]

    @property
    def similarity(self) -> Similarity:
        """Of the model, as its tower says it."""
        return self.tower.similarity

    @property
    def headed_by(self) -> Tower | None:
        """As of `Tower`."""
        return self.tower if self.rule.through_head else None

    def forward(self, batch: Batch, layers: Sequence[int] = (), norms: bool = False) -> Tensor:
        """A batch of the encoder to embeddings `(batch, dim)`, float32 at least; `layers` as of `Tower`, where the rule has them.
        `norms` changes nothing: what a rule makes of a tower's vectors has no other norm than theirs.
        """
        return finished(self.rule.forward(self.tower, batch, layers), self.similarity)


def regional(towers: Sequence[Tower], rule: RegionRule) -> list[RegionTower]:
    """A route for every tower that reads whole images and that the rule is for."""
    mine = [t for t in towers if "image" in t.encoder.modalities and "regions" not in t.encoder.modalities]
    return [RegionTower(tower, rule) for tower in mine if not rule.refusal(tower)]


def regions_of(image: Any, regions: Sequence[Region | Sequence[Region]]) -> list[Item]:
    """An item for each region of one image, which is decoded here, and shared.

    Args:
        image: anything that `as_item` takes as an image, or an `Item` with one. regions: several in a list are one region together.

    Raises:
        UnsupportedInputError: no image, or an item with regions or parts of its own. Besides what images raise.
    """
    whole = as_item(image)
    if whole.image is None or whole.parts or len(whole.regions):
        raise UnsupportedInputError(
            "encode_regions takes an image, or an Item with one and without regions or parts; give the regions beside it",
            what="+".join(sorted(whole.modalities)),
        )
    if not isinstance(regions, Sequence) or isinstance(regions, str | bytes):
        raise UnsupportedInputError(
            f"regions are a list, such as [zoo.Box(0, 0, 9, 9)], also of one, not {type(regions).__name__}",
            what=repr(regions)[:60],
        )
    shared = load_pixels(whole.image)
    if not isinstance(whole.image, Path | bytes):
        shared = shared.copy()  # it may be the caller's own
    shared.setflags(write=False)  # so that all its regions may share what is made of it
    several = [one if isinstance(one, list | tuple) else [one] for one in regions]
    if empty := [place for place, one in enumerate(several) if not one]:
        raise InvalidRegionError(f"region {empty[0]} is an empty list, so that nothing is meant", index=empty[0])
    return [replace(whole, image=shared, regions=one) for one in several]
