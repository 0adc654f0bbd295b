"""Audio files → samples, in a process with limits: what `zoo.inputs.audio` runs there, the only room that knows soundfile and PyAV's audio.

Which decoder and which container is told apart from the head and given to the decoder: it guesses nothing, opens nothing else, and
what it gives is believed nothing.
"""

import os
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import CorruptAudioError, InvalidAudioError, MissingPackageError, ZooError
from zoo.inputs.resampling import Segment, resampled
from zoo.inputs.waveform import MAX_CHANNELS, check_rate, check_samples, scaled
from zoo.strangers.confined import Answer
from zoo.strangers.limits import nothing_else_opened

with suppress(ImportError, OSError):  # before the limits fall
    import soundfile
with suppress(ImportError, OSError):
    import av

    for _, _module, _ in pkgutil.walk_packages(av.__path__, "av."):
        if (
            "__main__" not in _module
        ):  # PyAV imports what a container needs when it meets it, and then no file can be opened
            with suppress(ImportError):
                import_module(_module)
with suppress(ImportError, OSError):
    import soxr  # noqa: F401

_BLOCK = 2**16  # samples a channel that are decoded at a time
_PAIRED = 8  # so many numbers numpy adds up in another order than one after the other
PIECE = 2**18
"""Samples of a piece of the answer, all but the last."""
SOUNDFILE = frozenset({"wav", "w64", "flac", "ogg", "aiff", "au", "caf"})
"""Containers that libsndfile reads; PyAV is asked where their codec is unknown to it.

Not MP3: soundfile seeks after every block that it reads, and libsndfile's MP3 has a wrong frame or two after every search.
"""
_SNDFILE_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "AIFF", "AU", "CAF"})
_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""FFmpeg's formats of samples, as numpy calls them."""
_LOOSE = frozenset({"mp3", "aac", "ac3", "mpeg", "mpegts"})
_SEEKS = frozenset(
    {"mov", "matroska"}
)  # whose times tell where a search has led; all others are decoded from the beginning


class _Track(NamedTuple):
    """Audio that was opened: its rate, the second at which the blocks begin, and blocks of mono float32."""

    rate: int
    blocks: Iterator[np.ndarray]


def decoded(file: int, name: str, container: str, segment: dict[str, Any]) -> Answer:
    """The samples of one audio file, or of the first audio track of a video.

    Args:
        file: its descriptor. container: FFmpeg's name of what its head says. segment: see `Segment`.

    Yields:
        First {"source_rate"}, then float32 samples, `PIECE` at a time.
    """
    part = Segment(**segment)
    with _errors_by_name(name), nothing_else_opened(), _opened(file, container, part, name) as track:
        yield {"source_rate": track.rate}, b""
        yield from (({}, piece) for piece in _pieces(resampled(track.blocks, track.rate, part, name)))


@contextmanager
def _errors_by_name(name: str) -> Iterator[None]:
    try:
        yield
    except (ZooError, MemoryError):
        raise
    except Exception as error:
        # A decoder may raise anything on damaged bytes (LibsndfileError, av's FFmpegError, ValueError, ...).
        why = " ".join(str(error).replace("<none>", "it").split())[:200]
        raise CorruptAudioError(
            f"{name} is damaged, cut off or of a codec that cannot be decoded ({why}); try to convert it to FLAC",
            what=name,
        ) from error


