"""What every rule of regions is: a way to read an image and its region for an encoder of whole images, and to embed what was read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo.inputs.item import Item
from zoo.inputs.upright import Upright

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from zoo.embedder.tower import Tower
    from zoo.encoders.base import Batch, Encoder


@dataclass(frozen=True)
class RegionRule:
    """Base of all rules; as it stands, for those that make one image of an image and its region. A rule has no weights."""

    @property
    def through_head(self) -> bool:
        """Whether a region's vector is what the tower's head makes of one pooled vector: not so of a mean of several."""
        return type(self).forward is RegionRule.forward

    def refusal(self, tower: "Tower") -> str:
        """Why the rule is not for a tower that reads images, "" where it is."""
        return ""

    def image(self, whole: Upright, mask: "np.ndarray") -> "np.ndarray":
        """The image `(h, w, 3)` that stands for the region.

        Args:
            mask: bool `(height, width)`, of the whole image's size, True somewhere.
        """
        raise NotImplementedError(f"{type(self).__name__} must define image, or read and forward")

    def read(self, encoder: "Encoder", item: Item, whole: Upright, mask: "np.ndarray") -> Any:
        """What the encoder, or the rule, reads of an item without its regions; runs in threads."""
        return encoder.prepare_item(replace(item, image=self.image(whole, mask), regions=()))

    def reads(self, read: Any) -> Sequence[Any]:
        """Those reads of the encoder that one read of the rule holds."""
        return (read,)

    def collate(self, encoder: "Encoder", reads: Sequence[Any]) -> "Batch":
        """Reads as one batch of tensors."""
        return encoder.collate(reads)

    def length(self, encoder: "Encoder", read: Any) -> float:
        """Cost of one read in units of the encoder's `batch_budget`."""
        return sum(encoder.length(one) for one in self.reads(read))

    def size(self, encoder: "Encoder", read: Any) -> int:
        """Bytes of one read, as `Encoder.size`."""
        return sum(encoder.size(one) for one in self.reads(read))

    def forward(self, tower: "Tower", batch: "Batch", layers: Sequence[int] = ()) -> "Tensor":
        """A batch to vectors `(batch, dim)`, whose length does not matter."""
        return tower(batch, layers) if layers else tower(batch)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return asdict(self)
