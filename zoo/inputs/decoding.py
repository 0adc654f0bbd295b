"""Films and animations → frames, in a process with limits: what `zoo.inputs.video` runs there, the only room that knows decord.

A stranger's film is read by an old FFmpeg. It gets no name but that of an open descriptor, and while it works no other file
and no socket can be opened: whatever else a film names is not there.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from zoo.errors import CorruptVideoError, InvalidPixelsError, VideoTooLargeError, ZooError
from zoo.inputs.image import load_pixels
from zoo.inputs.kinds import FORMATS
from zoo.inputs.video import Bounds, check_room, frame_indices
from zoo.strangers.confined import Answer

with suppress(ImportError, OSError):  # before the limits fall; animations do without
    import decord

if TYPE_CHECKING:
    from decord import VideoReader

_Choose = Callable[[int, float], np.ndarray]


def decoded(
    file: int,
    name: str,
    kind: str,
    frames: int,
    fps: float,
    size: tuple[int, int] | None,
    bounds: dict[str, int],
) -> Answer:
    """The frames of one film, as `zoo.inputs.video.load_film` says.

    Args:
        file: its descriptor. kind: "video" or "image" (an animation). frames, fps: which are taken.
        size: width and height that its head says. bounds: see `Bounds`.

    Yields:
        First {"total", "fps", "height", "width"} with the seconds of the taken frames (float64), then each frame.
    """
    limits = Bounds(**bounds)

    def choose(total: int, rate: float) -> np.ndarray:
        indices = frame_indices(total, frames, fps, rate)
        if size:
            check_room(len(indices), size[1], size[0], limits, name)  # before a frame is decoded
        return indices

    with _errors_by_name(name, limits):
        if kind == "image":
            yield from _from_animation(file, choose, limits, name)
        else:
            with _nothing_else_opened():
                yield from _from_film(f"/dev/fd/{file}", choose, limits, name)


@contextmanager
def _errors_by_name(name: str, limits: Bounds) -> Iterator[None]:
    try:
        yield
    except (ZooError, MemoryError):
        raise
    except Exception as error:
        # A decoder may raise anything on damaged bytes (DECORDError, RuntimeError, StopIteration, struct.error, ...).
        if "DecompressionBomb" in type(error).__name__:
            message = f"{name} has frames of more than {limits.pixels:,} pixels"
            raise VideoTooLargeError(message, what=name) from error
        why = "is damaged, cut off or of a kind that cannot be decoded"
        if "cannot find video stream" in str(error):
            why = "holds no film that decord can decode: sound alone, or a codec such as AV1"
        raise CorruptVideoError(f"{name} {why}; try to convert it to H.264 in MP4", what=name) from error


@contextmanager
def _nothing_else_opened() -> Iterator[None]:
    """Inside, one descriptor can be had, for the film itself: no second file, no socket, whatever a film makes FFmpeg try."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _as_pieces(
    frames: Iterator[np.ndarray], total: int, fps: float, times: np.ndarray, limits: Bounds, name: str
) -> Answer:
    """The pieces of an answer, where the first frame tells the size of all."""
    first = None
    for place, frame in enumerate(frames):
        if first is None:
            first = frame.shape
            if len(first) != 3 or first[2] != 3:
                raise CorruptVideoError(f"{name} was decoded to frames of shape {first}, not to RGB", what=name)
            check_room(len(times), *first[:2], limits, name)
            yield {"total": total, "fps": fps, "height": first[0], "width": first[1]}, times.astype(np.float64)
        if frame.shape != first:
            raise InvalidPixelsError(
                f"{name}: taken frame {place} has {frame.shape[1]}x{frame.shape[0]} pixels and the first one "
                f"{first[1]}x{first[0]}; all frames of a film have one size",
                what=name,
            )
        yield {}, np.ascontiguousarray(frame)


def _from_film(path: str, choose: _Choose, limits: Bounds, name: str) -> Answer:
    decord.logging.set_level(decord.logging.QUIET)  # what FFmpeg says of a damaged film is in our error
    # Without a limit, decord hands out the nearest good frame for each one that is damaged; a film that was trimmed
    # without coding it anew lacks some.
    reader = decord.VideoReader(path, num_threads=1, fault_tol=0.05)
    total, fps = len(reader), float(reader.get_avg_fps())
    fps = fps if math.isfinite(fps) and fps > 0 else 0.0
    indices = choose(total, fps)
    times = np.asarray(reader.get_frame_timestamp(indices), np.float64)[:, 0]
    timed = bool(np.isfinite(times).all() and (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] < 1e8)
    # decord searches by times and key frames, and misses by some frames where groups of pictures are open (HEVC) or
    # times are lacking (MPEG, AVI). Counting never misses, and in a short film it costs little more than searching.
    searching = timed and total > limits.search_beyond * len(indices)
    if not timed:
        times = indices / fps if fps else np.full(len(indices), np.nan)
    yield from _as_pieces(_frames(reader, indices, searching), total, fps, times, limits, name)


def _frames(reader: "VideoReader", indices: np.ndarray, searching: bool) -> Iterator[np.ndarray]:
    at = 0
    for index in indices.tolist():
        if not searching:
            for _ in range(index - at):
                reader.next()
        frame, at = reader[index] if searching else reader.next(), index + 1
        yield frame.asnumpy()


def _from_animation(file: int, choose: _Choose, limits: Bounds, name: str) -> Answer:
    with os.fdopen(os.dup(file), "rb") as source, Image.open(source, formats=FORMATS) as picture:
        check_room(1, picture.height, picture.width, limits, name)
        total = getattr(picture, "n_frames", 1)
        # Each is drawn over the one before, so that all are decoded, whichever are taken.
        if total * picture.height * picture.width > limits.drawn_pixels:
            raise VideoTooLargeError(
                f"{name} has {total:,} frames of {picture.width}x{picture.height} pixels; at most "
                f"{limits.drawn_pixels / 1e6:,.0f} megapixels of an animation are decoded: scale it down, or cut it",
                what=name,
            )
        lasting = np.empty(total)
        for index in range(total):
            picture.seek(index)
            if picture.format in ("WEBP", "AVIF"):
                picture.load()  # only then does Pillow know how long the frame lasts
            lasting[index] = picture.info.get("duration") or 0
        length = lasting.sum() / 1000
        fps = float(total / length) if math.isfinite(length) and length > 0 else 0.0
        indices = choose(total, fps)

        def drawn() -> Iterator[np.ndarray]:
            for index in indices.tolist():
                picture.seek(index)
                yield load_pixels(picture)

        starts = (lasting.cumsum() - lasting)[indices] / 1000 if fps else np.full(len(indices), np.nan)
        yield from _as_pieces(drawn(), total, fps, starts, limits, name)
