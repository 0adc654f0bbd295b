"""Log-mel spectrograms as transformers' feature extractors compute them, in torch, where the model is.

The banks of filters are transformers' own; tests hold the spectrograms to its extractors.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_FLOOR = 1e-10  # of energies before the logarithm, as transformers' extractors: -100 dB
_AT_ONCE = 2**19  # bytes of frames: with what becomes of them they stay in a processor's second cache
_FILTERS = 16  # of a group: narrow ones leave out more of the bins, and cost more products


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


class Bank(NamedTuple):
    """A bank of filters in groups of neighbours, without the bins that none of a group hears.

    Attributes:
        first, last: the bins from and to before which it hears. groups: which of these `(bins, mels)`, and their weights, float32.
    """

    first: int
    last: int
    groups: tuple[tuple[slice, Tensor], ...]

    def __call__(self, power: Tensor) -> Tensor:
        """Energies `(k, mels)` of powers `(k, last - first)`."""
        return torch.cat([power[:, bins] @ weights for bins, weights in self.groups], 1)


@cache
def bank(
    device: torch.device, bins: int, mels: int, low: float, high: float, rate: int, norm: str | None, scale: str
) -> Bank:
    """The bank that `filters` gives, for `energies`; made once for a device."""
    together = _FILTERS if device.type == "cpu" else mels

    def heard(filters: Tensor) -> slice:
        found = filters.any(1).nonzero().flatten().tolist() or [0]
        return slice(found[0], found[-1] + 1)

    with torch.inference_mode(False):  # whoever asks next may train
        whole = _filters(bins, mels, low, high, rate, norm, scale)
        used = heard(whole)
        whole = whole[used].float()
        parts = [(heard(part), part) for part in whole.split(together, 1)]
        groups = tuple((part, weights[part].contiguous().to(device)) for part, weights in parts)
    return Bank(used.start, used.stop, groups)


def hann(size: int, like: Tensor, periodic: bool = True) -> Tensor:
    """A Hann window `(size,)` in the type and on the device of `like`."""
    return torch.hann_window(size, periodic=periodic, dtype=like.dtype, device=like.device)


def energies(frames: Tensor, window: Tensor, heard: Bank, less: Tensor | None = None) -> Tensor:
    """Energies, float32 `(k, mels)`, of frames `(k, size)`.

    The transform is of the window's type. From there on it is float32: what is added up in a transform wants the digits, and its
    squares do not.

    Args:
        window: `(size,)`, whose type is the transform's too. heard: a bank of `size // 2 + 1` bins. less: `(k, 1)`, taken from a frame before it is windowed.
    """
    on_cpu = frames.device.type == "cpu"
    step = max(_AT_ONCE // window.nbytes, 1) if on_cpu else len(frames)
    found = []
    for start in range(0, len(frames), step):
        part = frames[start : start + step].to(window.dtype)
        part = part * window if less is None else (part - less[start : start + step]) * window
        spectrum = torch.view_as_real(torch.fft.rfft(part))[:, heard.first : heard.last]
        real, imaginary = spectrum[..., 0].float(), spectrum[..., 1].float()
        found.append(torch.addcmul(real.square(), imaginary, imaginary))
    return heard(torch.cat(found))


def frames_at(samples: Tensor, places: Tensor, size: int, hop: int) -> Tensor:
    """Frames `(k, size)` of a waveform `(n,)` around `places * hop`, mirrored at its ends, as a centred STFT takes them."""
    index = (places * hop - size // 2)[:, None] + torch.arange(size, device=samples.device)
    index = index.abs()
    return samples[torch.where(index >= len(samples), 2 * (len(samples) - 1) - index, index)]


def part_of(samples: Tensor, start: int, count: int, size: int, hop: int) -> Tensor:
    """What `count` frames of `frames_at` from the place `start` on are made of: `unfold(0, size, hop)` gives those, without a copy.

    Of a long waveform no more is looked at.
    """
    first, last = start * hop - size // 2, (start + count - 1) * hop - size // 2 + size
    return mirrored(samples[max(first, 0) : last], max(-first, 0), max(last - len(samples), 0))


def mirrored(samples: Tensor, left: int, right: int) -> Tensor:
    """Samples `(..., n)` with so many before and after them, mirrored at the first and the last one: `F.pad`, five times as fast."""
    sides = samples[..., 1 : left + 1].flip(-1), samples[..., samples.shape[-1] - right - 1 : -1].flip(-1)
    return torch.cat([sides[0], samples, sides[1]], -1) if left or right else samples


def decibels(energies: Tensor) -> Tensor:
    """In dB (CLAP)."""
    return 10 * energies.clamp(min=_FLOOR).log10()


def kaldi(samples: Tensor, mels: int, rate: int, most: int) -> Tensor:
    """Kaldi's filter-bank energies of a waveform `(n,)` from 400 samples, at most so many frames: `(frames, mels)` (AST).

    A frame is less its mean, then each sample less 0.97 of the one before. Both are sums, so that the second comes first, for all
    frames together. Where they differ is a frame's first sample, which the window takes away.
    """
    # Kaldi's defaults at 16 kHz: frames of 25 ms every 10 ms, in a transform of the next power of two.
    size, hop, transformed, share = 400, 160, 512, 0.97
    samples = exact(samples)
    count = min((len(samples) - size) // hop + 1, most)
    means = samples.unfold(0, size, hop)[:count].mean(-1, keepdim=True)
    # After its 400 samples a frame has what comes next, or zeros, where the window is 0.
    raised = samples.new_zeros(max((count - 1) * hop + transformed, len(samples) - 1))
    raised[: len(samples) - 1] = torch.sub(samples[1:], samples[:-1], alpha=share)
    window = F.pad(hann(size, samples, periodic=False)[1:], (0, transformed - size + 1))
    heard = bank(samples.device, transformed // 2 + 1, mels, 20, rate // 2, rate, None, "kaldi")
    power = energies(raised.unfold(0, transformed, hop)[:count], window, heard, (1 - share) * means)
    # Kaldi's floor, the epsilon of float32.
    return power.clamp(min=1.192092955078125e-07).log()


def whisper(samples: Tensor, mels: int, rate: int, size: int, hop: int) -> Tensor:
    """Whisper's log-mel `(k, mels, frames)` of waveforms `(k, n)`, each scaled by its loudest; in float32, as there.

    The silence after the longest of them, up to 30 s, is not transformed: what comes out for it is known.
    """
    count = frames = samples.shape[-1] // hop
    if samples.shape[-1] == frames * hop:
        steps = samples.unflatten(1, (frames, hop))
        loud = torch.maximum(steps.amax((0, 2)), -steps.amin((0, 2))).nonzero()
        # Those that begin within the last loud step, and as many as reach back to it.
        count = min((int(loud[-1]) + 1 if len(loud) else 0) - (-size // hop), frames)
        samples = samples[:, : count * hop]
    heard, window = (
        bank(samples.device, 1 + size // 2, mels, 0.0, 8000.0, rate, "slaney", "slaney"),
        hann(size, samples),
    )
    rows = mirrored(samples, size // 2, size // 2)
    power = torch.stack([energies(row.unfold(0, size, hop)[:count], window, heard) for row in rows])
    # -10 is log10 of the floor: what silence would have given.
    mel = F.pad(power.clamp(min=_FLOOR).log10().mT, (0, frames - count), value=-10.0)
    # As Whisper: nothing more than 8 powers of ten (80 dB) below the loudest, then about -1..1.
    return torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0).add_(4.0).div_(4.0)


def shrunk(total: int, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which two of `total` frames each of `count` lies between, and how far: bilinear interpolation without aligned corners, in
    float32 as torch's own.
    """
    scale = torch.tensor(total, dtype=torch.float32) / count
    # Middles of frames on middles of frames: (i + 1/2) · total / count - 1/2.
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
