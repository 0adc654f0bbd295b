"""Silence: the one place where it is known that audio holds nothing, for bulk jobs, searches, servers and pages."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, InvalidAudioError, SilentAudioError
from zoo.inputs.item import as_item
from zoo.inputs.kinds import describe

if TYPE_CHECKING:
    import numpy as np

QUIETEST = 2.0**-12
"""From the lowest to the highest sample, at full scale 1: four steps of 16 bits to either side: dither, resampled, makes nearly as much of nothing."""
_BLOCK = 2**18  # samples: most audio is known to be none after the first
_RATE = 48_000  # at which all that can be heard is left
_FIRST, _NEXT = 10.0, 600.0  # seconds that are decoded at a time
_noticed: ContextVar[list[bool] | None] = ContextVar("zoo_silence", default=None)


def is_silence(samples: "np.ndarray") -> bool:
    """Whether samples `(n,)` at full scale 1 are digital silence: as good as one level, dither allowed for.

    A quiet room is none: a recorder's own noise is ten times as loud and more.
    """
    low, high = float("inf"), float("-inf")
    for start in range(0, len(samples), _BLOCK):
        block = samples[start : start + _BLOCK]
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if high - low > QUIETEST:
            return False
    return True


def is_silent(source: Any) -> bool:
    """Whether audio, as `load_audio` takes it, is silence from its beginning to its end; of other audio little is decoded.

    Raises:
        InputError: as `load_audio`.
    """
    from zoo.inputs.audio import load_audio

    start, seconds = 0.0, _FIRST
    while True:
        try:
            audio = load_audio(source, rate=_RATE, start=start, seconds=seconds)
        except InvalidAudioError:
            if not start:
                raise
            return True  # it ended there
        except InputError:
            raise
        except ValueError:  # an excerpt that ends there
            return True
        if not is_silence(audio.samples):
            return False
        # It ended within this stretch, and nothing was heard.
        if audio.seconds < seconds:
            return True
        start, seconds = start + seconds, _NEXT


def refuse_silence(query: Any) -> None:
    """Raises SilentAudioError where a query is silence, or has silence for its audio: whatever is near it is no answer.

    Args:
        query: anything that a model encodes.

    Raises:
        SilentAudioError: see above. InputError: the audio cannot be read.
    """
    if isinstance(query, str):
        return
    audio = as_item(query).audio
    if audio is not None and is_silent(audio):
        name = describe(audio)
        raise SilentAudioError(
            f"{name} is silence, in which there is nothing to look for; is the microphone muted, or the track empty? Record it "
            "again, or search with text",
            what=name,
        )


@contextlib.contextmanager
def noticing() -> Iterator[list[bool]]:
    """Takes from `notice`, for all audio that is read inside, whether it was silence."""
    found: list[bool] = []
    token = _noticed.set(found)
    try:
        yield found
    finally:
        _noticed.reset(token)


def notice(samples: "np.ndarray") -> None:
    """Says to whoever asked by `noticing` whether these samples, which an encoder has read, are silence."""
    found = _noticed.get()
    if found is not None:
        found.append(is_silence(samples))
