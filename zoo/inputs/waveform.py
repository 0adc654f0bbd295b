"""Waveforms: samples that are in memory, with the rate that an array alone does not tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import InvalidAudioError, UnsupportedInputError

if TYPE_CHECKING:
    import numpy as np

MIN_RATE, MAX_RATE = 1_000, 768_000
"""Hz: below are mistakes of units (kHz), above is no converter that records audio."""
MAX_CHANNELS = 64
LOUDEST = 16.0
"""Full scale is 1. What is louder than this, 24 dB more, is no float audio: integers that were not scaled."""
# (zero, full scale) of each: a sample is (value - zero) / full scale, in -1..1.
_INTEGERS = {"int8": (0.0, 2.0**7), "uint8": (128.0, 2.0**7), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31)}


@dataclass(frozen=True, eq=False)
class Waveform:
    """Audio in memory.

    Args:
        samples: a numpy array or torch tensor `(n,)`, `(channels, n)` or `(n, channels)`. Of two axes the shorter one is the
            channels, at most 64; axes of one length are refused. Floats are in -1..1 (up to 16 is taken for loud, above
            for a mistake of scale); int8, uint8, int16 and int32 are scaled by their range. No NaN, no infinity.
        rate: samples a second (Hz), 1,000 to 768,000.

    Raises (when it is read, not when it is made):
        InvalidAudioError: shape, type, range or rate is another one, or there are no samples.
    """

    samples: Any
    rate: int

    def __repr__(self) -> str:
        kind, shape = getattr(self.samples, "dtype", type(self.samples).__name__), getattr(self.samples, "shape", None)
        return f"Waveform({kind} {tuple(shape) if isinstance(shape, tuple) else ''}, rate={self.rate})"


def as_waveform(value: Any) -> Waveform | None:
    """A `Waveform`, datasets' {"array", "sampling_rate"} or a decoder of torchcodec as a `Waveform`; None for anything else."""
    if isinstance(value, Waveform):
        return value
    if isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys():
        return Waveform(value["array"], value["sampling_rate"])
    if callable(getattr(value, "get_all_samples", None)):  # what datasets 4 gives for a column of audio
        samples = value.get_all_samples()
        return Waveform(samples.data, samples.sample_rate)
    return None


def check_rate(rate: Any, name: str) -> int:
    """The rate in Hz as an int; raises InvalidAudioError for what is none."""
    whole = not isinstance(rate, bool) and hasattr(rate, "__int__") and rate == rate and int(rate) == rate
    if not whole or not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidAudioError(
            f"{name} has the rate {rate!r}; expected samples a second, a whole number from {MIN_RATE:,} to {MAX_RATE:,} "
            "such as 16000, 44100 or 48000",
            what=name,
        )
    return int(rate)


def mono(waveform: Waveform, name: str, first: int = 0, count: int | None = None) -> "np.ndarray":
    """float32 `(n,)`: the mean of the channels of samples `first` to `first + count`, in -1..1.

    Raises:
        InvalidAudioError: no waveform, or none with samples. UnsupportedInputError: no array.
    """
    import numpy as np

    samples = waveform.samples
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    if not isinstance(samples, np.ndarray):
        raise UnsupportedInputError(
            f"a Waveform's samples are {type(samples).__name__}; pass a numpy array or torch tensor, such as "
            "np.asarray(samples, np.float32)",
            what=type(samples).__name__,
        )
    axis = _channel_axis(samples, name)
    part = slice(first, None if count is None else first + count)
    chosen = samples[part] if axis in (None, 1) else samples[:, part]
    # The mean of the channels, not their sum: full scale stays 1.
    return check_samples(scaled(chosen, name) if axis is None else scaled(chosen, name).mean(axis), name)


def length_of(waveform: Waveform, name: str) -> int:
    """How many samples a channel has; raises InvalidAudioError for a shape that is no waveform's."""
    axis = _channel_axis(waveform.samples, name)
    return int(waveform.samples.shape[1 if axis == 0 else 0])


def scaled(samples: "np.ndarray", name: str) -> "np.ndarray":
    """Samples of any usual type as float32, integers divided by their range."""
    import numpy as np

    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if str(samples.dtype) not in _INTEGERS:
        raise InvalidAudioError(
            f"{name} has samples of type {samples.dtype}, whose range says nothing; expected floats in -1..1, int16 or int32",
            what=name,
        )
    zero, full = _INTEGERS[str(samples.dtype)]
    return ((samples.astype(np.float64) - zero) / full).astype(np.float32)


def check_samples(samples: "np.ndarray", name: str) -> "np.ndarray":
    """The samples float32 `(n,)`; raises InvalidAudioError for NaN, infinity, and floats that are far out of -1..1."""
    import numpy as np

    loudest = float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))  # NaN where one is
    if not np.isfinite(loudest):
        place = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise InvalidAudioError(
            f"{name} has NaN or infinity, first at sample {place:,}; repair or cut the recording", what=name
        )
    if loudest > LOUDEST:
        raise InvalidAudioError(
            f"{name} has float samples up to {loudest:,.0f}, where full scale is 1; divide by the range (int16: 32768)",
            what=name,
        )
    return samples


def _channel_axis(samples: Any, name: str) -> int | None:
    """Which axis the channels are, None where there is one channel without an axis."""
    shape = tuple(getattr(samples, "shape", ()))
    if not hasattr(samples, "dtype"):
        raise UnsupportedInputError(
            f"a Waveform's samples are {type(samples).__name__}; pass a numpy array or torch tensor", what=name
        )
    if not all(shape):
        raise InvalidAudioError(f"{name} holds no samples (shape {shape})", what=name)
    if len(shape) == 1:
        return None
    if len(shape) == 2 and shape[0] != shape[1] and min(shape) <= MAX_CHANNELS:
        return 0 if shape[0] < shape[1] else 1
    if shape == (1, 1):
        return 0
    raise InvalidAudioError(
        f"{name} has the shape {shape}; expected (samples,), (channels, samples) or (samples, channels) with at most "
        f"{MAX_CHANNELS} channels, fewer than samples",
        what=name,
    )
