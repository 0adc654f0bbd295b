"""Films → frames: files, bytes, arrays and lists of pictures; which frames of a film a model reads."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from zoo.errors import (
    CorruptVideoError,
    InputError,
    InvalidPixelsError,
    MissingFileError,
    NotMediaError,
    UnsupportedInputError,
    VideoTooLargeError,
    ZooError,
)
from zoo.inputs.containers import frame_size
from zoo.inputs.heif import is_heif
from zoo.inputs.image import MAX_PIXELS, _eight_bits, load_pixels
from zoo.inputs.kinds import describe, head_of, kind_of
from zoo.strangers.confined import Confined, ConfinedError

if TYPE_CHECKING:
    import numpy as np

MAX_FILE_BYTES = 2 * 2**30
MAX_FILM_PIXELS = 1_000_000_000
"""Of all the frames that are taken, together: 3 GB in memory."""
MAX_DRAWN_PIXELS = 4_000_000_000
"""Of all the frames of an animation, taken or not: each is drawn over the one before."""
_MEMORY = 4 * 2**30  # bytes of address space: the libraries, and the sixteen frames of 8K that a decoder holds
# Of the processor, for one film: 8 frames of an 8K film of ten seconds take 50. By the clock, on a busy machine, thrice as long.
_SECONDS, _SECONDS_A_FRAME, _PATIENCE = 40.0, 2.5, 3
_MOST_PROCESSES = 16
_IN_MEMORY = 64 * 2**20  # bytes that are given to a decoder without the way through a disk
_SEARCH_BEYOND = 64  # frames of the film for each that is taken; key frames are usually up to 250 apart


class Film(NamedTuple):
    """Some frames of a film.

    Attributes:
        frames: uint8 `(frames, height, width, 3)`, RGB, upright. seconds: `(frames,)` when each is shown, NaN where the
            source has no times (arrays, lists). indices: `(frames,)` their numbers in the source, rising.
        fps: frames a second of the source, 0.0 where it does not say. total: number of frames of the source.
    """

    frames: "np.ndarray"
    seconds: "np.ndarray"
    indices: "np.ndarray"
    fps: float
    total: int


def load_film(source: Any, *, frames: int = 8, fps: float = 0.0, name: str = "") -> Film:
    """Some frames of a film; the others are not kept, and in long films not decoded either.

    Files and bytes are read by decord (MP4, QuickTime, Matroska, WebM, AVI, MPEG; rotation is applied), animated GIF,
    WebP, AVIF and PNG by Pillow, in a process with limits on memory and time that reaches no other file. May be called from many threads at once; each call uses one. Of a WebM, AVI or MPEG
    that was cut off, the frames that are there are the film; a cut-off MP4 is an error. In long films (over 64 frames
    for each that is taken) whose groups of pictures are open, a frame may be off by three or so, as in decord itself.

    Args:
        source: a `Path`, bytes, an array or tensor `(frames, height, width, 1|3|4)` or `(frames, 1|3|4, height, width)`
            with the ranges of `load_pixels`, or a list of pictures of one size, each as `load_pixels` takes it.
        frames: how many are taken, evenly spread; with `fps` at most so many. A shorter film gives each frame once.
        fps: frames a second that are taken, see `frame_indices`. Sources without times are spread evenly instead.
        name: what messages call the film; by default the path, the size or the shape.

    Raises:
        InputError: the subclass says whether the film is missing, no film, damaged or too large.
        ZooError: decord is not installed. ValueError: `frames` or `fps` is no such number.
    """
    if frames < 1 or not 0 <= fps < math.inf:
        raise ValueError(f"a film is read by at least 1 frame and a rate of 0 or more, not {frames} at {fps}")

    def choose(total: int, rate: float) -> "np.ndarray":
        return frame_indices(total, frames, fps, rate)

    if isinstance(source, bytes | bytearray | memoryview):
        source = bytes(source)
    name = name or describe(source)
    if isinstance(source, list | tuple):
        return _from_pictures(source, choose, name)
    if hasattr(source, "ndim") and hasattr(source, "dtype"):
        return _from_array(source, choose, name)
    if not isinstance(source, Path | bytes):
        given = f"the string {source[:60]!r}" if isinstance(source, str) else type(source).__name__
        raise UnsupportedInputError(
            f"a film was given as {given}; pass pathlib.Path, bytes, frames or a list of pictures", what=given
        )
    try:
        kind = kind_of(source)
        if is_heif(head_of(source)):
            raise NotMediaError("a HEIC/HEIF image, of which one frame is read: Item(image=...)")
    except NotMediaError as error:
        raise NotMediaError(
            f"{name} is no film that the zoo reads (MP4, MOV, MKV, WebM, AVI, MPEG, animated GIF, WebP, PNG)", what=name
        ) from error
    if kind not in ("video", "image"):
        raise NotMediaError(f"{name} holds {kind}, not a film", what=name)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_FILE_BYTES:
        raise VideoTooLargeError(
            f"{name} has {size / 2**30:.1f} GiB; at most {MAX_FILE_BYTES // 2**30} are read: cut it", what=name
        )
    return _from_stream(source, kind, frames, fps, choose, name)


def frame_indices(total: int, frames: int, fps: float = 0.0, rate: float = 0.0) -> "np.ndarray":
    """Which frames of a film are taken: int64, rising, none twice.

    Evenly spread, they are `linspace(0, total - 1, frames)` cut to whole numbers (VLM2Vec's `sample_frames` in
    src/utils/vision_utils/vision_utils.py; all frames of a shorter film, as its `process_video_frames`). At `fps`, they
    are as many as `smart_nframes` of qwen-vl-utils (vision_process.py) says, at least 4, at most `frames` and an even
    number, at `linspace(0, total - 1, n)` rounded. Other than there, a film of one frame gives that.

    Args:
        total: frames of the film. frames: how many, or with `fps` at most how many. rate: the film's own, 0 if unknown.
    """
    import numpy as np

    if fps and rate:
        count = int(min(max(total / rate * fps, 4), frames - frames % 2, total)) // 2 * 2
        return np.linspace(0, total - 1, count or 1).round().astype(np.int64)
    return np.linspace(0, total - 1, min(frames, total)).astype(np.int64)


_Choose = Callable[[int, float], "np.ndarray"]


@dataclass(frozen=True)
class Bounds:
    """What a film may hold: pixels of a frame, of all taken frames, of all frames of an animation; and beyond how many frames
    for each that is taken decord searches.
    """

    pixels: int
    film_pixels: int
    drawn_pixels: int
    search_beyond: int


def _bounds() -> Bounds:
    return Bounds(MAX_PIXELS, MAX_FILM_PIXELS, MAX_DRAWN_PIXELS, _SEARCH_BEYOND)


def check_room(count: int, height: int, width: int, bounds: Bounds, name: str) -> None:
    """Raises VideoTooLargeError where `count` frames of this size are more than is read."""
    if height * width > bounds.pixels or count * height * width > bounds.film_pixels:
        raise VideoTooLargeError(
            f"{name} has frames of {width}x{height} pixels; at most {bounds.pixels / 1e6:.0f} megapixels in one and "
            f"{bounds.film_pixels / 1e6:.0f} in the {count} that are read: scale it down, or read fewer frames",
            what=name,
        )


@cache
def _has_decord() -> bool:
    return find_spec("decord") is not None


@cache
def _decoders() -> Confined:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Confined("zoo.inputs.decoding:decoded", memory=_MEMORY, processes=min(max(count, 2), _MOST_PROCESSES))


def _from_stream(source: Path | bytes, kind: str, frames: int, fps: float, choose: _Choose, name: str) -> Film:
    """A film's file or bytes, decoded in a process of its own: what kills it costs one film."""
    bounds = _bounds()
    seconds = _SECONDS + _SECONDS_A_FRAME * frames
    with _opened(source) as file:
        size = frame_size(file, name) if kind == "video" else None
        if size:
            check_room(1, size[1], size[0], bounds, name)
        if kind == "video" and not _has_decord():
            raise ZooError("films need decord: pip install 'embedding-zoo[video]'")
        pieces = _decoders().pieces(
            name,
            file,
            most=3 * MAX_FILM_PIXELS + 8 * frames,
            count=frames + 1,
            seconds=_PATIENCE * seconds,
            cpu_seconds=seconds,
            kind=kind,
            frames=frames,
            fps=fps,
            size=size,
            bounds=asdict(bounds),
        )
        try:
            return _received(pieces, choose, bounds, name)
        except ConfinedError as error:
            if error.reason in ("late", "memory"):
                raise VideoTooLargeError(
                    f"{name} is too much work: its decoder {error}; scale it down, cut it, or read fewer frames",
                    what=name,
                ) from error
            raise CorruptVideoError(
                f"{name} is damaged, or made to do harm: its decoder {error}; try to convert it to H.264 in MP4",
                what=name,
            ) from error
        finally:
            pieces.close()