def _pieces(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples in blocks of one size, so that no answer is a million tiny ones."""
    held = np.empty(PIECE, np.float32)
    count = 0
    for block in blocks:
        while len(block):
            part = block[: PIECE - count]
            held[count : count + len(part)] = part
            count, block = count + len(part), block[len(part) :]
            if count == PIECE:
                yield held
                count = 0
    if count:
        yield held[:count]


@contextmanager
def _opened(file: int, container: str, segment: Segment, name: str) -> Iterator[_Track]:
    if container in SOUNDFILE and "soundfile" in globals():
        os.lseek(file, 0, os.SEEK_SET)
        copy = os.dup(file)
        try:
            source = soundfile.SoundFile(copy)
        except soundfile.LibsndfileError:
            with suppress(OSError):
                os.close(copy)
            if "av" not in globals():
                raise
        else:
            with source:
                if "MPEG" not in source.subtype:
                    yield _sndfile_track(source, segment, name)
                    return
    if "av" not in globals():
        raise MissingPackageError("this audio file needs PyAV: pip install 'embedding-zoo[audio]'")
    os.lseek(file, 0, os.SEEK_SET)
    with (
        os.fdopen(os.dup(file), "rb") as stream,
        av.open(stream, format=container, metadata_errors="replace") as source,
    ):
        yield _av_track(source, container, segment, name)


def _checked_channels(channels: int, name: str) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidAudioError(f"{name} has {channels} channels; 1 to {MAX_CHANNELS} are mixed to one", what=name)


def _mono(samples: np.ndarray, axis: int, at: int, rate: int, name: str) -> np.ndarray:
    """The mean of the channels, checked."""
    try:
        return check_samples(_mean(np.moveaxis(samples, axis, 0)), name)
    except InvalidAudioError as error:
        raise InvalidAudioError(f"{error} (of those from {at / rate:.1f} s on)", what=name) from None


def _mean(channels: np.ndarray) -> np.ndarray:
    """`mean(0)` of float32 `(channels, n)`, to the bit; of the few channels that audio has some ten times as fast."""
    # Below it numpy adds one after the other, as the loop does: the same bits, without its overhead.
    if len(channels) >= _PAIRED:
        return channels.mean(0, dtype=np.float32)
    if len(channels) == 1:
        return channels[0]
    mixed = channels[0] + channels[1]
    for other in channels[2:]:
        mixed += other
    mixed /= np.float32(len(channels))
    return mixed


# ---- libsndfile.


def _sndfile_track(source: Any, segment: Segment, name: str) -> _Track:
    if source.format not in _SNDFILE_FORMATS:
        raise CorruptAudioError(f"{name} begins like another format than it is ({source.format})", what=name)
    rate = check_rate(source.samplerate, name)
    _checked_channels(source.channels, name)
    if 0 < source.frames < 2**60:
        segment.check_promise(source.frames / rate, name)

    def blocks() -> Iterator[np.ndarray]:
        at, skipped = segment.first_second * rate, 0
        if at and source.seekable():
            source.seek(min(at, source.frames))
        else:
            while skipped < at and (count := len(source.read(min(_BLOCK, at - skipped), dtype="float32"))):
                skipped += count
        while len(block := source.read(_BLOCK, dtype="float32", always_2d=True)):
            yield _mono(block, 1, at, rate, name)
            at += len(block)

    return _Track(rate, blocks())


# ---- FFmpeg.


def _av_track(source: Any, container: str, segment: Segment, name: str) -> _Track:
    stream = source.streams.best("audio")
    if stream is None:
        raise InvalidAudioError(f"{name} has no audio track", what=name)
    stream.codec_context.thread_count = 1
    for other in source.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all  # of a video next to nothing is read
    if stream.duration and stream.time_base:
        segment.check_promise(float(stream.duration * stream.time_base), name)
    zero = max(source.start_time or 0, 0) / 1e6  # a recording of a broadcast begins at any time
    frames = _av_frames(source, stream, name, container in _LOOSE)
    head = list(islice(frames, 2))
    if not head:
        raise InvalidAudioError(f"{name} has an audio track without a single frame", what=name)
    rate = check_rate(head[0].sample_rate, name)
    # Beside a video, audio that begins later begins later; alone, what stands before it is the encoder's delay.
    place = _place(head[0], zero, rate) or 0 if source.streams.video else 0
    if place > rate * (source.duration or 0) / 1e6:
        place = 0  # beyond the end: a clock that runs over (MPEG-TS has 33 bits), or one that lies
    if container in _SEEKS and segment.first_second and len(head) == 2:
        origin = zero if source.streams.video else float((head[0].pts or 0) * head[0].time_base)
        before = max(segment.first_second - 1, 0)  # a lossy codec wants some frames before it is right
        source.seek(int((before + origin) * 1e6), backward=True, any_frame=False)
        found = _av_frames(source, stream, name, container in _LOOSE)
        first = next(found, None)
        at = None if first is None else _place(first, origin, rate)
        if at is not None and at <= segment.first_second * rate:
            # Times may be rounded to a millisecond; frames of one size tell better where they are.
            size, start = head[1].samples, place + head[0].samples
            near = start + round((at - start) / size) * size
            at = near if abs(near - at) <= rate // 1000 else at
            return _Track(rate, _av_blocks(chain([first], found), at, rate, segment, name))
        source.seek(int(zero * 1e6), backward=True)
        head, frames = [], _av_frames(source, stream, name, container in _LOOSE)
    return _Track(rate, _av_blocks(chain(head, frames), place, rate, segment, name))


def _place(frame: Any, zero: float, rate: int) -> int | None:
    """Which sample a frame begins with, by its time; None where it has none."""
    if frame.pts is None or not frame.time_base:
        return None
    return round((float(frame.pts * frame.time_base) - zero) * rate)


def _av_frames(source: Any, stream: Any, name: str, loose: bool) -> Iterator[Any]:
    """Decoded frames. What cannot be decoded at the very beginning or end was cut there; in the middle it is damage.

    Args:
        loose: a stream that anything may stand in between frames of (tags, the end of another one): that is left out, unless it
            is more than a twentieth of the packets.
    """
    packets, bad, begun, failed = 0, 0, False, None
    decode = stream.codec_context.decode
    for packet in source.demux(stream):
        packets += 1
        try:
            frames = decode(packet)
        except av.error.InvalidDataError as error:
            bad, failed = bad + 1, error
            continue
        for frame in frames:
            if failed is not None and begun and not (loose and bad <= 1 + packets / 20):
                raise failed
            begun, failed = True, None
            yield frame
    if not begun and failed is not None:
        raise failed


def _av_blocks(frames: Iterator[Any], at: int, rate: int, segment: Segment, name: str) -> Iterator[np.ndarray]:
    """Blocks from the segment's first second on, of frames whose first begins with sample `at`."""
    begin = segment.first_second * rate
    for silence in range(begin, at, _BLOCK):
        yield np.zeros(min(at - silence, _BLOCK), np.float32)
    for samples in _joined(frames, rate, at, name):
        skipped = min(max(begin - at, 0), samples.shape[1])
        if skipped < samples.shape[1]:
            yield _mono(samples[:, skipped:], 0, at, rate, name)
        at += samples.shape[1]


def _joined(frames: Iterator[Any], rate: int, at: int, name: str) -> Iterator[np.ndarray]:
    """Frames as float32 `(channels, n)` in blocks of some length: an AAC frame is 20 ms, and each step has its price."""
    waiting, kind = av.AudioFifo(), None
    for frame in frames:
        if frame.sample_rate != rate:
            where = (at + waiting.samples) / rate
            raise CorruptAudioError(
                f"{name} changes its rate from {rate} to {frame.sample_rate} Hz at {where:.1f} s; convert it to FLAC",
                what=name,
            )
        came = frame.format.name, frame.layout.nb_channels  # the queue itself does not compare the channels
        if kind != came:
            if waiting.samples:
                at += waiting.samples
                yield _channels_first(waiting.read(), name)
            _checked_channels(frame.layout.nb_channels, name)
            waiting, kind = av.AudioFifo(), came
        frame.pts = None  # where it has one, the queue wants no gap before it
        waiting.write(frame)
        while waiting.samples >= _BLOCK:
            at += _BLOCK
            yield _channels_first(waiting.read(_BLOCK), name)
    if waiting.samples:
        yield _channels_first(waiting.read(), name)


def _channels_first(frame: Any, name: str) -> np.ndarray:
    """A frame as float32 `(channels, n)`."""
    dtype, channels = np.dtype(_TYPES[frame.format.packed.name]), frame.layout.nb_channels
    if frame.format.is_planar:
        samples = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes])
    else:
        samples = np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels).T
    return samples if samples.dtype == np.float32 else scaled(samples, name)
