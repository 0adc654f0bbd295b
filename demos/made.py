"""Recordings and clips to search at first, made by program: nobody's work, and no file of the package."""

import io
import math
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.files import writing
from zoo.inputs.image import load_pixels

from .gallery import Picture, sample_pictures

if TYPE_CHECKING:
    import numpy as np

RATE = 16_000  # Hz
_SECONDS = 2.0
_FRAMES, _FPS, _SIDE = 16, 8, 192
_CLIPS = ("coffee.png", "chelsea.png", "rocket.jpg")


def made_media(modalities: Collection[str], folder: Path) -> list[Picture]:
    """Sounds and clips of those modalities, as files in a folder: WAV, and MP4 where PyAV is installed.

    Args:
        modalities: "audio" gives sounds, "video" clips that pan over the sample images.
    """
    found: list[Picture] = []
    if "audio" in modalities:
        for name, samples in _sounds().items():
            path = folder / f"{name.replace(' ', '-')}.wav"
            with writing(path, durable=False) as part:
                part.write_bytes(_wav(samples))
            found.append(Picture(path, name))
    if "video" in modalities and find_spec("av") is not None:
        for picture in sample_pictures():
            if picture.path.name in _CLIPS:
                path = folder / f"{picture.path.stem}.mp4"
                with writing(path, durable=False) as part:
                    part.write_bytes(_panned(load_pixels(picture.path)))
                found.append(Picture(path, f"{picture.caption}, the camera pans"))
    return found


def _sounds() -> dict[str, "np.ndarray"]:
    """Name → samples in -1..1 `(n,)`, the same on every machine."""
    import numpy as np

    time = np.arange(int(_SECONDS * RATE)) / RATE
    luck = np.random.default_rng(0)
    noise = luck.standard_normal(len(time))
    spectrum = np.fft.rfft(noise)
    frequency = np.fft.rfftfreq(len(time), 1 / RATE)
    rumble = np.fft.irfft(spectrum / (1 + (frequency / 120) ** 2), len(time))
    hiss = np.fft.irfft(spectrum * (frequency > 2000), len(time))
    bell = sum(np.sin(2 * math.pi * 520 * ratio * time) / ratio for ratio in (1.0, 2.0, 2.76, 5.4)) * np.exp(
        -2.5 * time
    )
    clicks = np.exp(-((time * 2) % 1) * 90) * np.sin(2 * math.pi * 1800 * time)
    turning = np.cumsum(700 + 300 * np.sin(2 * math.pi * 0.7 * time)) / RATE
    rising = np.cumsum(300 + 900 * time / _SECONDS) / RATE
    named = {
        "a bell that fades": bell,
        "a ticking clock": clicks,
        "a siren": np.sin(2 * math.pi * turning),
        "a whistle that rises": np.sin(2 * math.pi * rising),
        "hissing, like rain": hiss,
        "rumbling, like thunder": rumble,
    }
    return {name: (0.6 * samples / np.abs(samples).max()).astype(np.float32) for name, samples in named.items()}


def _wav(samples: "np.ndarray") -> bytes:
    import wave

    import numpy as np

    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes((samples * 32767).astype(np.int16).tobytes())
    return file.getvalue()


def _panned(pixels: "np.ndarray") -> bytes:
    """An MP4 of a square window that moves over an image `(height, width, 3)` from the left to the right."""
    import av
    import numpy as np
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = _SIDE / min(height, width)
    image = Image.fromarray(pixels).resize((max(round(width * scale), _SIDE), max(round(height * scale), _SIDE)))
    whole, file = np.asarray(image), io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS)
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for step in range(_FRAMES):
            left = round((whole.shape[1] - _SIDE) * step / (_FRAMES - 1))
            frame = np.ascontiguousarray(whole[:_SIDE, left : left + _SIDE])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
