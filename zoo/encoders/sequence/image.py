"""Images in a sequence, through the processor of the backbone."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.encoders.sequence.media import (
    Medium,
    Setup,
    VisionReader,
    marker_of,
    medium_of,
    plain,
    register_media_reader,
    set_budget,
)
from zoo.encoders.sequence.resizing import WIDEST, by_pillow, fetched_size
from zoo.errors import InvalidPixelsError
from zoo.sequences import ImageLimits, VideoLimits

_PROBE = (61, 47)  # no multiple of any patch


class Frame(NamedTuple):
    """One image `(height, width, 3)` of a video, for models that read videos as images."""

    pixels: Any


@register_media_reader("image")
class ImageReader(VisionReader):
    """Images, one at a time, each resized within the limits of the format."""

    kind = "image"
    type = 1

    def __init__(self, setup: Setup) -> None:
        self.setup, self.processor = setup, setup.processor
        self.marker, self.token_id = marker_of(setup, "image")
        limits, frames = setup.media.get("image", ImageLimits()), setup.media.get("video", VideoLimits())
        self.limits, self.frame_pixels = limits, frames.pixels
        set_budget(self.processor.image_processor, limits.pixels)

    def probe(self, pixels: Tensor | None = None) -> dict[str, Tensor]:
        """What the processor makes of an image `(3, height, width)`, a small one by default, by itself, without `pre_resize`."""
        with torch.device("cpu"):  # also where a shape alone is built, on the meta device
            if pixels is None:
                pixels = torch.arange(3 * _PROBE[0] * _PROBE[1]).remainder(251).to(torch.uint8).view(3, *_PROBE)
            return self.read(pixels, first=False).inputs

    def read(self, value: Any, first: bool = True) -> Medium:
        """An image, resized by `pre_resize` only where `first`, as a processor must read it by itself as well.

        Raises:
            InputError: it cannot be read. InvalidPixelsError: its shape is none that the model takes.
        """
        from zoo.inputs.image import load_pixels
        from zoo.inputs.kinds import describe

        options = dict(getattr(self.processor, "images_kwargs", {}))  # what the processor itself would ask for
        if isinstance(value, Frame):
            value = value.pixels
            if budget := self.frame_pixels:
                options["size"] = {"shortest_edge": budget[0], "longest_edge": budget[1]}
        pixels = torch.from_numpy(load_pixels(value)).permute(2, 0, 1)
        least, square = self.limits.smallest_side, self.limits.square
        if least and min(pixels.shape[1:]) < least:
            pixels = by_pillow(pixels, 2 * least, 2 * least)
        if square:
            pixels = by_pillow(pixels, square, square)
        shape = pixels.shape
        try:
            if first and self.limits.pre_resize:
                pixels, again = self._fetched(pixels, options.get("size"))
                options |= {} if again else {"do_resize": False}
            inputs = dict(self.processor.image_processor(images=[pixels], **{**options, "return_tensors": "pt"}))
        except ValueError as error:
            raise InvalidPixelsError(
                f"{describe(value)} of {shape[2]}x{shape[1]} pixels is no image for this model: {error}; crop it",
                what=describe(value),
            ) from error
        place = self.processor.replace_image_token(inputs, 0)
        return medium_of(self, {name: t for name, t in inputs.items() if isinstance(t, Tensor)}, place)

    def _fetched(self, pixels: Tensor, size: dict[str, int] | None) -> tuple[Tensor, bool]:
        """An image `(3, height, width)` after its first resize, and whether the processor is to resize it (again).

        Args:
            size: the processor's budget for this image, where it is not its usual one.
        """
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        part = self.processor.image_processor
        own = (
            (size["shortest_edge"], size["longest_edge"]) if size else (part.size.shortest_edge, part.size.longest_edge)
        )
        factor, *budget = self.limits.pre_resize
        height, width = fetched_size(*pixels.shape[1:], factor, *budget, self.limits.pre_ratio)
        once = (factor, *budget) == (part.patch_size * part.merge_size, *own)
        once = once and max(pixels.shape[1:]) <= WIDEST * min(pixels.shape[1:])  # else theirs raises
        if once and smart_resize(*pixels.shape[1:], factor, *own) == (height, width):
            return (
                pixels,
                True,
            )  # a second resize to the same size does nothing, and the processor's alone is the faster
        # What comes out wider goes on as it is: so Qwen3-VL-Embedding, whose processor does not resize.
        return by_pillow(pixels, height, width), max(height, width) <= WIDEST * min(height, width)

    def settings(self) -> dict[str, Any]:
        """Of the image processor."""
        return plain(self.processor.image_processor)
