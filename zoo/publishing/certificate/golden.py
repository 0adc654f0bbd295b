"""Golden inputs: texts, images, recordings and regions that every machine makes bit for bit the same, by integers alone."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from zoo.inputs.item import Item
from zoo.inputs.regions import Box, Mask, Point
from zoo.inputs.waveform import Waveform
from zoo.modalities import Modality
from zoo.prompts import Role

Kind = Literal["text", "image", "resized image", "audio", "video", "regions"]

TEXTS = {
    "word": "motorbike",
    "sentence": "A cat sleeps on the warm windowsill.",
    "long": "the old harbour at dawn, fishing boats, gulls above the water and a red lighthouse on the pier; " * 9,
    "capitals": "Two DOGS playing in the SNOW!",
    "accents": "a photo of a café in Zürich, naïve façade",
    "other scripts": "山の上の白い雲, красная машина, قطة صغيرة",
    "emoji": "a bird 🐦 and a 👩‍👩‍👧 family",
    "numbers": "3 x 7 = 21; 1,000,000.50 euros on 2026-11-25",
    "code": "def f(x): return {'a': x[0] ** 2}",
    "whitespace": "  spaces   around\tand\nwithin  ",
    "one letter": "a",
}


@dataclass(frozen=True)
class Golden:
    """One golden input.

    Attributes:
        name: "text: word", "image: noise", ...
        kind: inputs of one kind share a tolerance. "resized image" depends on who resizes, "image" has the model's
            own size.
        prompt: name of the model's prompt that it is embedded with, None for the model's default.
        role: "query" or "document" where it is embedded by the call for these, which chooses the prompt.
    """

    name: str
    kind: Kind
    item: Item
    prompt: str | None = None
    role: Role | None = None

    @property
    def sha256(self) -> str:
        """Of the very bytes of the input."""
        return item_hash(self.item)


def golden_inputs(
    towers: Sequence[frozenset[Modality]], side: int | None, prompts: Sequence[str] = (), roles: Sequence[Role] = ()
) -> list[Golden]:
    """The golden inputs that a model reads.

    Args:
        towers: what each of its towers reads together in one item.
        side: the side in pixels of its images, None where they keep their shape.
        prompts: names of its prompts; two texts are embedded with each. roles: and two by the call for each of these.
    """
    found = [Golden(f"text: {name}", "text", Item(text=text)) for name, text in TEXTS.items()]
    for prompt in prompts:
        found += [Golden(f"text: {n} ({prompt})", "text", Item(text=TEXTS[n]), prompt) for n in ("word", "sentence")]
    for role in roles:
        found += [
            Golden(f"text: {n} (as {role})", "text", Item(text=TEXTS[n]), None, role) for n in ("word", "sentence")
        ]
    if side:
        found += [Golden(f"image: {n}", "image", Item(image=make(side, side))) for n, make in IMAGES.items()]
    found += [Golden(f"image: {n}", "resized image", Item(image=make())) for n, make in SHAPES.items()]
    found.append(Golden("image and text", "resized image", Item(image=_waves(96, 128), text=TEXTS["sentence"])))
    found += [Golden(f"audio: {n}", "audio", Item(audio=Waveform(make(), RATE))) for n, make in RECORDINGS.items()]
    video = np.stack([_checkers(96, 128, shift) for shift in range(0, 64, 8)])
    found.append(Golden("video: moving checkers", "video", Item(video=video)))
    found += [Golden(f"regions: {n}", "regions", Item(image=_waves(96, 128), regions=r())) for n, r in REGIONS.items()]
    return [golden for golden in found if any(golden.item.modalities <= reads for reads in towers)]


def item_hash(item: Item) -> str:
    """sha256 over an item's text, arrays (with their shapes) and regions."""
    digest = hashlib.sha256()
    audio = (item.audio.samples, item.audio.rate) if isinstance(item.audio, Waveform) else (item.audio,)
    for value in (item.text, item.image, item.video, *audio, *item.regions):
        if value is None:
            digest.update(b"-")
        elif isinstance(value, str):
            digest.update(value.encode())
        elif isinstance(value, Mask):
            digest.update(_array_bytes(value.pixels))
        elif isinstance(value, np.ndarray):
            digest.update(_array_bytes(value))
        else:
            digest.update(repr(value).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _array_bytes(array: np.ndarray) -> bytes:
    return f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()


# --------------------------------------------------------------------------------- images (height, width, 3), uint8


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.mgrid[0:height, 0:width].astype(np.int64)


def _rgb(*channels: np.ndarray) -> np.ndarray:
    return np.stack([channel.astype(np.uint8) for channel in channels], axis=2)


def _gradient(height: int, width: int) -> np.ndarray:
    y, x = _grid(height, width)
    return _rgb(
        x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) * 255 // max(1, width + height - 2)
    )


