"""The regions pack as pairs: a region of an image and its caption; what else the image shows are its hard negatives."""

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoo.inputs.item import Item
from zoo.inputs.regions import Box, Mask, Region
from zoo.tables.pack_files import REGIONS, read_pack
from zoo.tables.pairs import Pair
from zoo.tables.schema import Part, Schema
from zoo.tables.table import MOST, Table

SCENES, CELLS = "scenes", "cells"  # data sets: objects put into scenes, with masks; blood cells, with boxes
_SOURCES = {"composed": SCENES, "bccd": CELLS}


@dataclass(frozen=True)
class Scene:
    """An image of the pack and the regions in it.

    Attributes:
        name: of the image. part: `SCENES` or `CELLS`. image: the file's bytes. mask: PNG of the regions' numbers, b"" for boxes.
        regions: as the pack has them: caption, box, mask_value.
    """

    name: str
    part: str
    image: bytes
    mask: bytes
    regions: tuple[dict[str, Any], ...]

    @property
    def captions(self) -> list[str]:
        """Of the regions, in their order."""
        return [region["caption"] for region in self.regions]

    def shapes(self) -> list[Region]:
        """The regions, in their order: masks, boxes where the pack has none."""
        return [self.shape(place) for place in range(len(self.regions))]

    def shape(self, place: int) -> Region:
        """One region by its place."""
        region = self.regions[place]
        return Mask(self._numbers == region["mask_value"]) if self.mask else Box(*region["box"])

    @cached_property
    def _numbers(self) -> np.ndarray:
        """The number of the region of every pixel; kept, since every region and every epoch asks for it."""
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(self.mask)))


def read_scenes(split: str, part: str | None = None) -> list[Scene]:
    """The images of a split, all in memory; of one part, or of both.

    Raises:
        MissingPackError: the pack is not here.
    """
    found = [
        Scene(row["id"], _SOURCES[row["source"]], row["image"], row["mask"] or b"", tuple(row["regions"]))
        for row in read_pack(REGIONS, split)
    ]
    return [scene for scene in found if part in (None, scene.part)]


class RegionsTable(Table):
    """`pack:regions`: image and region → caption, with the captions of the image's other regions as negatives.

    Of an image's cells one of each kind: nearly all are red.

    Raises:
        MissingPackError: the pack is not here.
    """

    def __init__(self, split: str, name: str) -> None:
        self._scenes, self._split = read_scenes(split), split
        self._rows = [(number, place) for number, scene in enumerate(self._scenes) for place in _kept(scene)]
        self.names = [SCENES, CELLS] if name == REGIONS else [f"{name}-{SCENES}", f"{name}-{CELLS}"]
        self.datasets = np.array([self._scenes[n].part == CELLS for n, _ in self._rows], dtype=np.int64)
        self.schemas = [
            Schema(
                f"pack:{REGIONS} ({split})",
                (Part("image and region", "image"),),
                (Part("caption", "text"),),
                ((Part("captions of other regions", "text"),),),
                rows=len(self._rows),
                chosen=split,
            )
        ]

    def _pair(self, row: int) -> Pair:
        number, place = self._rows[row]
        scene = self._scenes[number]
        caption = scene.captions[place]
        others = [other for other in dict.fromkeys(scene.captions) if other != caption]
        return Pair(
            Item(image=scene.image, regions=(scene.shape(place),)),
            Item(text=caption),
            negatives=tuple(Item(text=other) for other in others),
            dataset=self.names[self.datasets[row]],
            where=self.where(row),
        )

    def where(self, row: int) -> str:
        """See `Table`."""
        number, place = self._rows[row]
        return f"pack:{REGIONS}/{self._split}, {self._scenes[number].name}, region {place}"

    def problems(self, limit: int = 20, most: int | None = MOST, keep: Any = None) -> list[str]:
        """None: the pack was checked when it was made."""
        return []


def _kept(scene: Scene) -> list[int]:
    """Which regions of an image are rows."""
    if scene.part == SCENES:
        return list(range(len(scene.regions)))
    return sorted({caption: place for place, caption in reversed(list(enumerate(scene.captions)))}.values())