@contextmanager
def _opened(source: Path | bytes) -> Iterator[BinaryIO]:
    """A file to read, without a name where it was none: the decoder gets a descriptor alone."""
    if isinstance(source, Path):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # none waits for a FIFO
        try:
            opened = open(source, "rb", opener=lambda path, _: os.open(path, flags))  # noqa: SIM115
        except OSError as error:
            raise MissingFileError(f"{source} cannot be read: {error.strerror or error}", what=str(source)) from error
        with opened as file:
            yield file
        return
    in_memory = hasattr(os, "memfd_create") and len(source) < _IN_MEMORY
    with os.fdopen(os.memfd_create("film"), "w+b") if in_memory else tempfile.TemporaryFile(prefix="zoo-film-") as file:
        file.write(source)
        file.flush()
        yield file


def _received(pieces: Iterator[tuple[dict[str, Any], bytearray]], choose: _Choose, bounds: Bounds, name: str) -> Film:
    """The pieces as a film; the process, which a crafted film may have taken over, is believed nothing."""
    import numpy as np

    facts, times = next(pieces, ({}, bytearray()))
    total, fps, height, width = (facts.get(key) for key in ("total", "fps", "height", "width"))
    whole = all(isinstance(value, int) and 0 < value < 2**40 for value in (total, height, width))
    if not whole or not isinstance(fps, float | int) or not 0 <= fps < math.inf:
        raise ConfinedError("gave no facts of a film", "lied")
    indices = choose(total, fps)
    check_room(len(indices), height, width, bounds, name)
    seconds = np.frombuffer(times, np.float64) if len(times) == 8 * len(indices) else None
    frames = np.empty((len(indices), height, width, 3), np.uint8)
    taken = 0
    for _, content in pieces:
        if len(content) != height * width * 3 or taken == len(indices):
            raise ConfinedError("gave other frames than it says", "lied")
        frames[taken] = np.frombuffer(content, np.uint8).reshape(height, width, 3)
        taken += 1
    if seconds is None or taken < len(indices) or np.isinf(seconds).any():
        raise ConfinedError("gave fewer frames or times than it says", "lied")
    return Film(frames, seconds, indices, float(fps), total)


