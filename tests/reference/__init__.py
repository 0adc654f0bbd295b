"""Tiny random checkpoints written by the reference libraries themselves, and those libraries' own embeddings.

`write(name, folder)` writes one checkpoint and gives a `Reference`: what the library that wrote it says about texts
and images. `NAMES` lists them all; nothing here imports zoo.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.reference import open_clip_models, sentence_models, timm_models, transformers_models
from tests.reference.base import LONG_TEXT, TEXTS, Reference, centred_cosine
from tests.reference.photos import Photo, write_photos

_WRITERS: dict[str, Callable[[Path], Reference]] = {
    **open_clip_models.WRITERS,
    **transformers_models.WRITERS,
    **sentence_models.WRITERS,
    **timm_models.WRITERS,
}
NAMES: tuple[str, ...] = tuple(_WRITERS)
TEXT_NAMES = tuple(name for name in NAMES if not name.startswith("timm"))
IMAGE_NAMES = tuple(
    name for name in NAMES if name.startswith(("timm", "open_clip")) or "clip" in name or "siglip" in name
)


def write(name: str, folder: Path) -> Reference:
    """The checkpoint `name` (see `NAMES`), written into `folder`, and its reference."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = _WRITERS[name](folder)
    reference.name = name
    return reference


__all__ = [
    "IMAGE_NAMES",
    "LONG_TEXT",
    "NAMES",
    "TEXTS",
    "TEXT_NAMES",
    "Photo",
    "Reference",
    "centred_cosine",
    "write",
    "write_photos",
]
