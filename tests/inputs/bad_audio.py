"""Bad and odd audio, each with what must become of it: the code of a named error, or so many seconds that are heard."""

import os
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from tests.inputs.audio_files import ffmpeg, sndfile, tones, wav

RATE = 16_000
Kind = tuple[str | float, Callable[[Path], Any]]


def pcm(seconds: float = 1.0, channels: int = 1, rate: int = RATE) -> bytes:
    """16-bit samples, the same in every channel."""
    return np.repeat((tones(seconds, rate) * 32767).astype("<i2"), channels).tobytes()


def floats(*values: float) -> bytes:
    """A float WAV of a second whose first samples are these."""
    samples = tones(1, RATE)
    samples[: len(values)] = values
    return wav(samples.astype("<f4").tobytes(), bits=32, tag=3)


@cache
def coded(format: str, codec: str, video: str = "") -> bytes:
    """Two seconds as FFmpeg writes them."""
    return ffmpeg(tones(2, 48_000), 48_000, format, codec, video=video)


@cache
def flac() -> bytes:
    """Two seconds."""
    return sndfile(tones(2, RATE), RATE, "FLAC")


def chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WAV of a second with other chunks before its samples."""
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE"
    for name, content in [(b"fmt ", form), *chunks, (b"data", pcm())]:
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def written(place: Path, name: str, content: bytes) -> Path:
    (place / name).write_bytes(content)
    return place / name


def linked(place: Path) -> Path:
    (place / "link.wav").symlink_to(place / "gone.wav")
    return place / "link.wav"


def pipe(place: Path) -> Path:
    os.mkfifo(place / "pipe.wav")
    return place / "pipe.wav"


def without_moov(content: bytes) -> bytes:
    """An MP4 as a recorder leaves it that was switched off: its boxes up to the samples."""
    return content[: content.index(b"moov") - 4]


def of(content: bytes) -> Callable[[Path], bytes]:
    return lambda place: content


def wave(samples: Any, rate: Any = RATE) -> Callable[[Path], zoo.Item]:
    return lambda place: zoo.Item(audio=zoo.Waveform(samples, rate))


def heard(value: Any) -> Callable[[Path], zoo.Item]:
    return lambda place: zoo.Item(audio=value)


KINDS: dict[str, Kind] = {
    # What is no audio.
    "zero bytes": ("not-media", heard(b"")),
    "a text": ("not-media", heard(b"a bark")),
    "a web page": ("not-media", heard(b"<!doctype html><p>404")),
    "an image": ("not-media", heard(b"\x89PNG\r\n\x1a\n" + bytes(64))),
    "a PDF": ("not-media", heard(b"%PDF-1.7\n")),
    "a playlist": ("not-media", heard(b"#EXTM3U\nhttp://example.org/a.ts\n")),
    "FFmpeg's list of files": ("not-media", heard(b"ffconcat version 1.0\nfile /etc/passwd\n")),
    "an archive": ("not-media", heard(b"PK\x03\x04" + bytes(64))),
    "random bytes": ("not-media", heard(np.random.default_rng(0).bytes(4096)[1:])),
    "a file that is gone": ("missing-file", lambda place: zoo.Item(audio=place / "gone.wav")),
    "a folder": ("missing-file", lambda place: zoo.Item(audio=place)),
    "a link to nothing": ("missing-file", lambda place: zoo.Item(audio=linked(place))),
    "a pipe": ("missing-file", lambda place: zoo.Item(audio=pipe(place))),
    "a name in a string": ("unsupported-type", heard("bark.wav")),
    # WAV.
    "WAV without samples": ("invalid-audio", of(wav(b""))),
    "WAV of one sample": (1 / RATE, of(wav(pcm()[:2]))),
    "WAV of an odd number of bytes": (0.5, of(wav(pcm(0.5) + b"\1"))),
    "WAV cut off": (0.25, of(wav(pcm(), size=len(pcm()))[: 44 + len(pcm()) // 4])),
    "WAV whose head is cut off": ("corrupt-audio", of(wav(pcm())[:20])),
    "WAV that promises ten hours": (1.0, of(wav(pcm(), size=36_000 * RATE * 2 - 44))),
    "WAV written into a pipe": (1.0, of(wav(pcm(), size=0xFFFFFFFF))),
    "WAV with chunks before its samples": (1.0, of(chunked((b"LIST", b"INFOISFT\4\0\0\0abc\0"), (b"junk", bytes(33))))),
    "WAV of no channel": ("invalid-audio", of(wav(pcm(), channels=0))),
    "WAV of six channels": (1.0, of(wav(pcm(1, 6), channels=6))),
    "WAV of 65 channels": ("invalid-audio", of(wav(pcm(0.1, 65), channels=65))),
    "WAV at 0 Hz": ("corrupt-audio", of(wav(pcm(), rate=0))),
    "WAV at 16 Hz": ("invalid-audio", of(wav(pcm(), rate=16))),
    "WAV at 4 GHz": ("invalid-audio", of(wav(pcm(), rate=2_000_000_000))),
    "WAV at 1 kHz": (1.0, of(wav(pcm(1, rate=1000), rate=1000))),
    "WAV at 192 kHz": (0.5, of(wav(pcm(0.5, rate=192_000), rate=192_000))),
    "WAV at 768 kHz": (0.1, of(wav(pcm(0.1, rate=768_000), rate=768_000))),
    "WAV of 8 bits": (1.0, of(sndfile(tones(1, RATE), RATE, "WAV", "PCM_U8"))),
    "WAV of 24 bits": (1.0, of(sndfile(tones(1, RATE), RATE, "WAV", "PCM_24"))),
    "WAV of doubles": (1.0, of(sndfile(tones(1, RATE), RATE, "WAV", "DOUBLE"))),
    "WAV of A-law": (1.0, of(sndfile(tones(1, RATE), RATE, "WAV", "ALAW"))),
    "WAV of a codec that nobody knows": ("corrupt-audio", of(wav(pcm(), tag=0x7777))),
    "WAV of NaN": ("invalid-audio", of(floats(0.0, float("nan")))),
    "WAV of infinity": ("invalid-audio", of(floats(float("-inf")))),
    "WAV of floats that are integers": ("invalid-audio", of(floats(20_000.0, -30_000.0))),
    "WAV of silence": (1.0, of(wav(bytes(2 * RATE)))),
    "WAV called MP3": (1.0, lambda place: written(place, "a.mp3", wav(pcm()))),
    # Compressed.
    "FLAC cut off": ("corrupt-audio", of(flac()[: len(flac()) // 2])),
    "FLAC without frames": ("corrupt-audio", of(flac()[:80])),
    "FLAC that promises ten hours": ("audio-too-long", of(flac()[:18] + b"\x03\xe8\0\xf2" + b"\xff\xff\xff\xff" + flac()[26:])),
    "FLAC of other bytes": ("corrupt-audio", of(b"fLaC" + bytes(400))),
    "Ogg cut off": (7.656, of((lambda ogg: ogg[: len(ogg) // 2])(sndfile(tones(20, RATE), RATE, "OGG")))),
    "Ogg of other bytes": ("corrupt-audio", of(b"OggS" + bytes(400))),
    "MP3 cut off": (1.0, of(coded("mp3", "libmp3lame")[: len(coded("mp3", "libmp3lame")) // 2])),
    "MP3 of a tag alone": ("corrupt-audio", of(b"ID3\x04\0\0\0\0\0\x7f" + bytes(127))),
    "MP3 after a large tag": (2.0, of(b"ID3\x04\0\0\0\x06\0\0" + bytes(6 << 14) + coded("mp3", "libmp3lame"))),
    "M4A without its index": ("corrupt-audio", of(without_moov(coded("ipod", "aac")))),
    "M4A cut off": ("corrupt-audio", of(coded("ipod", "aac")[:3000])),
    "AAC cut off in a frame": (1.0, of(coded("adts", "aac")[: len(coded("adts", "aac")) // 2])),
    "WebM cut off": (1.0, of(coded("webm", "libopus")[: len(coded("webm", "libopus")) // 2])),
    "a video without an audio track": (
        "invalid-audio", lambda place: zoo.Item(audio=coded("mp4", "aac", "mpeg4").replace(b"soun", b"text").replace(b"mp4a", b"text")),
    ),
    "the audio track of a video": (2.0, lambda place: zoo.Item(audio=coded("mp4", "aac", "mpeg4"))),
    # Waveforms.
    "a bare array": ("unsupported-type", heard(tones(1, RATE))),
    "a list": ("unsupported-type", wave([0.0, 0.5])),
    "stereo as (2, n)": (1.0, wave(np.stack([tones(1, RATE)] * 2))),
    "stereo as (n, 2)": (1.0, wave(np.stack([tones(1, RATE)] * 2, 1))),
    "a square": ("invalid-audio", wave(np.zeros((40, 40), np.float32))),
    "zero samples": ("invalid-audio", wave(np.zeros(0, np.float32))),
    "NaN samples": ("invalid-audio", wave(np.full(RATE, np.nan, np.float32))),
    "integers of 64 bits": ("invalid-audio", wave(np.zeros(RATE, np.int64))),
    "a rate in kHz": ("invalid-audio", wave(tones(1, RATE), 16)),
    "a rate that is none": ("invalid-audio", wave(tones(1, RATE), None)),
    "a dict of datasets": (1.0, heard({"array": tones(1, RATE), "sampling_rate": RATE})),
    "a dict without a rate": ("unsupported-type", heard({"array": tones(1, RATE)})),
}  # fmt: skip
