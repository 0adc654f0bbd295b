"""Dense-hd: TextRegion (Xiao et al., TMLR 2025): an image in tiles, and the region's mask in the place of the last attention.

The image and tiles of it go through the network once, whatever the number of regions, and their states are laid together as one
large map. In the last attention all keys are made equal, so that the mask alone says how much each place counts. Places that look
like the image all over ("global" patches, in which transformers keep what they know of the whole) are dropped.

As in the authors' code, github.com/avaxiao/TextRegion, but for two things: they look for global patches among all regions that are
asked for, here a region is told apart from the rest of its image, so that its vector does not depend on other regions (it is theirs for
two masks, the region and the rest); and of a pooling head they leave out what comes after its attention, here the head is whole.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.inputs.item import Item
from zoo.regions.base import RegionRule, Upright
from zoo.regions.shared import MASKS, OWNERS, PIXELS, SharedImage, SharedRead, levels

if TYPE_CHECKING:
    import numpy as np

    from zoo.encoders.base import Batch, Encoder
    from zoo.encoders.dense import LastStage

GRIDS = "grids"
_AT_ONCE = 16  # masks that are floats at a time
# How much the whole image counts, in tiles. The authors' numbers; of convolutional maps, which they have none of, any share was worse
# with zoo-mini: on the regions pack's val 0.79 of regions found in-image with none, 0.74 with half, 0.70 with all of it.
_OF_CLASS_TOKENS, _OF_HEADS, _OF_MAPS = 1.0, 0.5, 0.0


@dataclass(frozen=True)
class DenseHd(SharedImage, RegionRule):
    """Regions of large images, small things most of all: at the defaults 13 passes of the network an image at most.

    The image is scaled, keeping its ratio, as large as `long` and `short` allow, and cut into tiles of about the tower's size.

    Args:
        long, short: of the scaled image's sides at most, in sides of the tower's own images.
        threshold: patches are dropped whose mean similarity to the region is not that much greater than to the rest of the image;
            -2 drops none.
        whole: how much the whole image's states count that are added to the tiles', for a pass more; 0 adds none. None for what suits
            the tower: 1 where a class token attends to patches, 0.5 for other transformers, 0 for convolutional networks.

    Raises:
        ValueError: short under 1, long over 8 or under short, a threshold outside -2 to 2, a whole outside 0 to 4.
    """

    name: ClassVar[str] = "dense-hd"
    long: float = 6
    short: float = 2
    threshold: float = 0.07
    whole: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.long, self.short, self.threshold, 0 if self.whole is None else self.whole)
        if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
            raise ValueError(f"long, short, threshold and whole must be numbers, not {numbers}")
        if not 1 <= self.short <= self.long <= 8:
            raise ValueError(f"short and long must be 1 <= short <= long <= 8, not {self.short} and {self.long}")
        if not -2 <= self.threshold <= 2:
            raise ValueError(f"threshold must be from -2 to 2, not {self.threshold}")
        if not 0 <= numbers[-1] <= 4:
            raise ValueError(f"whole must be from 0 to 4, or None, not {self.whole}")

    def unfit(self, stage: "LastStage") -> str:
        return f'"dense-hd" cannot follow its attention: {stage.attention}' if isinstance(stage.attention, str) else ""

    def read(self, encoder: "Encoder", item: Item, whole: Upright, mask: "np.ndarray") -> SharedRead:
        transform = replace(encoder.transform, resize="squash", resize_size=None)
        share = self.share(encoder.last_stage())
        inputs = whole.once((self, transform, share), lambda: self._inputs(transform, whole.pixels, share))
        tiles = _tiles(self.scaled(mask.shape, transform.size), transform.size)
        size = tuple(count * side for count, side in zip(tiles, transform.size, strict=True))
        return SharedRead(inputs, levels(mask, replace(transform, size=size)))

    def scaled(self, size: tuple[int, int], own: tuple[int, int]) -> tuple[int, int]:
        """Height and width of an image of this size in pixels, once scaled; `own`: of the tower's."""
        sides = [side / mine for side, mine in zip(size, own, strict=True)]
        # Both limits hold: a panorama is bound by its long side, a square by its short one.
        ratio = min(self.long / max(sides), self.short / min(sides))
        return max(1, int(ratio * size[0] + 0.5)), max(1, int(ratio * size[1] + 0.5))

    def share(self, stage: "LastStage") -> float:
        """How much the whole image's states count, added to the tiles'."""
        if self.whole is not None:
            return self.whole
        return _OF_MAPS if stage.flexible else _OF_HEADS if stage.attention is None else _OF_CLASS_TOKENS

    def _inputs(self, transform: Any, pixels: "np.ndarray", share: float) -> Tensor:
        """The whole image where it has a share, then its tiles row by row, each in the tower's size: uint8 `(inputs, 3, H, W)`."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        height, width = self.scaled(pixels.shape[:2], transform.size)
        scaled = replace(transform, size=(height, width)).apply(image)
        rows, columns = _tiles((height, width), transform.size)
        parts = [scaled[:, y, x] for y in spans(height, rows) for x in spans(width, columns)]
        return torch.stack([transform.apply(part) for part in ([image] if share else []) + parts])

    def collate(self, encoder: "Encoder", reads: Sequence[SharedRead]) -> "Batch":
        """As of every such rule, and of each image how many tiles it has one below and beside the other."""
        height, width = encoder.transform.size
        masks = {id(read.pixels): read.mask for read in reads}
        grids = [[mask.shape[0] // height, mask.shape[1] // width] for mask in masks.values()]
        return {**super().collate(encoder, reads), GRIDS: torch.tensor(grids)}

    def vectors(self, encoder: "Encoder", stage: "LastStage", batch: "Batch") -> Tensor:
        height, width = encoder.transform.size
        owners, grids = batch[OWNERS], batch[GRIDS].tolist()
        first = int(self.share(stage) > 0)
        inputs = batch[PIXELS].split([first + rows * columns for rows, columns in grids])
        places, vectors = [], []
        for image, (rows, columns) in enumerate(grids):  # one at a time: so many tiles fill a batch
            places.append((owners == image).nonzero()[:, 0])
            masks = batch[MASKS][places[-1], : rows * height, : columns * width]
            vectors.append(self.of_one(stage, encoder.normalize(inputs[image]), (rows, columns), masks))
        found = torch.cat(vectors)
        return torch.empty_like(found).index_copy(0, torch.cat(places), found)

    def of_one(self, stage: "LastStage", inputs: Tensor, tiles: tuple[int, int], masks: Tensor) -> Tensor:
        """Vectors of one image's regions, by its inputs as of `_inputs`, normalised."""
        tokens, prefix, grid = stage.states(inputs)
        # (inputs, prefix + cells, V): the values of the last attention, or the states
        # themselves where a head pools them.
        values = tokens if stage.attention is None else stage.attention.values(tokens)
        values = joined(values[:, prefix:], grid, tiles, self.share(stage)).float()  # (cells, V)
        weights = weights_of(masks, (tiles[0] * grid[0], tiles[1] * grid[1]))  # (regions, cells)
        alike = F.normalize(values, dim=-1)
        weights = local(alike, weights, self.threshold)
        if (
            stage.attention is not None
        ):  # the sum, no mean, of values of unit length, as the authors' code has it for CLIP
            return stage.attention.vector((weights @ alike).to(tokens.dtype))
        # p=1: the kept cells' weights sum to 1, so this is their mean.
        means = F.normalize((weights > 0).float(), p=1, dim=-1) @ values
        # As many equal tokens as stand before a patch, and it: their mean, and any attention over them, is that token.
        return stage.vector(means.to(tokens.dtype)[:, None].expand(-1, prefix + 1, -1))


