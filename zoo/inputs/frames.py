"""The frames of a video of any length, one after the other, in memory for one."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import CorruptVideoError, MissingPackageError, VideoTooLargeError
from zoo.inputs.containers import look
from zoo.inputs.excerpts import Excerpt
from zoo.inputs.kinds import describe
from zoo.inputs.opened import opened
from zoo.inputs.sampling import Choice
from zoo.inputs.video import (
    _MEMORY,
    MAX_FRAMES,
    Video,
    _bounds,
    _has_pyav,
    check_room,
    checked_kind,
    load_video,
    said_of,
)  # fmt: skip
from zoo.strangers.confined import Confined, ConfinedError

if TYPE_CHECKING:
    import numpy as np

# Waited for, by the clock, and of the processor: two hours of 4K.
_SECONDS, _CPU_SECONDS = 12 * 3600.0, 4 * 3600.0
_ANY = 2**60


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        pixels: uint8 `(height, width, 3)`. index: its number in the source. seconds, end: from when to when it stands for the
            video: the end is where the next one that is taken begins. NaN where the source has no times.
    """

    pixels: "np.ndarray"
    index: int
    seconds: float
    end: float


def iter_frames(source: Any, *, fps: float = 1.0, name: str = "") -> Iterator[Frame]:
    """The frames that `load_video` takes at `fps`, whatever their number.

    Args:
        source: as `load_video`; of arrays and lists, which have no times, all frames are taken. fps: frames a second, over 0.
        name: what messages call it.

    Raises:
        As `load_video`, also after frames that were good. ValueError: no such rate.
    """
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise ValueError(f"fps must be a number over 0, not {fps!r}")
    start = seconds = 0.0
    whole = source
    if isinstance(source, Excerpt):
        name = name or str(source)
        whole, start, seconds = source.within(0.0, 0.0)
    whole = bytes(whole) if isinstance(whole, bytearray | memoryview) else whole
    name = name or describe(whole)
    if isinstance(whole, list | tuple) or (hasattr(whole, "ndim") and hasattr(whole, "dtype")):
        video = load_video(source, frames=max(len(whole), 1), name=name)
        return map(Frame, video.frames, video.indices.tolist(), video.seconds.tolist(), _ends(video))
    return _streamed(whole, checked_kind(whole, name), Choice(MAX_FRAMES, fps, "uniform", start, seconds), name)


def _ends(said: Video) -> list[float]:
    """When each of the taken frames is followed by another; the last one stands as long as a frame does."""
    times = said.seconds.tolist()
    lasting = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    return [*times[1:], times[-1] + (1 / said.fps if said.fps else lasting)]


def _streamed(source: Path | bytes, kind: str, choice: Choice, name: str) -> Iterator[Frame]:
    bounds = replace(_bounds(), video_pixels=_ANY)
    # A process of its own: one that many share would wait for whoever takes his time between two frames.
    decoders = Confined("zoo.inputs.decoding:decoded", memory=_MEMORY, processes=1)
    try:
        with opened(source) as file:
            found = look(file, name) if kind == "video" else None
            if found and found.size:
                check_room(1, found.size[1], found.size[0], bounds, name)
            if found and not _has_pyav():
                raise MissingPackageError("videos need PyAV: pip install 'embedding-zoo[video]'")
            pieces = decoders.pieces(
                name,
                file,
                most=_ANY,
                count=2 * (MAX_FRAMES + 1),
                seconds=_SECONDS,
                cpu_seconds=_CPU_SECONDS,
                form=found.form if found else "",
                choice=asdict(choice),
                size=found.size if found else None,
                bounds=asdict(bounds),
            )
            with closing(pieces):
                yield from _told(pieces, choice, name)
    except ConfinedError as error:
        if error.reason in ("late", "memory"):
            raise VideoTooLargeError(
                f"{name} is too much work: its decoder {error}; scale it down, or cut it", what=name
            ) from error
        raise CorruptVideoError(
            f"{name} is damaged, or made to do harm: its decoder {error}; try to convert it to H.264 in MP4", what=name
        ) from error
    finally:
        decoders.close()


def _told(pieces: Iterator[tuple[dict[str, Any], bytearray]], choice: Choice, name: str) -> Iterator[Frame]:
    """The pieces as frames; the process, which a crafted video may have taken over, is believed nothing."""
    import numpy as np

    bounds = replace(_bounds(), video_pixels=_ANY)
    said, ends, place, after = None, [], 0, -1
    for facts, content in pieces:
        if "total" in facts:  # or once more from the beginning: what was given is not given again
            said, place = said_of(facts, content, choice, bounds, name), 0
            ends = _ends(said)
            continue
        if said is None or place == len(ends) or len(content) != said.frames[0].size:
            raise ConfinedError("gave other frames than it says", "lied")
        index = int(said.indices[place])
        if index > after:
            pixels = np.frombuffer(content, np.uint8).reshape(said.frames.shape[1:])
            yield Frame(pixels, index, float(said.seconds[place]), ends[place])
            after = index
        place += 1
    if said is None or place < len(ends):
        raise ConfinedError("gave fewer frames than it says", "lied")