def _checkers(height: int, width: int, shift: int = 0) -> np.ndarray:
    y, x = _grid(height, width)
    odd = ((x + shift) // 8 + y // 8) % 2
    return _rgb(40 + 200 * odd, 220 - 160 * odd, 30 + 60 * odd)


def _noise(height: int, width: int) -> np.ndarray:
    """Knuth's linear congruential generator; its top byte."""
    with np.errstate(over="ignore"):
        state = np.arange(height * width * 3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for _ in range(3):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            state ^= state >> np.uint64(29)
    return (state >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3)


def _waves(height: int, width: int) -> np.ndarray:
    """Rings around two centres, by integer squares only."""
    y, x = _grid(height, width)
    first = ((x - width // 3) ** 2 + (y - height // 2) ** 2) // 7 % 256
    second = ((x - width * 2 // 3) ** 2 + (y - height // 4) ** 2) // 11 % 256
    return _rgb(first, second, (first + second) // 2)


def _alpha(height: int, width: int) -> np.ndarray:
    y, x = _grid(height, width)
    return np.concatenate([_checkers(height, width), ((x * y) % 256).astype(np.uint8)[:, :, None]], axis=2)


IMAGES: dict[str, Callable[[int, int], np.ndarray]] = {
    "gradient": _gradient,
    "checkers": _checkers,
    "noise": _noise,
    "waves": _waves,
    "black": lambda height, width: np.zeros((height, width, 3), np.uint8),
}
SHAPES: dict[str, Callable[[], np.ndarray]] = {
    "gradient 640x480": lambda: _gradient(480, 640),
    "waves 400x600": lambda: _waves(600, 400),
    "checkers 320x40": lambda: _checkers(40, 320),
    "noise 31x17": lambda: _noise(17, 31),
    "grey waves": lambda: _waves(300, 300)[:, :, 0],
    "see-through checkers": lambda: _alpha(200, 260),
}

# ------------------------------------------------------------------------- recordings (samples,), float32 -1 to 1, 16 kHz

RATE = 16_000


@cache
def _sines() -> np.ndarray:
    """One period in 1,024 steps and 15 bits, by Bhaskara's rational approximation: integers, so the same anywhere."""
    step = np.arange(512, dtype=np.int64)
    hill = step * (512 - step)
    half = 4 * hill * 32767 // (5 * 512 * 512 // 4 - hill)
    return np.concatenate([half, -half])


def _wave(phase: np.ndarray) -> np.ndarray:
    return (_sines()[phase // 65536 % 1024] / 32768).astype(np.float32)


def _tone(hertz: int, seconds: int = 1) -> np.ndarray:
    return _wave(np.arange(RATE * seconds, dtype=np.int64) * (hertz * 1024 * 65536 // RATE))


def _chirp() -> np.ndarray:
    n = np.arange(2 * RATE, dtype=np.int64)
    return _wave(n * (200 * 1024 * 65536 // RATE) + n * n * 1024 * 16 // RATE)


RECORDINGS: dict[str, Callable[[], np.ndarray]] = {
    "tone 440 Hz": lambda: _tone(440),
    "rising chirp": _chirp,
    "noise": lambda: ((_noise(1, RATE).reshape(-1)[:RATE].astype(np.float32) - 128) / 128).astype(np.float32),
}


def _disc() -> Mask:
    y, x = _grid(96, 128)
    return Mask((x - 64) ** 2 + (y - 48) ** 2 < 900)


REGIONS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "box": lambda: (Box(16, 8, 80, 72),),
    "point": lambda: (Point(64, 48),),
    "mask": lambda: (_disc(),),
    "box and point": lambda: (Box(0, 0, 32, 32), Point(100, 80)),
}
