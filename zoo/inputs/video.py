"""Videos → frames: files, bytes, arrays and lists of images; which frames of one video per model reads."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import (
    CorruptVideoError,
    InputError,
    InvalidPixelsError,
    MissingPackageError,
    NotMediaError,
    UnsupportedInputError,
    VideoTooLargeError,
)
from zoo.inputs.containers import look
from zoo.inputs.excerpts import Excerpt
from zoo.inputs.heif import is_heif
from zoo.inputs.image import MAX_PIXELS, _eight_bits, load_pixels
from zoo.inputs.kinds import describe, head_of, kind_of
from zoo.inputs.opened import opened
from zoo.inputs.sampling import Choice, Sampling
from zoo.strangers.confined import Confined, ConfinedError

if TYPE_CHECKING:
    import numpy as np

MAX_FILE_BYTES = 2 * 2**30
MAX_VIDEO_PIXELS = 1_000_000_000
"""Of all the frames that are taken, together: 3 GB in memory."""
MAX_DRAWN_PIXELS = 4_000_000_000
"""Of all the frames of an animation, taken or not: each is drawn over the one before."""
MAX_FRAMES = 4_500_000
"""Of a file, taken or not: ten hours of 120 a second."""
_MEMORY = 4 * 2**30  # bytes of address space: the libraries, and the sixteen frames of 8K that a decoder holds
# Of the processor, for one video: 8 frames of an 8K video of ten seconds take 50. By the clock, on a busy machine, thrice as long.
_SECONDS, _SECONDS_A_FRAME, _PATIENCE = 40.0, 2.5, 3
_MOST_PROCESSES = 16


class Video(NamedTuple):
    """Some frames of a video.

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


def load_video(
    source: Any,
    *,
    frames: int = 8,
    fps: float = 0.0,
    sampling: Sampling = "uniform",
    start: float = 0.0,
    seconds: float = 0.0,
    name: str = "",
) -> Video:
    """Some frames of a video; the others are not kept, and where they are not needed for those not decoded either.

    Files and bytes are read by PyAV (MP4, QuickTime, 3GP, Matroska, WebM, AVI, MPEG-1 and 2, MPEG-TS, FLV, WMV, Ogg), animated
    GIF, WebP, AVIF and PNG by Pillow, in a process with limits on memory and time that reaches no other file. May be called
    from many threads at once; each call uses one.

    Frames are those that a player shows: what an MP4 was trimmed of is not among them, rotation is applied (to a quarter of a
    circle), transparency is composited on white. Frames of interlaced video are both their fields, woven; pixels that are not
    square are not stretched; a video whose size changes is scaled to that of the first frame that is taken; of HDR the eight
    upper bits are taken. Of a WebM, AVI or MPEG that was cut off, the frames that are there are the video; a cut-off MP4 is an
    error, and so is damage in what the taken frames need.

    Args:
        source: a `Path`, bytes, an `Excerpt` of them, an array or tensor `(frames, height, width, 1|3|4)` or `(frames, 1|3|4, height, width)`
            with the ranges of `load_pixels`, or a list of images of one size, each as `load_pixels` takes it.
        frames: how many are taken, evenly spread; with `fps` at most so many. A shorter video gives each frame once.
        fps: frames a second that are taken, see `frame_indices`. Sources without times are spread evenly instead.
        sampling: "uniform" takes of all frames; "steps" those at every 1 / `fps` seconds (see `stepped_indices`); "keyframes" of
            those alone that are decoded without any other one, which costs
            least and has no rate. Frames of animations, arrays and lists are all key frames.
        start, seconds: the segment of the video that frames are taken of: those that begin to be shown in it, or else the one
            that is shown meanwhile; 0 seconds is to the end. Sources without times have none.
        name: what messages call the video; by default the path, the size or the shape.

    Raises:
        InputError: the subclass says whether the video is missing, no video, damaged, too large, or has no such segment.
        MissingPackageError: PyAV is not installed. ValueError: a number that makes no sense.
    """
    if isinstance(source, Excerpt):
        name = name or str(source)
        source, start, seconds = source.within(start, seconds)
    choice = Choice(frames, fps, sampling, start, seconds)

    def choose(total: int) -> "np.ndarray":
        import numpy as np

        return choice.indices(np.full(total, np.nan), np.ones(total, bool), 0.0, name)

    if isinstance(source, bytes | bytearray | memoryview):
        source = bytes(source)
    name = name or describe(source)
    if isinstance(source, list | tuple):
        return _from_images(source, choose, name)
    if hasattr(source, "ndim") and hasattr(source, "dtype"):
        return _from_array(source, choose, name)
    return _from_stream(source, checked_kind(source, name), choice, name)


