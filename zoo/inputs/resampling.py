"""A segment of audio at another rate, block by block: which samples are read for it, and those of the new rate that are it."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from zoo.errors import AudioTooLongError

if TYPE_CHECKING:
    import numpy as np

_CONTEXT = (
    1  # seconds before and after a segment that are decoded too: a filter and a lossy codec look that far, and less
)
QUALITY = "HQ"
"""soxr's: 20 bits, linear phase; libsoxr calls it the quality for 16-bit audio."""


class Segment(NamedTuple):
    """A part of audio.

    Attributes:
        start: seconds from the beginning. seconds: length; 0 to the end. rate: Hz of what comes out.
        most: samples of what comes out, at most.
    """

    start: float
    seconds: float
    rate: int
    most: int

    @property
    def first_second(self) -> int:
        """Whole seconds from which on it is decoded: on such a beginning both rates have a sample."""
        return max(math.floor(self.start) - _CONTEXT, 0)

    @property
    def last_second(self) -> int | None:
        """Whole seconds after which nothing is needed; None for the end of the audio."""
        return math.ceil(self.start + self.seconds) + _CONTEXT if self.seconds else None

    @property
    def samples(self) -> int | None:
        """How many samples come out, where the audio does not end before; None for all."""
        return max(round(self.seconds * self.rate), 1) if self.seconds else None

    def check_promise(self, seconds: float, name: str) -> None:
        """Raises AudioTooLongError, before anything is decoded, where the audio says that it is longer than what is read."""
        wanted = min(self.seconds, seconds - self.start) if self.seconds else seconds - self.start
        if wanted * self.rate > self.most + self.rate:
            raise too_long(f"{name} says that it has {lasting(seconds)}", self, name)


def too_long(what: str, segment: Segment, name: str) -> AudioTooLongError:
    """The error for audio that is longer than what is read; `what` begins its sentence."""
    return AudioTooLongError(
        f"{what}; at {segment.rate:,} Hz at most {lasting(segment.most / segment.rate)} are read at once: give start and "
        "seconds, or take zoo.inputs.audio.iter_audio",
        what=name,
    )


def lasting(seconds: float) -> str:
    """A length in words: "9.5 s", "3.2 min", "10.0 h"."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def resampled(blocks: Iterator["np.ndarray"], source_rate: int, segment: Segment, name: str) -> Iterator["np.ndarray"]:
    """The segment's samples, float32 `(n,)` at a time.

    Args:
        blocks: float32 `(n,)` at `source_rate`, one after the other from `segment.first_second` on.
    """
    left = math.inf if segment.samples is None else segment.samples
    # Decoding began at a whole second, where both rates have a sample; what lies before the
    # segment is dropped afterwards.
    skip = round(segment.start * segment.rate) - segment.first_second * segment.rate
    given = 0
    for block in _at_rate(_up_to(blocks, source_rate, segment), source_rate, segment.rate):
        block, skip = block[skip:], max(skip - len(block), 0)
        if len(block) > left:
            block = block[: int(left)]
        left, given = left - len(block), given + len(block)
        if given > segment.most:
            raise too_long(f"{name} is longer than is read", segment, name)
        if len(block):
            yield block
        if left <= 0:
            return


def _up_to(blocks: Iterator["np.ndarray"], source_rate: int, segment: Segment) -> Iterator["np.ndarray"]:
    """The blocks as far as the segment needs them."""
    if segment.last_second is None:
        yield from blocks
        return
    left = (segment.last_second - segment.first_second) * source_rate
    for block in blocks:
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def _at_rate(blocks: Iterator["np.ndarray"], source_rate: int, rate: int) -> Iterator["np.ndarray"]:
    import numpy as np

    if source_rate == rate:
        yield from blocks
        return
    import soxr

    # One stream for all blocks: resampled apart, each would begin and end with the filter's edge.
    stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality=QUALITY)
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