def _tiles(size: tuple[int, int], own: tuple[int, int]) -> tuple[int, int]:
    """How many tiles a scaled image has one below and beside the other."""
    return max(1, size[0] // own[0]), max(1, size[1] // own[1])


def spans(length: int, count: int) -> Iterator[slice]:
    """So many tiles along a side, of equal length; the last may lie over the one before it."""
    side = math.ceil(length / count)
    for place in range(count):
        stop = min((place + 1) * side, length)
        yield slice(max(stop - side, 0), stop)


def joined(states: Tensor, grid: tuple[int, int], tiles: tuple[int, int], share: float) -> Tensor:
    """States of the tiles beside each other as one map `(cells, W)`, row by row, plus `share` times the whole image's.

    Args:
        states: `(inputs, height * width, W)`, the whole image's first where it has a share, then the tiles'. grid: height and width of
            each in cells.
    """
    # (inputs, W, height, width).
    maps = states.transpose(1, 2).unflatten(2, grid)
    size = tiles[0] * grid[0], tiles[1] * grid[1]
    # (rows, columns, W, h, w) → (W, rows, h, columns, w) → (W, rows · h, columns · w): tile by tile in its place.
    parts = maps[-tiles[0] * tiles[1] :].unflatten(0, tiles).permute(2, 0, 3, 1, 4).reshape(-1, *size)
    if share:
        parts = parts + share * F.interpolate(maps[:1], size, mode="bilinear")[0]
    return parts.flatten(1).T


def weights_of(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """How much each cell counts for a region `(regions, cells)`, 0 to 1, and 1 together at least, also of a region within one cell.

    Args:
        masks: `(regions, height, width)`, 0 to 255. size: height and width in cells.
    """
    found = []
    for some in masks[:, None].split(_AT_ONCE):
        parts = F.interpolate(some.float() / 255, size, mode="bilinear").flatten(1)
        areas = F.adaptive_avg_pool2d(some.float(), size).flatten(1)
        fullest = F.one_hot(areas.argmax(1), areas.shape[1])  # where a region lies between what is interpolated of
        parts = torch.where(parts.any(1, keepdim=True), parts, fullest)
        found.append(parts / parts.sum(1, keepdim=True).clamp(max=1))
    return torch.cat(found)


def local(alike: Tensor, weights: Tensor, threshold: float) -> Tensor:
    """Weights `(regions, cells)` without those of global patches: no more like the region than like the rest of the image.

    A region of such patches alone keeps all.

    Args:
        alike: the cells' states of unit length `(cells, W)`, whose products are similarities. threshold: as of `DenseHd`.
    """
    inside = weights > 0
    # Means (regions, W) of the cells inside and of those outside.
    own, rest = (F.normalize(cells.float(), p=1, dim=-1) @ alike for cells in (inside, ~inside))
    # A cell's mean similarity to the region less that to the rest: near 0 for patches that look
    # like the image all over.
    kept = inside & ((own - rest) @ alike.T >= threshold)
    return weights * torch.where(kept.any(1, keepdim=True), kept, inside)
