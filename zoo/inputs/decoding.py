"""Videos and animations → frames, in a process with limits: what `zoo.inputs.video` runs there.

FFmpeg gets no name of a stranger's video, but a file that is open; it knows no protocols, and while it works no other file and
no socket can be opened: whatever else a video names is not there.
"""

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from zoo.errors import CorruptVideoError, InvalidPixelsError, VideoTooLargeError, ZooError
from zoo.inputs.image import load_pixels
from zoo.inputs.kinds import FORMATS
from zoo.inputs.sampling import Choice
from zoo.inputs.tracks import Shown, Taken, UntoldError, VideoFile
from zoo.inputs.video import Bounds, check_room
from zoo.strangers.confined import Answer
from zoo.strangers.limits import nothing_else_opened

_Choose = Callable[[Shown], np.ndarray]
_LONG = 3000  # packets: two minutes of video; a shorter one is looked at again within a few ms


def decoded(
    file: int,
    name: str,
    form: str,
    choice: dict[str, Any],
    size: tuple[int, int] | None,
    bounds: dict[str, int],
) -> Answer:
    """The frames of one video, as `zoo.inputs.video.load_video` says.

    Args:
        file: its descriptor. form: FFmpeg's name of its container, "" of an animation. choice: of a `Choice`.
        size: width and height that its head says. bounds: see `Bounds`.

    Yields:
        First {"total", "fps", "height", "width"} with the numbers (int64) of the taken frames and their seconds (float64), then
        each frame. Where frames come otherwise than the head has it, all of it once more from the beginning.
    """
    limits, chosen = Bounds(**bounds), Choice(**choice)

    def choose(shown: Shown) -> np.ndarray:
        indices = chosen.indices(shown.seconds, shown.keys, shown.fps, name)
        if size:
            check_room(len(indices), size[1], size[0], limits, name)  # before a frame is decoded
        return indices

    if not form:
        with _errors_by_name(name, limits), os.fdopen(os.dup(file), "rb", buffering=0) as source:
            yield from _from_animation(source, choose, limits, name)
        return
    with _errors_by_name(name, limits), nothing_else_opened():
        yield from _from_video(file, form, choose, limits, name)


@contextmanager
def _errors_by_name(name: str, limits: Bounds) -> Iterator[None]:
    try:
        yield
    except (ZooError, MemoryError):
        raise
    except Exception as error:
        # A decoder may raise anything on damaged bytes (FFmpegError, RuntimeError, StopIteration, struct.error, ...).
        if "DecompressionBomb" in type(error).__name__:
            message = f"{name} has frames of more than {limits.pixels:,} pixels"
            raise VideoTooLargeError(message, what=name) from error
        why = "is damaged, cut off or of a kind that cannot be decoded"
        raise CorruptVideoError(f"{name} {why}; try to convert it to H.264 in MP4", what=name) from error


def _as_pieces(taken: Taken, limits: Bounds, name: str) -> Answer:
    """The pieces of an answer, where the first frame tells the size of all."""
    shown, indices, frames = taken
    first = None
    for place, frame in enumerate(frames):
        if first is None:
            first = frame.shape
            if len(first) != 3 or first[2] != 3:
                raise CorruptVideoError(f"{name} was decoded to frames of shape {first}, not to RGB", what=name)
            check_room(len(indices), *first[:2], limits, name)
            facts = {"total": len(shown.seconds), "fps": shown.fps, "height": first[0], "width": first[1]}
            yield facts, indices.astype(np.int64).tobytes() + shown.seconds[indices].astype(np.float64).tobytes()
        if frame.shape != first:
            raise InvalidPixelsError(
                f"{name}: taken frame {place} has {frame.shape[1]}x{frame.shape[0]} pixels and the first one "
                f"{first[1]}x{first[0]}; all frames of a video have one size",
                what=name,
            )
        yield {}, np.ascontiguousarray(frame)


def _from_video(file: int, form: str, choose: _Choose, limits: Bounds, name: str) -> Answer:
    with _video(file, form, limits, name) as video:
        for taken in video.attempts(choose):
            try:
                yield from _as_pieces(taken, limits, name)
            except UntoldError:
                continue
            return


_known: list[tuple[tuple[Any, ...], VideoFile]] = []
"""The last long video that was read, and how it is known again: its packets need not be looked at for every segment anew."""


@contextmanager
def _video(file: int, form: str, limits: Bounds, name: str) -> Iterator[VideoFile]:
    status = os.fstat(file)
    times = (status.st_mtime_ns, status.st_ctime_ns)
    key = (status.st_dev, status.st_ino, status.st_size, *times, form, limits.pixels, limits.frames)
    kept = _known.pop() if _known else None
    if kept is not None and kept[0] == key:
        video = kept[1]
        video.bounds, video.name = limits, name
    else:
        if kept is not None:
            kept[1].close()
        source = os.fdopen(os.dup(file), "rb", buffering=0)
        try:
            video = VideoFile(source, form, limits, name)
        except BaseException:
            source.close()
            raise
    whole = False
    try:
        yield video
        whole = True
    finally:
        if whole and len(video.packets) > _LONG:
            video.rest()
            _known.append((key, video))
        else:
            video.close()


def _from_animation(file: io.RawIOBase, choose: _Choose, limits: Bounds, name: str) -> Answer:
    file.seek(0)
    with Image.open(io.BufferedReader(file), formats=FORMATS) as image:
        check_room(1, image.height, image.width, limits, name)
        total = getattr(image, "n_frames", 1)
        # Each is drawn over the one before, so that all are decoded, whichever are taken.
        if total * image.height * image.width > limits.drawn_pixels:
            raise VideoTooLargeError(
                f"{name} has {total:,} frames of {image.width}x{image.height} pixels; at most "
                f"{limits.drawn_pixels / 1e6:,.0f} megapixels of an animation are decoded: scale it down, or cut it",
                what=name,
            )
        lasting = np.empty(total)
        for index in range(total):
            image.seek(index)
            if image.format in ("WEBP", "AVIF"):
                image.load()  # only then does Pillow know how long the frame lasts
            lasting[index] = image.info.get("duration") or 0
        length = lasting.sum() / 1000
        fps = float(total / length) if math.isfinite(length) and length > 0 else 0.0
        starts = (lasting.cumsum() - lasting) / 1000 if fps else np.full(total, np.nan)
        shown = Shown(starts, np.ones(total, bool), fps)
        indices = choose(shown)

        def drawn() -> Iterator[np.ndarray]:
            for index in indices.tolist():
                image.seek(index)
                yield load_pixels(image)

        yield from _as_pieces(Taken(shown, indices, drawn()), limits, name)
