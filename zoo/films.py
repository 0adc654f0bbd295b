"""Films → frames: files, bytes, arrays and lists of pictures; which frames of a film a model reads."""

import io
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import (
    CorruptVideoError,
    InputError,
    InvalidPixelsError,
    NotMediaError,
    UnsupportedInputError,
    VideoTooLargeError,
    ZooError,
)
from zoo.heif import is_heif
from zoo.media import FORMATS, MAX_PIXELS, _eight_bits, describe, head_of, kind_of, load_pixels, read_bytes

if TYPE_CHECKING:
    import numpy as np

MAX_FILE_BYTES = 2 * 2**30
MAX_FILM_PIXELS = 1_000_000_000
"""Of all the frames that are taken, together: 3 GB in memory."""
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
    WebP, AVIF and PNG by Pillow. May be called from many threads at once; each call uses one. Of a WebM, AVI or MPEG
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
    if kind == "image":
        return _guarded(lambda: _from_animation(source, choose, name), name)
    if isinstance(source, Path) and os.path.abspath(source).isprintable():  # decord takes no name that is not UTF-8
        # Absolute, so that FFmpeg takes no name for one of its protocols ("concat:...").
        return _guarded(lambda: _from_file(os.path.abspath(source), choose, name), name)
    data = source if isinstance(source, bytes) else read_bytes(source)
    # Through a file: decord crashes the whole process on damaged bytes that are given as bytes.
    with tempfile.TemporaryDirectory(prefix="zoo-film-") as folder:
        path = Path(folder, "film")
        path.write_bytes(data)
        return _guarded(lambda: _from_file(str(path), choose, name), name)


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


def _guarded(read: Callable[[], Film], name: str) -> Film:
    try:
        return read()
    except (ZooError, MemoryError):
        raise
    except Exception as error:
        # A decoder may raise anything on damaged bytes (DECORDError, RuntimeError, StopIteration, struct.error, ...).
        if "DecompressionBomb" in type(error).__name__:
            raise VideoTooLargeError(f"{name} has frames of more than {MAX_PIXELS:,} pixels", what=name) from error
        why = "is damaged, cut off or of a kind that cannot be decoded"
        if "cannot find video stream" in str(error):
            why = "holds no film that decord can decode: sound alone, or a codec such as AV1"
        message = f"{name} {why}; try to convert it to H.264 in MP4"
        raise CorruptVideoError(message, what=name) from error


def _check_room(count: int, height: int, width: int, name: str) -> None:
    if height * width > MAX_PIXELS or count * height * width > MAX_FILM_PIXELS:
        raise VideoTooLargeError(
            f"{name} has frames of {width}x{height} pixels; at most {MAX_PIXELS / 1e6:.0f} megapixels in one and "
            f"{MAX_FILM_PIXELS / 1e6:.0f} in the {count} that are read: scale it down, or read fewer frames",
            what=name,
        )


def _stacked(pictures: Iterator["np.ndarray"], indices: "np.ndarray", name: str) -> "np.ndarray":
    """Frames side by side, put in place as they come, so that no film is held twice."""
    import numpy as np

    frames = None
    for place, picture in enumerate(pictures):
        if frames is None:
            _check_room(len(indices), *picture.shape[:2], name)
            frames = np.empty((len(indices), *picture.shape), np.uint8)
        if picture.shape != frames.shape[1:]:
            raise InvalidPixelsError(
                f"{name}: frame {indices[place]} has {picture.shape[1]}x{picture.shape[0]} pixels and frame {indices[0]} "
                f"{frames.shape[2]}x{frames.shape[1]}; all frames of a film have one size",
                what=name,
            )
        frames[place] = picture
    return frames


def _from_file(path: str, choose: _Choose, name: str) -> Film:
    import numpy as np

    try:
        import decord
    except (ImportError, OSError) as error:
        raise ZooError("films need decord: pip install 'embedding-zoo[video]'") from error
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
    searching = timed and total > _SEARCH_BEYOND * len(indices)

    def decoded() -> Iterator["np.ndarray"]:
        at = 0
        for index in indices.tolist():
            if not searching:
                for _ in range(index - at):
                    reader.next()
            frame, at = reader[index] if searching else reader.next(), index + 1
            # A bridge that the program has set gives tensors of torch.
            yield frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame)

    frames = _stacked(decoded(), indices, name)
    if not timed:
        times = indices / fps if fps else np.full(len(indices), np.nan)
    return Film(frames, times, indices, fps, total)


def _from_animation(source: Path | bytes, choose: _Choose, name: str) -> Film:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
        total = getattr(picture, "n_frames", 1)
        _check_room(1, picture.height, picture.width, name)
        lasting = np.empty(total)
        for index in range(total):
            picture.seek(index)
            if picture.format in ("WEBP", "AVIF"):
                picture.load()  # only then does Pillow know how long the frame lasts
            lasting[index] = picture.info.get("duration") or 0
        length = lasting.sum() / 1000
        fps = total / length if length > 0 else 0.0
        indices = choose(total, fps)

        def decoded() -> Iterator["np.ndarray"]:
            for index in indices.tolist():
                picture.seek(index)
                yield load_pixels(picture)

        frames = _stacked(decoded(), indices, name)
    starts = (lasting.cumsum() - lasting)[indices] / 1000
    return Film(frames, starts if fps else np.full(len(indices), np.nan), indices, fps, total)


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
