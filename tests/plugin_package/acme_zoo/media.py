"""A medium in a sequence: audio, read as an image of its loudness by whatever the backbone reads images with."""

from typing import Any

import numpy as np
from PIL import Image

from zoo.encoders.sequence.media import Setup, VisionReader, register_media_reader

SIDE = 64


@register_media_reader("audio")
class LoudnessReader(VisionReader):
    """Unfolds a waveform into one image, so that it has no tokens of its own: the format gives both the same mark."""

    marker, token_id, type = None, None, 0

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def unfold(self, value: Any) -> list[tuple[str, Any]]:
        wave = np.resize(np.abs(np.asarray(value, dtype=np.float32)), (SIDE, SIDE))
        grey = Image.fromarray((255 * wave / max(float(wave.max()), 1e-9)).astype(np.uint8))
        return [("image", grey.convert("RGB"))]

    def settings(self) -> dict[str, Any]:
        return {"side": SIDE}
