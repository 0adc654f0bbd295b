"""Audio files of every kind, made here: signals whose every sample is known, and encoders of libsndfile and FFmpeg."""

import io
import struct
from fractions import Fraction

import numpy as np


def tones(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """float32 `(n,)`: two tones and a rising one, so that no two places are alike and codecs like it."""
    time = np.arange(round(seconds * rate)) / rate
    rising = np.sin(2 * np.pi * (150 + 90 * time) * time + seed)
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * rising).astype(np.float32)


def sndfile(samples: np.ndarray, rate: int, format: str = "WAV", subtype: str | None = None) -> bytes:
    """Samples `(n,)` or `(n, channels)` as libsndfile writes them."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def ffmpeg(
    samples: np.ndarray,
    rate: int,
    format: str,
    codec: str,
    *,
    layout: str = "stereo",
    video: str = "",
    delay: float = 0.0,
) -> bytes:
    """Samples `(n,)`, the same in every channel, as FFmpeg writes them, beside a video of this codec, and `delay` s later than it."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        if video:
            moving = container.add_stream(video, rate=25)
            moving.width, moving.height, moving.pix_fmt = 64, 48, "yuv420p"
        heard = container.add_stream(codec, rate=rate, layout=layout)
        heard.bit_rate = 128_000
        if video:
            for index in range(int(25 * len(samples) / rate)):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index % 255, np.uint8), format="rgb24")
                frame.pts = index
                container.mux(moving.encode(frame))
            container.mux(moving.encode())
        if not heard.codec_context.is_open:
            heard.codec_context.open()
        size = heard.codec_context.frame_size or 1024
        resampler = av.AudioResampler(heard.codec_context.format.name, layout, rate)
        for start in range(0, len(samples), size):
            block = np.stack([samples[start : start + size]] * heard.codec_context.layout.nb_channels)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start + round(delay * rate), Fraction(1, rate)
            for converted in resampler.resample(frame):
                container.mux(heard.encode(converted))
        container.mux(heard.encode())
    return file.getvalue()


def wav(
    data: bytes, *, channels: int = 1, rate: int = 16000, bits: int = 16, tag: int = 1, size: int | None = None
) -> bytes:
    """A WAV file with any head, also one that is not true; `size` is what it says of its data."""
    size = len(data) if size is None else size
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate & 0xFFFFFFFF, (rate * block) & 0xFFFFFFFF, block & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", (len(body) + size - len(data)) & 0xFFFFFFFF) + body
