"""What those rules have in common that put an image through the network once for all of its regions."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from zoo.errors import NotOfferedError
from zoo.inputs.item import Tokens

if TYPE_CHECKING:
    import numpy as np

    from zoo.embedder.tower import Tower
    from zoo.encoders.base import Batch, Encoder
    from zoo.encoders.dense import LastStage

_COST = 0.1  # of a region more of an image, in images
PIXELS, MASKS, OWNERS = "pixels", "masks", "owners"


class SharedRead(NamedTuple):
    """An image as its tower reads it, shared by its regions, and one region of it.

    Attributes:
        pixels: uint8 `(inputs, 3, H, W)`, as many inputs of the tower as the rule makes of an image.
        mask: uint8 `(height, width)`, 0 to 255, of a size of the rule's own.
    """

    pixels: Tensor
    mask: Tensor


class SharedImage:
    """Beside `RegionRule`: a rule whose reads are `SharedRead`s, and whose vectors are made of states by a `LastStage`."""

    name: ClassVar[str]  # as users write it
    through_head: ClassVar[bool] = True

    def refusal(self, tower: "Tower") -> str:
        stage = tower.encoder.last_stage()
        if isinstance(stage, str):
            return f'"{self.name}" has no states to take a region from: {stage}; take "masked-crop"'
        return self.unfit(stage)

    def unfit(self, stage: "LastStage") -> str:
        """Why the rule is not for a tower with such a last stage, "" where it is."""
        return ""

    def vectors(self, encoder: "Encoder", stage: "LastStage", batch: "Batch") -> Tensor:
        """Vectors `(regions, width)` of a batch, as the encoder gives them of whole images."""
        raise NotImplementedError(f"{type(self).__name__} must define vectors")

    def reads(self, read: SharedRead) -> Sequence[Any]:
        return ()

    def length(self, encoder: "Encoder", read: SharedRead) -> float:
        return _COST

    def size(self, encoder: "Encoder", read: SharedRead) -> int:
        return read.pixels.numel() + read.mask.numel()

    def collate(self, encoder: "Encoder", reads: Sequence[SharedRead]) -> "Batch":
        """Each image once, its regions, and which image each is of; smaller masks end in zeros."""
        images = {id(read.pixels): read.pixels for read in reads}
        places = {image: place for place, image in enumerate(images)}
        height, width = (max(read.mask.shape[axis] for read in reads) for axis in (0, 1))
        masks = torch.zeros(len(reads), height, width, dtype=torch.uint8)
        for row, (_, mask) in zip(masks, reads, strict=True):
            row[: mask.shape[0], : mask.shape[1]] = mask
        return {
            PIXELS: torch.cat(list(images.values())),
            MASKS: masks,
            OWNERS: torch.tensor([places[id(read.pixels)] for read in reads]),
        }

    def forward(self, tower: "Tower", batch: "Batch", layers: Sequence[int] = ()) -> Tensor:
        stage = tower.encoder.last_stage()
        if layers:
            raise NotOfferedError(
                "regions pooled densely have no layers; take a loss that compares none, or masked crops"
            )
        if isinstance(stage, str):
            raise NotOfferedError(stage)
        vectors = self.vectors(tower.encoder, stage, batch)
        return tower.embedded(Tokens(vectors[:, None], torch.ones_like(vectors[:, :1], dtype=torch.bool)))


def levels(mask: "np.ndarray", transform: Any) -> Tensor:
    """A mask as uint8 `(height, width)`, 0 to 255, where a tower's transform puts it; a region of any size is seen there."""
    over = replace(transform, fill=0, interpolation="bilinear", engine="torch")
    whole = torch.from_numpy(mask).to(torch.uint8).mul_(255)
    found = over.apply(whole.expand(3, *mask.shape))[0].contiguous()
    if not found.any():  # averaged away: as much around one of its pixels as makes one of what the tower reads
        pixels = whole.nonzero()
        y, x = pixels[len(pixels) // 2].tolist()
        reach = math.ceil(max(have / want for have, want in zip(mask.shape, transform.size, strict=True)))
        whole[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 255
        found = over.apply(whole.expand(3, *mask.shape))[0].contiguous()
    return found
