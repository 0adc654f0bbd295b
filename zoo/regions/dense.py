"""Dense: the network once an image, and its last stage on the states of each region alone. The fast way to many regions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import NotOfferedError
from zoo.inputs.item import Item
from zoo.regions.base import RegionRule, Upright

if TYPE_CHECKING:
    import numpy as np

    from zoo.embedder.tower import Tower
    from zoo.encoders.base import Batch, Encoder
    from zoo.encoders.dense import LastStage

_SCALE = 2.0  # of a convolutional network's images
_SHARED = 0.1  # cost of a region more of an image, in images
PIXELS, MASKS, OWNERS = "pixels", "masks", "owners"


class DenseRead(NamedTuple):
    """An image as its tower reads it, shared by its regions, and a region of it: uint8 `(3, H, W)` and `(H, W)`, 0 to 255."""

    pixels: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Dense(RegionRule):
    """A region's states of the whole image's, pooled as the tower pools all of them (see `zoo.encoders.dense`).

    The whole image is squeezed into the tower's square, since a crop of the middle would lose regions at the sides.

    Args:
        scale: size of the image that the network reads, in its own; None for what suits it: 2 where it reads any size (a
            convolutional network's map is coarse), 1 where it reads one.

    Raises:
        ValueError: a scale outside 1 to 8.
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if self.scale is not None and not (whole and 1 <= self.scale <= 8):
            raise ValueError(f"scale must be from 1 to 8, or None, not {self.scale!r}")

    def refusal(self, tower: "Tower") -> str:
        stage = tower.encoder.last_stage()
        if isinstance(stage, str):
            return f'"dense" has no states to take a region from: {stage}; take "masked-crop"'
        if not stage.flexible and self.scale not in (None, 1):
            return f"its images have one size, so that a scale of {self.scale:g} cannot be followed; leave it out"
        return ""

    def read(self, encoder: "Encoder", item: Item, whole: Upright, mask: "np.ndarray") -> DenseRead:
        transform = self._transform(encoder)
        pixels = whole.once(transform, lambda: transform.read(whole.pixels))
        over = replace(transform, fill=0, interpolation="bilinear", engine="torch")
        levels = torch.from_numpy(mask).to(torch.uint8).mul_(255).expand(3, *mask.shape)
        return DenseRead(pixels, over.apply(levels)[0].contiguous())

    def _transform(self, encoder: "Encoder") -> Any:
        transform = encoder.transform
        if transform.resize in ("shortest", "none"):
            transform = replace(transform, resize="squash", resize_size=None)
        scale = self.scale or (_SCALE if _stage(encoder).flexible else 1)
        if scale == 1:
            return transform
        sizes = {name: getattr(transform, name) for name in ("size", "resize_size")}
        return replace(
            transform, **{n: tuple(round(scale * s) for s in size) if size else None for n, size in sizes.items()}
        )

    def reads(self, read: DenseRead) -> Sequence[Any]:
        return ()

    def length(self, encoder: "Encoder", read: DenseRead) -> float:
        return _SHARED

    def size(self, encoder: "Encoder", read: DenseRead) -> int:
        return read.pixels.numel() + read.mask.numel()

    def collate(self, encoder: "Encoder", reads: Sequence[DenseRead]) -> "Batch":
        """Each image once, its regions, and which image each is of."""
        images = {id(read.pixels): read.pixels for read in reads}
        places = {image: place for place, image in enumerate(images)}
        return {
            PIXELS: torch.stack(list(images.values())),
            MASKS: torch.stack([read.mask for read in reads]),
            OWNERS: torch.tensor([places[id(read.pixels)] for read in reads]),
        }

    def forward(self, tower: "Tower", batch: "Batch", layers: Sequence[int] = ()) -> Tensor:
        if layers:
            raise NotOfferedError(
                "regions pooled densely have no layers; take a loss that compares none, or masked crops"
            )
        pixels = tower.encoder.normalize(batch[PIXELS])
        tokens = _stage(tower.encoder).regions(pixels, batch[MASKS], batch[OWNERS])
        return tower.embedded(tokens)


def _stage(encoder: "Encoder") -> "LastStage":
    stage = encoder.last_stage()
    if isinstance(stage, str):
        raise NotOfferedError(stage)
    return stage
