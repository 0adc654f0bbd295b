"""Audio: a file of each kind decoded, mixed and resampled, and log-mel spectrograms, side by side with other libraries.

Decoding counts what the processor spends, in the process that decodes too; spectrograms count the time.

librosa and torchaudio are taken where they are installed (pip install librosa torchaudio); the zoo needs neither.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.common import machine, processor_seconds, rounds, speed_rows, table

SECONDS, RATE, WANTED = 60, 44_100, 16_000
# Name → (libsndfile's format and subtype, or FFmpeg's container and codec).
SNDFILE = {"WAV, 16 bits": ("WAV", "PCM_16"), "FLAC": ("FLAC", None), "Ogg Vorbis": ("OGG", "VORBIS")}
FFMPEG = {"MP3": ("mp3", "libmp3lame"), "M4A, AAC": ("ipod", "aac"), "WebM, Opus": ("webm", "libopus")}


def _signal(seconds: float, rate: int) -> np.ndarray:
    """Two channels of tones and noise, float32 `(n, 2)`."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    left = 0.3 * np.sin(2 * np.pi * 330 * time) + 0.05 * noise
    return np.stack([left, 0.5 * left + 0.1 * np.sin(2 * np.pi * (100 + 20 * time) * time)], 1).astype(np.float32)


def _write(folder: Path) -> dict[str, Path]:
    import av
    import soundfile

    found = {}
    stereo = _signal(SECONDS, RATE)
    for name, (form, subtype) in SNDFILE.items():
        found[name] = folder / f"{form}.bin"
        with soundfile.SoundFile(found[name], "w", RATE, 2, format=form, subtype=subtype) as file:
            for start in range(
                0, len(stereo), RATE
            ):  # libsndfile's Vorbis ends the program where it gets a minute at once
                file.write(stereo[start : start + RATE])
    stereo = _signal(SECONDS, 48_000)
    for name, (form, codec) in FFMPEG.items():
        found[name] = folder / f"{form}.bin"
        with av.open(found[name], "w", format=form) as container:
            stream = container.add_stream(codec, rate=48_000, layout="stereo")
            stream.bit_rate = 128_000
            size, resampler = stream.codec_context.frame_size or 1024, av.AudioResampler("fltp", "stereo", 48_000)
            if stream.codec_context.format is not None:
                resampler = av.AudioResampler(stream.codec_context.format.name, "stereo", 48_000)
            for start in range(0, len(stereo), size):
                block = np.ascontiguousarray(stereo[start : start + size].T)
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts = 48_000, start
                for ready in resampler.resample(frame):
                    container.mux(stream.encode(ready))
            container.mux(stream.encode())
    return found


def _plain_soundfile(path: Path) -> np.ndarray:
    """The file at once, in the program itself: as people write it."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(1), rate, WANTED, quality="HQ")


def _plain_av(path: Path) -> np.ndarray:
    import av
    import soxr

    with av.open(path) as container:
        container.streams.audio[0].codec_context.thread_count = 1
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return soxr.resample(np.concatenate(frames, 1).mean(0).astype(np.float32), 48_000, WANTED, quality="HQ")


def _decoding(files: dict[str, Path]) -> None:
    from zoo.inputs.audio import _decoders, load_audio

    rows = []
    for name, path in files.items():
        plain = _plain_soundfile if name in SNDFILE else _plain_av
        ways: dict[str, Callable[[], object]] = {
            "plain loop": lambda path=path, plain=plain: plain(path),
            "zoo": lambda path=path: load_audio(path, rate=WANTED),
        }
        if find_spec("librosa"):
            import librosa

            if name in SNDFILE:
                ways["librosa"] = lambda path=path: librosa.load(path, sr=WANTED, res_type="soxr_hq")
        found, expected = load_audio(path, rate=WANTED).samples, plain(path)
        count = min(len(found), len(expected))
        agree = float(np.abs(found[:count] - expected[:count]).max())
        times = rounds(ways, 9, lambda: processor_seconds(_decoders().pids))
        for way, seconds, ratio in speed_rows(times, SECONDS, "plain loop"):
            rows.append([name, way, seconds, ratio, f"{agree:.0e}" if way == "zoo" else ""])
    table(
        f"{SECONDS} s of stereo to mono at {WANTED:,} Hz, one file at a time, by the processor ({machine()})",
        ["file", "by", "seconds of audio a second of the processor", "ratio", "largest difference"],
        rows,
    )


def _mel_ways(kind: str, clip: np.ndarray) -> dict[str, Callable[[], object]]:
    """Who computes the spectrogram of one clip, transformers' extractor first."""
    import torch
    import transformers

    wave = torch.from_numpy(clip)
    if kind == "CLAP":
        from zoo.encoders.clap import ClapAudio

        settings = {"frequency_min": 50, "truncation": "rand_trunc"}
        shape = {"depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16, "hidden_size": 32}
        ours = ClapAudio(shape, settings)._spectrograms
        theirs, rate, size, hop, mels = transformers.ClapFeatureExtractor(**settings), 48_000, 1024, 480, 64
    elif kind == "Whisper":
        from zoo.encoders import mel

        theirs, rate, size, hop, mels = transformers.WhisperFeatureExtractor(), 16_000, 400, 160, 80
        padded = torch.nn.functional.pad(wave, (0, 480_000 - len(wave)))[None]

        def ours(_: torch.Tensor) -> torch.Tensor:
            return mel.whisper(padded, mels, rate, size, hop)
    else:
        from zoo.encoders import mel

        theirs, rate, size, hop, mels = transformers.ASTFeatureExtractor(), 16_000, 400, 160, 128

        def ours(samples: torch.Tensor) -> torch.Tensor:
            return mel.kaldi(samples, mels, rate, 1024)

    ways: dict[str, Callable[[], object]] = {
        "transformers": lambda: theirs(clip, sampling_rate=rate),
        "zoo": lambda: ours(wave),
    }
    if find_spec("torchaudio"):
        if kind == "AST":
            from torchaudio.compliance import kaldi

            ways["torchaudio"] = lambda: kaldi.fbank(wave[None], window_type="hanning", num_mel_bins=mels)
        else:
            from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

            banks, decibels = MelSpectrogram(rate, size, hop_length=hop, n_mels=mels), AmplitudeToDB()
            ways["torchaudio (float32)"] = lambda: decibels(banks(wave))
    if find_spec("librosa") and kind != "AST":
        import librosa

        ways["librosa (float32)"] = lambda: librosa.power_to_db(
            librosa.feature.melspectrogram(y=clip, sr=rate, n_fft=size, hop_length=hop, n_mels=mels)
        )
    return ways


def _spectrograms() -> None:
    import torch

    torch.set_num_threads(1)
    rows = []
    for kind, rate in (("CLAP", 48_000), ("AST", 16_000), ("Whisper", 16_000)):
        clip = _signal(10, rate)[:, 0].copy()
        with torch.no_grad():
            times = rounds(_mel_ways(kind, clip), 40)
        rows += [[kind, *row] for row in speed_rows(times, 10, "transformers")]
    table(
        f"Log-mel spectrograms of clips of ten seconds, one thread ({machine()})",
        ["as", "by", "seconds of audio a second", "ratio"],
        rows,
    )


def main() -> None:
    """Prints two tables."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        _decoding(_write(Path(folder)))
    _spectrograms()


if __name__ == "__main__":
    sys.exit(main())