def checked_kind(source: Any, name: str) -> str:
    """Whether a file or bytes are a "video" or an animated "image"; raises InputError where they are neither, or too large."""
    if not isinstance(source, Path | bytes):
        given = f"the string {source[:60]!r}" if isinstance(source, str) else type(source).__name__
        raise UnsupportedInputError(
            f"a video was given as {given}; pass pathlib.Path, bytes, frames or a list of images", what=given
        )
    try:
        kind = kind_of(source)
        if is_heif(head_of(source)):
            raise NotMediaError("a HEIC/HEIF image, of which one frame is read: Item(image=...)")
    except NotMediaError as error:
        raise NotMediaError(
            f"{name} is no video that the zoo reads (MP4, MOV, MKV, WebM, AVI, MPEG, TS, FLV, WMV, animated GIF, WebP, PNG)",
            what=name,
        ) from error
    if kind not in ("video", "image"):
        raise NotMediaError(f"{name} holds {kind}, not a video", what=name)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_FILE_BYTES:
        raise VideoTooLargeError(
            f"{name} has {size / 2**30:.1f} GiB; at most {MAX_FILE_BYTES // 2**30} are read: cut it", what=name
        )
    return kind


_Choose = Callable[[int], "np.ndarray"]


@dataclass(frozen=True)
class Bounds:
    """What a video may hold: pixels of a frame, of all taken frames, of all frames of an animation; and frames of a file."""

    pixels: int
    video_pixels: int
    drawn_pixels: int
    frames: int


def _bounds() -> Bounds:
    return Bounds(MAX_PIXELS, MAX_VIDEO_PIXELS, MAX_DRAWN_PIXELS, MAX_FRAMES)


def check_room(count: int, height: int, width: int, bounds: Bounds, name: str) -> None:
    """Raises VideoTooLargeError where `count` frames of this size are more than is read."""
    if height * width > bounds.pixels or count * height * width > bounds.video_pixels:
        raise VideoTooLargeError(
            f"{name} has frames of {width}x{height} pixels; at most {bounds.pixels / 1e6:.0f} megapixels in one and "
            f"{bounds.video_pixels / 1e6:.0f} in the {count} that are read: scale it down, or read fewer frames",
            what=name,
        )


@cache
def _has_pyav() -> bool:
    return find_spec("av") is not None


@cache
def _decoders() -> Confined:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Confined("zoo.inputs.decoding:decoded", memory=_MEMORY, processes=min(max(count, 2), _MOST_PROCESSES))


def _from_stream(source: Path | bytes, kind: str, choice: Choice, name: str) -> Video:
    """A video's file or bytes, decoded in a process of its own: what kills it costs one video."""
    bounds = _bounds()
    seconds = _SECONDS + _SECONDS_A_FRAME * choice.frames
    with opened(source) as file:
        found = look(file, name) if kind == "video" else None
        if found and found.size:
            check_room(1, found.size[1], found.size[0], bounds, name)
        if kind == "video" and not _has_pyav():
            raise MissingPackageError("videos need PyAV: pip install 'embedding-zoo[video]'")
        received = _Received(choice, bounds, name)
        pieces = _decoders().pieces(
            name,
            file,
            most=4 * (3 * MAX_VIDEO_PIXELS + 16 * choice.frames),  # some times from the beginning
            count=4 * (choice.frames + 1),
            seconds=_PATIENCE * seconds,
            cpu_seconds=seconds,
            form=found.form if found else "",
            choice=asdict(choice),
            size=found.size if found else None,
            bounds=asdict(bounds),
            room=received.place,
        )
        try:
            return received.all_of(pieces)
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


class _Received:
    """The pieces as a video; the process, which a crafted video may have taken over, is believed nothing."""

    def __init__(self, choice: Choice, bounds: Bounds, name: str) -> None:
        self.choice, self.bounds, self.name = choice, bounds, name
        self.video: Video | None = None
        self.taken = 0

    def place(self, facts: dict[str, Any], size: int) -> memoryview | None:
        """Where the next frame belongs; None for what tells of all of them."""
        if "total" in facts:
            return None
        if self.video is None:
            raise ConfinedError("gave no facts of a video", "lied")
        frames = self.video.frames
        if self.taken == len(frames) or size != frames[0].size:
            raise ConfinedError("gave other frames than it says", "lied")
        return memoryview(frames[self.taken]).cast("B")

    def all_of(self, pieces: Iterator[tuple[dict[str, Any], Any]]) -> Video:
        for facts, content in pieces:
            if "total" in facts:  # what came before is void
                self.video, self.taken = _begun(facts, content, self.choice, self.bounds, self.name), 0
            else:
                self.taken += 1
        if self.video is None or self.taken < len(self.video.frames):
            raise ConfinedError("gave fewer frames than it says", "lied")
        return self.video


