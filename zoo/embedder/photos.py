"""How a model decodes large photos: exactly, or scaled, which is faster (see `zoo.encoders.image_transform.PixelTransform`)."""

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from torch import nn

from zoo.encoders.image_transform import PixelTransform
from zoo.errors import ArgumentError

if TYPE_CHECKING:
    from zoo.embedder.tower import Tower
    from zoo.spec import ModelSpec

Pixels = Literal["exact", "scaled"]


class WithPhotos:
    """The part of an `Embedder` that says how large photos are decoded."""

    towers: nn.ModuleList
    spec: "ModelSpec"

    @property
    def pixels(self) -> Pixels:
        """How JPEG photos are decoded that are much larger than the model scales them to: "exact", or "scaled" at a fraction of
        their size. Set by name: `model.pixels = "scaled"`; its vectors differ slightly then, and so does its fingerprint.

        Raises:
            ArgumentError: set for a model that reads no images, or none that it scales to one size.
        """
        transforms = [transform for tower in self.towers if (transform := _transform(tower)) is not None]
        return "scaled" if any(transform.pixels == "scaled" for transform in transforms) else "exact"

    @pixels.setter
    def pixels(self, pixels: Pixels) -> None:
        self.spec.check_pixels(pixels)
        readers = [tower for tower in self.towers if "image" in tower.encoder.modalities]
        if pixels == "scaled" and any(_transform(tower) is None for tower in readers):
            raise self.spec.no_scaled_pixels()
        try:
            towers = [_decoding(tower, pixels) for tower in self.towers]
        except ValueError as error:
            raise ArgumentError(f"{self.spec.name}: {error}") from error
        self.towers = nn.ModuleList(towers)


def _transform(tower: "Tower") -> PixelTransform | None:
    """Of images: frames of a video are no JPEG files."""
    found = getattr(tower.encoder, "transform", None) if "image" in tower.encoder.modalities else None
    return found if isinstance(found, PixelTransform) else None


def _decoding(tower: "Tower", pixels: Pixels) -> "Tower":
    """The tower, its weights shared, that decodes photos so; itself where that makes no difference."""
    transform = _transform(tower)
    if transform is None or transform.pixels == pixels:
        return tower
    # Shallow copies share all tensors, as in `Tower.aimed`: another model may have this tower, too.
    encoder, other = copy(tower.encoder), copy(tower)
    encoder.transform = replace(transform, pixels=pixels)
    other._modules = {**tower._modules, "encoder": encoder}
    return other