def _stacked(pictures: Iterator["np.ndarray"], indices: "np.ndarray", name: str) -> "np.ndarray":
    """Frames side by side, put in place as they come, so that no film is held twice."""
    import numpy as np

    frames = None
    for place, picture in enumerate(pictures):
        if frames is None:
            check_room(len(indices), *picture.shape[:2], _bounds(), name)
            frames = np.empty((len(indices), *picture.shape), np.uint8)
        if picture.shape != frames.shape[1:]:
            raise InvalidPixelsError(
                f"{name}: frame {indices[place]} has {picture.shape[1]}x{picture.shape[0]} pixels and frame {indices[0]} "
                f"{frames.shape[2]}x{frames.shape[1]}; all frames of a film have one size",
                what=name,
            )
        frames[place] = picture
    return frames


def _from_pictures(pictures: Sequence[Any], choose: _Choose, name: str) -> Film:
    import numpy as np

    if not pictures:
        raise InvalidPixelsError(f"{name} has no frames", what=name)
    indices = choose(len(pictures), 0.0)

    def loaded() -> Iterator["np.ndarray"]:
        for index in indices.tolist():
            try:
                yield load_pixels(pictures[index])
            except InputError as error:
                error.args = (f"frame {index} of the film: {error}",)
                raise

    return Film(_stacked(loaded(), indices, name), np.full(len(indices), np.nan), indices, 0.0, len(pictures))


def _from_array(array: Any, choose: _Choose, name: str) -> Film:
    import numpy as np

    is_tensor = hasattr(array, "detach")
    shape = tuple(array.shape)
    first, last = (len(shape) == 4 and shape[axis] in (1, 3, 4) for axis in (1, 3))
    if not (first or last) or not all(shape):
        raise InvalidPixelsError(
            f"{name} is no film; expected (frames, height, width, 1|3|4) or (frames, 1|3|4, height, width)", what=name
        )
    indices = choose(len(array), 0.0)
    chosen = array[indices.tolist()]
    if is_tensor:
        chosen = chosen.detach().cpu()
        chosen = (chosen.float() if chosen.is_floating_point() else chosen).numpy()
    if first and (is_tensor or not last):
        chosen = chosen.transpose(0, 2, 3, 1)
    # The range of all frames together: a black frame of 0..255 would read as one of 0..1.
    chosen = _eight_bits(chosen, name)
    frames = _stacked(map(load_pixels, chosen), indices, name)
    return Film(frames, np.full(len(indices), np.nan), indices, 0.0, len(array))
