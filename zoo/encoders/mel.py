"""Log-mel spectrograms as transformers' feature extractors compute them, in torch, where the model is.

The banks of filters are transformers' own; tests hold the spectrograms to its extractors.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

_FLOOR = 1e-10


def exact(samples: Tensor) -> Tensor:
    """In float64, as transformers computes CLAP's and AST's: quiet bands are far below the loud ones. Metal has none."""
    return samples.float() if samples.device.type == "mps" else samples.double()


@cache
def _filters(bins: int, mels: int, low: float, high: float, rate: int, norm: str | None, scale: str) -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=bins,
        num_mel_filters=mels,
        min_frequency=low,
        max_frequency=high,
        sampling_rate=rate,
        norm=norm,
        mel_scale=scale,
        triangularize_in_mel_space=scale == "kaldi",
    )
    return torch.from_numpy(bank)


def filters(
    samples: Tensor, bins: int, mels: int, low: float, high: float, rate: int, norm: str | None, scale: str
) -> Tensor:
    """A bank of filters `(bins, mels)` in the type and on the device of `samples`."""
    return _filters(bins, mels, low, high, rate, norm, scale).to(samples)


def hann(size: int, like: Tensor, periodic: bool = True) -> Tensor:
    """A Hann window `(size,)` in the type and on the device of `like`."""
    return torch.hann_window(size, periodic=periodic, dtype=like.dtype, device=like.device)


def frames_at(samples: Tensor, places: Tensor, size: int, hop: int) -> Tensor:
    """Frames `(k, size)` of a waveform `(n,)` around `places * hop`, mirrored at its ends, as a centred STFT takes them."""
    index = (places * hop - size // 2)[:, None] + torch.arange(size, device=samples.device)
    index = index.abs()
    return samples[torch.where(index >= len(samples), 2 * (len(samples) - 1) - index, index)]


def frames_from(samples: Tensor, start: int, count: int, size: int, hop: int) -> Tensor:
    """`frames_at` of `count` places from `start` on, many times as fast; of a long waveform no more is looked at."""
    first, last = start * hop - size // 2, (start + count - 1) * hop - size // 2 + size
    part = samples[max(first, 0) : last]
    left, right = max(-first, 0), max(last - len(samples), 0)
    if left or right:
        part = F.pad(part[None], (left, right), mode="reflect")[0]
    return part.unfold(0, size, hop)


def decibels(frames: Tensor, bank: Tensor) -> Tensor:
    """Log-mel `(frames, mels)` in dB of windowed frames `(frames, size)` (CLAP)."""
    return 10 * (_power(frames) @ bank).clamp(min=_FLOOR).log10()


def _power(frames: Tensor, size: int | None = None) -> Tensor:
    """Of frames in float64, in float32: what is added up in a transform wants the digits, and its squares do not."""
    spectrum = torch.fft.rfft(frames, n=size).to(torch.complex64)
    return spectrum.real.square() + spectrum.imag.square()


def kaldi(samples: Tensor, mels: int, rate: int, most: int) -> Tensor:
    """Kaldi's filter-bank energies of a waveform `(n,)` from 400 samples, at most so many frames: `(frames, mels)` (AST)."""
    frames = exact(samples).unfold(0, 400, 160)[:most]
    frames = frames - frames.mean(-1, keepdim=True)
    frames = torch.cat([frames[:, :1] * (1 - 0.97), frames[:, 1:] - 0.97 * frames[:, :-1]], -1)
    power = _power(frames * hann(400, frames, periodic=False), 512)
    bank = filters(power, 257, mels, 20, rate // 2, rate, None, "kaldi")
    return (power @ bank).clamp(min=1.192092955078125e-07).log()


def whisper(samples: Tensor, mels: int, rate: int, size: int, hop: int) -> Tensor:
    """Whisper's log-mel `(k, mels, frames)` of waveforms `(k, n)`, each scaled by its loudest; in float32, as there.

    The silence behind the longest of them, up to 30 s, is not transformed: what comes out for it is known.
    """
    heard = samples.abs().amax(0).nonzero()
    end = int(heard[-1]) + 1 + size if len(heard) else size  # from here on a frame sees silence alone
    frames, samples = samples.shape[-1] // hop, samples[:, : -(-end // hop) * hop]
    stft = torch.stft(samples, size, hop, window=hann(size, samples), return_complex=True)
    power = (stft[..., :-1].abs() ** 2).contiguous()
    mel = filters(samples, 1 + size // 2, mels, 0.0, 8000.0, rate, "slaney", "slaney").T @ power
    mel = F.pad(mel.clamp(min=_FLOOR), (0, frames - mel.shape[-1]), value=_FLOOR).log10()
    return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def shrunk(total: int, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which two of `total` frames each of `count` lies between, and how far: bilinear interpolation without aligned corners, in
    float32 as torch's own.
    """
    scale = torch.tensor(total, dtype=torch.float32) / count
    place = ((torch.arange(count, dtype=torch.float32) + 0.5) * scale - 0.5).clamp(min=0).to(device)
    first = place.floor().long().clamp(max=total - 1)
    return first, (first + 1).clamp(max=total - 1), place - first


def filled(clip: Tensor, length: int, how: str) -> Tensor:
    """A shorter clip `(n,)` as `(length,)`: with silence ("pad"), repeated as often as it fits and then silence ("repeatpad"), or
    repeated to the end ("repeat").
    """
    times = length // len(clip)
    if len(clip) < length and how != "pad":
        clip = clip.repeat(times + (how == "repeat"))[:length]
    return F.pad(clip, (0, length - len(clip)))
