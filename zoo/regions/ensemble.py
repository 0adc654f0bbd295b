"""Ensemble: the mean of several masked crops, which differ in what stands outside the region."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.inputs.item import Item
from zoo.regions.base import RegionRule, Upright
from zoo.regions.crop import Fill, MaskedCrop

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from zoo.embedder.tower import Tower
    from zoo.encoders.base import Batch, Encoder


@dataclass(frozen=True)
class Ensemble(RegionRule):
    """The mean of the vectors of a `MaskedCrop` for each fill: a little better than one, at so many times the cost.

    Args:
        fills: of the crops, two at least, no one twice. scale, square: of all of them, as of `MaskedCrop`.

    Raises:
        ValueError: fewer than two fills, one twice, or what `MaskedCrop` raises.
    """

    fills: tuple[Fill, ...] = ("blur", "mean", "white")
    scale: float = 1.2
    square: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "fills", tuple(self.fills))
        if len(self.fills) < 2 or len(set(self.fills)) < len(self.fills):
            raise ValueError(f"an ensemble is of two different fills at least, not {self.fills}")
        _ = self.crops

    @property
    def crops(self) -> tuple[MaskedCrop, ...]:
        """The rules whose vectors are averaged."""
        return tuple(MaskedCrop(self.scale, fill, self.square) for fill in self.fills)

    def refusal(self, tower: "Tower") -> str:
        return (
            "it has a vector for every token (late interaction), which have no mean"
            if tower.similarity == "maxsim"
            else ""
        )

    def read(self, encoder: "Encoder", item: Item, whole: Upright, mask: "np.ndarray") -> tuple[Any, ...]:
        return tuple(crop.read(encoder, item, whole, mask) for crop in self.crops)

    def reads(self, read: tuple[Any, ...]) -> Sequence[Any]:
        return read

    def collate(self, encoder: "Encoder", reads: Sequence[tuple[Any, ...]]) -> "Batch":
        return encoder.collate([one for read in reads for one in read])

    def forward(self, tower: "Tower", batch: "Batch", layers: Sequence[int] = ()) -> "Tensor":
        vectors = tower(batch, layers) if layers else tower(batch)
        # `collate` put the crops of a region side by side: (regions · fills, dim) → (regions, fills, dim).
        return vectors.unflatten(0, (-1, len(self.fills))).mean(1)

    def config(self) -> dict[str, Any]:
        return {"fills": list(self.fills), "scale": self.scale, "square": self.square}
