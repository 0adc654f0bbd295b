"""A model that knows colours by name and nothing else: weightless, instant, and right by construction.

The demo's tests need answers that are known beforehand, so that "the right image first" can fail.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.ports import free_port
from zoo.embedder import Embedder, Tower
from zoo.encoders.base import Encoder, one_token
from zoo.errors import EmptyTextError, UnreadableTextError
from zoo.heads import Identity
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item
from zoo.pooling import Cls
from zoo.spec import ModelSpec

PATIENT = {"timeout": 300}  # of httpx, for gradio's client: its 5 seconds are short on a busy machine
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (30, 60, 210),
    "yellow": (240, 220, 40),
    "purple": (130, 30, 150),
    "orange": (250, 140, 20),
    "black": (10, 10, 10),
    "white": (250, 250, 250),
    "grey": (128, 128, 128),
}
PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)


def folder_images(folder: Path, **options: Any) -> list[Any]:
    """The images of `walk_images`, without what is left out."""
    from zoo.demos.gallery import walk_images

    return walk_images(folder, **options)[0]


class _Colours(Encoder):
    width = len(COLOURS) + 1  # the last column says "something", so that no vector is zero

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # gives the model a device

    def collate(self, reads):
        return {"vectors": torch.stack(reads)}

    def forward(self, batch):
        return one_token(batch["vectors"])

    def config(self):
        return {}


class ColourImages(_Colours):
    """Share of the pixels that each colour is nearest to."""

    modalities = frozenset({"image"})

    def prepare_item(self, item: Item) -> torch.Tensor:
        small = np.asarray(Image.fromarray(load_pixels(item.image)).resize((24, 24)), dtype=np.float32)
        nearest = np.square(small.reshape(-1, 1, 3) - PALETTE).sum(2).argmin(1)
        share = np.bincount(nearest, minlength=len(COLOURS)) / len(nearest)
        return torch.tensor([*share, 0.05], dtype=torch.float32)


class ColourWords(_Colours):
    """The colour names in a text."""

    modalities = frozenset({"text"})

    def prepare_item(self, item: Item) -> torch.Tensor:
        if not item.text.strip():
            raise EmptyTextError("the text is empty")
        if not item.text.isascii():
            raise UnreadableTextError("no letter of the text is known")
        words = item.text.lower().split()
        return torch.tensor([*(float(words.count(name)) for name in COLOURS), 0.05], dtype=torch.float32)


def colour_model(name: str = "colours", modalities: frozenset[str] = frozenset({"text", "image"})) -> Embedder:
    """The model; without "text" it reads images only."""
    spec = ModelSpec(name=name, modalities=modalities, dim=_Colours.width, license="apache-2.0")
    encoders = [encoder() for encoder in (ColourImages, ColourWords) if encoder.modalities <= modalities]
    return Embedder(spec, [Tower(encoder, Cls(), Identity()) for encoder in encoders]).eval()


def colour_photos(folder: Path) -> Path:
    """Writes one image for each colour, `<colour>.png`, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rgb in COLOURS.items():
        Image.new("RGB", (64, 48), rgb).save(folder / f"{name}.png")
    return folder


@contextmanager
def running(page: Any, **options: Any) -> Iterator[str]:
    """Serves a page on a free port and yields its address."""
    from zoo.demos.serve import page_options

    _, url, _ = page.launch(  # Gradio does not take port 0
        server_name="127.0.0.1",
        server_port=free_port(),
        prevent_thread_lock=True,
        quiet=True,
        **page_options(page, **options),
    )
    try:
        yield url
    finally:
        page.close(verbose=False)
