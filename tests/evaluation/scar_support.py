"""Models that see colours and files of SCaR's form, for figures that are worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

import zoo
from zoo.embedder import Embedder, Tower
from zoo.encoders.base import Encoder, one_token
from zoo.heads import Identity
from zoo.inputs.image import load_pixels
from zoo.inputs.regions import resolved
from zoo.pooling import Mean

AXES = {"red": 0, "green": 1, "blue": 2}
OTHERS = ("green", "green one", "green two", "green three", "green four", "green five", "green six", "green seven")


class Colours(Encoder):
    """The mean colour of a region, or the colours that a text names, `(3,)`; of both the region's, reversed where the text says so."""

    width = 3

    def __init__(self, *modalities: str) -> None:
        super().__init__()
        self.modalities = frozenset(modalities)
        self.texts: list[str] = []  # as they were read
        self.place = torch.nn.Parameter(torch.zeros(1))  # says where the model is

    def prepare_item(self, item: zoo.Item) -> torch.Tensor:
        if item.text is not None:
            self.texts.append(item.text)
        if item.image is None:
            return torch.tensor([float(name in item.text) for name in AXES])
        pixels = load_pixels(item.image)
        (box,) = resolved(item.regions, *pixels.shape[:2])
        inside = pixels[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
        colour = torch.tensor(inside.reshape(-1, 3).mean(0) / 255).float()
        return colour.flip(0) if item.text is not None and "reversed" in item.text else colour

    def collate(self, reads: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"colours": torch.stack(reads)}

    def forward(self, batch: dict[str, torch.Tensor]) -> Any:
        return one_token(batch["colours"])

    def config(self) -> dict[str, Any]:
        return {"modalities": sorted(self.modalities)}


def apart() -> Embedder:
    """A tower of regions, and one of texts."""
    return _model(Colours("image", "regions"), Colours("text"))


def together() -> Embedder:
    """One tower, which reads a text with a region."""
    return _model(Colours("image", "regions", "text"))


def _model(*encoders: Colours) -> Embedder:
    spec = replace(zoo.get_spec("clip-test"), dim=3, dims=())
    return Embedder(spec, [Tower(encoder, Mean(), Identity()) for encoder in encoders])


def two_halves(path: Path) -> None:
    """20 pixels wide and 10 high, red on the left and blue on the right."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:, 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def row(**changes: Any) -> dict[str, Any]:
    """A row that is right of `apart`: the left half is red."""
    good = {
        "qry_text": "<|image_1|>\nWhich caption?",
        "qry_image_path": "halves.png",
        "tgt_text": ["red", "blue", *OTHERS],
        "bbox": [0.0, 0.0, 10.0, 10.0],
    }
    return {**good, **changes}


def save(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file
