"""The few inputs on which a backend's vectors are compared with torch's before anybody gets one."""

import numpy as np

from zoo.encoders.base import Encoder
from zoo.inputs.item import Item

# A short one first; the long one has more tokens than any window of an attention (ModernBERT's is 128).
_TEXTS = (
    "A cat.",
    "Two DOGS in the snow: 3 red boats, a café and 山の上の白い雲. " * 16,
    "How do I compare two numbers that are nearly equal?",
)
_SIZES = ((240, 320), (64, 48), (300, 300))


def golden_items(encoder: Encoder) -> list[Item]:
    """Inputs that an encoder reads, one after the other: texts of several lengths, images of several shapes; [] where it reads neither."""
    if "text" in encoder.modalities:
        return [Item(text=text) for text in _TEXTS]
    if "image" in encoder.modalities:
        return [Item(image=_image(height, width, seed)) for seed, (height, width) in enumerate(_SIZES)]
    return []


def trial_batches(encoder: Encoder) -> list[list[Item]]:
    """Batches as in real work, by which runtimes are timed; [] where it reads neither texts nor images.

    Texts of about 12, 40 and 120 words: of many inputs `prefetch.batches` puts those of nearly one length together.
    """
    if "text" in encoder.modalities:
        words = (_TEXTS[2] + " " + _TEXTS[1]).split()
        return [
            [Item(text=" ".join((words * 3)[at : at + length + at % 3])) for at in range(count)]
            for length, count in ((12, 8), (40, 12), (120, 4))
        ]
    if "image" in encoder.modalities:
        return [[Item(image=_image(240, 320, seed)) for seed in range(8)]]
    return []


def _image(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth field with some noise, `(height, width, 3)`: noise alone has one vector, whatever its values."""
    y, x = np.mgrid[:height, :width] / 40.0
    waves = [np.sin(x * (seed + 1) + channel) * np.cos(y + channel * seed) for channel in range(3)]
    noise = np.random.default_rng(seed).normal(0, 20, (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