def _begun(facts: dict[str, Any], content: bytearray, choice: Choice, bounds: Bounds, name: str) -> Video:
    """A video without its frames yet."""
    import numpy as np

    said = said_of(facts, content, choice, bounds, name)
    return said._replace(frames=np.empty(said.frames.shape, np.uint8))


def said_of(facts: dict[str, Any], content: bytearray, choice: Choice, bounds: Bounds, name: str) -> Video:
    """What the process says of a video, once that makes sense; the frames have their shape alone, and no memory."""
    import numpy as np

    total, fps, height, width = (facts.get(key) for key in ("total", "fps", "height", "width"))
    whole = all(isinstance(value, int) and 0 < value < 2**40 for value in (total, height, width))
    if not whole or not isinstance(fps, float | int) or not 0 <= fps < math.inf:
        raise ConfinedError("gave no facts of a video", "lied")
    # Two arrays of 8 bytes a frame: numbers, then times.
    count = len(content) // 16
    indices, seconds = np.frombuffer(content[: 8 * count], np.int64), np.frombuffer(content[8 * count :], np.float64)
    rising = (np.diff(indices) > 0).all() and 0 < count <= choice.frames and 0 <= indices[0] <= indices[-1] < total
    if len(content) != 16 * count or not rising or np.isinf(seconds).any():
        raise ConfinedError("gave no numbers or times of frames", "lied")
    check_room(count, height, width, bounds, name)
    frames = np.broadcast_to(np.uint8(0), (count, height, width, 3))
    return Video(frames, seconds, indices, float(fps), total)


def _stacked(images: Iterator["np.ndarray"], indices: "np.ndarray", name: str) -> "np.ndarray":
    """Frames side by side, put in place as they come, so that no video is held twice."""
    import numpy as np

    frames = None
    for place, image in enumerate(images):
        if frames is None:
            check_room(len(indices), *image.shape[:2], _bounds(), name)
            frames = np.empty((len(indices), *image.shape), np.uint8)
        if image.shape != frames.shape[1:]:
            raise InvalidPixelsError(
                f"{name}: frame {indices[place]} has {image.shape[1]}x{image.shape[0]} pixels and frame {indices[0]} "
                f"{frames.shape[2]}x{frames.shape[1]}; all frames of a video have one size",
                what=name,
            )
        frames[place] = image
    return frames


def _from_images(images: Sequence[Any], choose: _Choose, name: str) -> Video:
    import numpy as np

    if not images:
        raise InvalidPixelsError(f"{name} has no frames", what=name)
    indices = choose(len(images))

    def loaded() -> Iterator["np.ndarray"]:
        for index in indices.tolist():
            try:
                yield load_pixels(images[index])
            except InputError as error:
                error.args = (f"frame {index} of the video: {error}",)
                raise

    return Video(_stacked(loaded(), indices, name), np.full(len(indices), np.nan), indices, 0.0, len(images))


def _from_array(array: Any, choose: _Choose, name: str) -> Video:
    import numpy as np

    is_tensor = hasattr(array, "detach")
    shape = tuple(array.shape)
    first, last = (len(shape) == 4 and shape[axis] in (1, 3, 4) for axis in (1, 3))
    if not (first or last) or not all(shape):
        raise InvalidPixelsError(
            f"{name} is no video; expected (frames, height, width, 1|3|4) or (frames, 1|3|4, height, width)", what=name
        )
    indices = choose(len(array))
    chosen = array[indices.tolist()]
    if is_tensor:
        chosen = chosen.detach().cpu()
        chosen = (chosen.float() if chosen.is_floating_point() else chosen).numpy()
    if first and (is_tensor or not last):
        chosen = chosen.transpose(0, 2, 3, 1)
    # The range of all frames together: a black frame of 0..255 would read as one of 0..1.
    chosen = _eight_bits(chosen, name)
    frames = _stacked(map(load_pixels, chosen), indices, name)
    return Video(frames, np.full(len(indices), np.nan), indices, 0.0, len(array))
