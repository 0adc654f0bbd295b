"""Alpha-CLIP's vision tower (arxiv:2312.03818): a CLIP of open_clip that reads, beside the colours, what is meant as a fourth channel."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, one_token
from zoo.encoders.dense import LastStage
from zoo.encoders.image_transform import PixelTransform
from zoo.encoders.open_clip import OpenClipImage
from zoo.errors import UnrecognisedCheckpointError
from zoo.inputs.item import Item, Tokens
from zoo.inputs.regions import mask_of
from zoo.inputs.upright import Latest

MEAN, STD = 0.5, 0.26  # of a mask from 0 to 1 (the authors' README)


class Pointed(NamedTuple):
    """An image as the tower reads it, uint8 `(3, H, W)`, shared by its regions, and what is meant, 0 to 1, `(1, H, W)`."""

    pixels: Tensor
    alpha: Tensor


class FourChannels(nn.Module):
    """The patches of colours and of what is meant, added up: `(batch, 4, H, W)` to `(batch, width, rows, columns)`."""

    def __init__(self, colours: nn.Conv2d) -> None:
        super().__init__()
        self.colours = colours
        self.alpha = nn.Conv2d(1, colours.out_channels, colours.kernel_size, colours.stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Colours first, all of them normalised."""
        return self.colours(inputs[:, :3]) + self.alpha(inputs[:, 3:])


class AlphaClipImage(OpenClipImage):
    """The vision tower; a region is its mask at the size of the image, and a whole image is all meant.

    Images with regions are made square by black at the sides, as in training, since a crop of the middle would lose regions. Those
    without go through CLIP's own crop. With a square image both are the same.

    Args:
        model_cfg, transform: as `OpenClipImage`. tower: a loaded tower of open_clip, or one of this class; None builds one at random.

    Raises:
        UnrecognisedCheckpointError: the tower is no vision transformer of open_clip's own.
    """

    modalities = frozenset({"image", "regions"})

    def __init__(
        self, model_cfg: dict[str, Any], transform: PixelTransform | dict[str, Any], tower: nn.Module | None = None
    ) -> None:
        super().__init__(model_cfg, transform, tower)
        if type(self.tower).__name__ != "VisionTransformer" or not hasattr(self.tower, "conv1"):
            raise UnrecognisedCheckpointError(
                f"Alpha-CLIP is a vision transformer of open_clip's own, not a {type(self.tower).__name__}"
            )
        if not isinstance(self.tower.conv1, FourChannels):
            self.tower.conv1 = FourChannels(self.tower.conv1)
        self._latest = Latest()

    def prepare_item(self, item: Item) -> Pointed:
        """The image, and what of it is meant.

        Raises:
            InvalidRegionError: a region lies outside the image, or a mask has another size. Besides what images raise.
        """
        if not len(item.regions):
            return Pointed(self.transform.read(item.image), torch.ones(1, *self.transform.size))
        whole, padded = self._latest.of(item.image), self._padded
        pixels = whole.once(padded, lambda: padded.read(whole.pixels))
        over = replace(padded, interpolation="bilinear", engine="torch")
        mask = torch.from_numpy(mask_of(item.regions, whole.pixels))
        return Pointed(pixels, over.apply(mask[None].float()).contiguous())

    @property
    def _padded(self) -> PixelTransform:
        return replace(self.transform, resize="longest", resize_size=None, fill=0)

    def size(self, read: Pointed) -> int:
        return read.pixels.numel() + 4 * read.alpha.numel()

    def collate(self, reads: Sequence[Pointed]) -> Batch:
        return {
            "pixels": torch.stack([read.pixels for read in reads]),
            "alpha": torch.stack([read.alpha for read in reads]),
        }

    def forward(self, batch: Batch) -> Tokens:
        colours = self.normalize(batch["pixels"])
        alpha = ((batch["alpha"] - MEAN) / STD).to(colours.dtype)
        return one_token(self.tower(torch.cat([colours, alpha], 1)))

    def last_stage(self) -> LastStage | str:
        return "it reads regions by itself"
