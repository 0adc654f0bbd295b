"""Dense: the network once an image, and its last stage on the states of each region alone. The fast way to many regions."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from zoo.inputs.item import Item
from zoo.regions.base import RegionRule, Upright
from zoo.regions.shared import MASKS, OWNERS, PIXELS, SharedImage, SharedRead, levels

if TYPE_CHECKING:
    import numpy as np

    from zoo.encoders.base import Batch, Encoder
    from zoo.encoders.dense import LastStage

_SCALE = 2.0  # of a convolutional network's images


@dataclass(frozen=True)
class Dense(SharedImage, RegionRule):
    """A region's states of the whole image's, pooled as the tower pools all of them (see `zoo.encoders.dense`).

    The whole image is squeezed into the tower's square, since a crop of the middle would lose regions at the sides.

    Args:
        scale: size of the image that the network reads, in its own; None for what suits it: 2 where it reads any size (a
            convolutional network's map is coarse), 1 where it reads one.

    Raises:
        ValueError: a scale outside 1 to 8.
    """

    name: ClassVar[str] = "dense"
    scale: float | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if self.scale is not None and not (whole and 1 <= self.scale <= 8):
            raise ValueError(f"scale must be from 1 to 8, or None, not {self.scale!r}")

    def unfit(self, stage: "LastStage") -> str:
        if not stage.flexible and self.scale not in (None, 1):
            return f"its images have one size, so that a scale of {self.scale:g} cannot be followed; leave it out"
        return ""

    def read(self, encoder: "Encoder", item: Item, whole: Upright, mask: "np.ndarray") -> SharedRead:
        transform = self._transform(encoder)
        pixels = whole.once(transform, lambda: transform.read(whole.pixels)[None])
        return SharedRead(pixels, levels(mask, transform))

    def _transform(self, encoder: "Encoder") -> Any:
        transform = encoder.transform
        if transform.resize in ("shortest", "none"):
            transform = replace(transform, resize="squash", resize_size=None)
        scale = self.scale or (_SCALE if encoder.last_stage().flexible else 1)
        if scale == 1:
            return transform
        sizes = {name: getattr(transform, name) for name in ("size", "resize_size")}
        return replace(
            transform, **{n: tuple(round(scale * s) for s in size) if size else None for n, size in sizes.items()}
        )

    def vectors(self, encoder: "Encoder", stage: "LastStage", batch: "Batch") -> Tensor:
        return stage.regions(encoder.normalize(batch[PIXELS]), batch[MASKS], batch[OWNERS])
