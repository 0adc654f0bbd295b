"""Audio → mono samples at a model's rate: files, bytes, waveforms and the audio tracks of videos; every byte is distrusted."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import (
    ArgumentError,
    AudioTooLongError,
    CorruptAudioError,
    InvalidAudioError,
    MissingPackageError,
    NotMediaError,
    UnsupportedInputError,
)
from zoo.inputs.excerpts import Excerpt
from zoo.inputs.kinds import describe, head_of, is_open_file, kind_of_head, read_open_file, what_it_looks_like
from zoo.inputs.opened import opened
from zoo.inputs.resampling import Segment, resampled
from zoo.inputs.waveform import LOUDEST, MAX_RATE, MIN_RATE, Waveform, as_waveform, check_rate, length_of, mono
from zoo.strangers.confined import Confined, ConfinedError

if TYPE_CHECKING:
    import numpy as np

MAX_FILE_BYTES = 16 * 2**30
MAX_SAMPLES = 2**28
"""Of one `load_audio`, at the rate that is asked for: a gigabyte, 4.7 hours at 16 kHz, 1.6 hours at 48 kHz."""
MAX_MAPPED_SAMPLES = 2**31
"""Of one `map_audio`: 8 GiB of disk, 37 hours at 16 kHz, 12 hours at 48 kHz."""
_IN_MEMORY_SECONDS = 300.0
MAX_STREAMED_SECONDS = 100 * 3600
"""Of one `iter_audio`."""
_MEMORY = 2 * 2**30  # bytes of address space of a decoder: the libraries, and a block of 64 channels
# Of the processor, for one file: the slowest codecs decode some hundred seconds of audio in one. By the clock thrice as long.
_SECONDS, _AUDIO_A_SECOND, _PATIENCE = 30.0, 20.0, 3
_MOST_PROCESSES = 8
_MEASURED = 8000  # Hz of audio of which no more is asked than how long it is
_PIECE = 2**18  # samples, as `zoo.inputs.listening.PIECE`
_BLOCK = 2**20  # samples of a waveform that are converted at a time


class DecodedAudio(NamedTuple):
    """Audio as a model reads it.

    Attributes:
        samples: float32 `(n,)`, mono, full scale is -1..1. rate: Hz. seconds: how long it is. source_rate: Hz of the source.
        start: seconds of the source at which it begins.
    """

    samples: "np.ndarray"
    rate: int
    seconds: float
    source_rate: int
    start: float = 0.0


def load_audio(source: Any, *, rate: int, name: str = "", start: float = 0.0, seconds: float = 0.0) -> DecodedAudio:
    """Audio, or a segment of it, mono at a rate; two calls give the same bits.

    Files and bytes are decoded by libsndfile (WAV, FLAC, Ogg Vorbis and Opus, AIFF, AU, CAF) or FFmpeg (MP3, M4A, AAC, MP4, MOV,
    Matroska, WebM, WMA, AMR, 3GP, AVI, MPEG: of a video its audio track, where it begins in the video), in a process with limits on
    memory and time that reaches no other file. Channels are mixed to one by their mean, all alike (of 5.1 too); soxr resamples
    ("HQ"). Of a file that was cut off, what is there is the audio, but for FLAC, M4A and what else cannot be read so. May be called from many threads.

    Args:
        source: a `Path`, bytes, an open file, a `Waveform`, an `Excerpt` of these, or datasets' {"array", "sampling_rate"}. A bare array is refused:
            it does not tell its rate.
        rate: Hz of what comes out, 1,000 to 768,000. name: what messages call it; by default the path, or the size.
        start, seconds: a segment, in seconds of the source; `seconds` 0 is to its end. What lies before is not decoded where the
            format can be searched. A segment begins where the file's times say: in Matroska and WebM they are exact to a millisecond.

    Raises:
        InputError: the subclass says whether it is missing, no audio, damaged (CorruptAudioError), over `MAX_SAMPLES`
            (AudioTooLongError), or without usable samples (InvalidAudioError).
        MissingPackageError: the extra `audio` is not installed. ArgumentError: `rate`, `start` or `seconds` is no such number.
    """
    import numpy as np

    if isinstance(source, Excerpt):
        name = name or str(source)
        source, start, seconds = source.within(start, seconds)
    segment = _segment(rate, start, seconds, MAX_SAMPLES)
    given, name = _source(source, name)
    content = bytearray()
    pieces = _pieces(given, segment, name, _decoders())
    source_rate = next(pieces)
    for piece in pieces:
        content += memoryview(piece).cast("B")
    samples = np.frombuffer(content, np.float32)
    if not len(samples):
        where = f"no samples from {start:g} s on" if start else "no samples"
        raise InvalidAudioError(f"{name} holds {where}", what=name)
    return DecodedAudio(samples, segment.rate, len(samples) / segment.rate, source_rate, float(start))


def longer_than(source: Any, seconds: float) -> bool:
    """Whether audio is longer than so many seconds, from 1; no more of it is decoded, and often next to nothing.

    Raises:
        As `load_audio`, but for what only a whole reading would show.
    """
    try:
        load_audio(source, rate=MIN_RATE, start=seconds, seconds=0.1)
    except InvalidAudioError:  # no samples there; what else is wrong is said by whoever reads it all
        return False
    return True


def seconds_of(source: Any, name: str = "") -> float:
    """How many seconds audio has, up to 100 hours; all of it is decoded, since heads of files are not to be believed, and none is kept.

    Raises:
        As `load_audio`.
    """
    start = seconds = 0.0
    if isinstance(source, Excerpt):
        name = name or str(source)
        source, start, seconds = source.within(0.0, 0.0)
    segment = _segment(_MEASURED, start, seconds, MAX_STREAMED_SECONDS * _MEASURED)
    given, name = _source(source, name)
    pieces = _pieces(given, segment, name, _decoders())
    next(pieces)  # the rate
    if not (count := sum(len(piece) for piece in pieces)):
        raise InvalidAudioError(f"{name} holds no samples", what=name)
    return count / _MEASURED


def map_audio(source: Any, *, rate: int, name: str = "") -> DecodedAudio:
    """`load_audio` of audio of any length: from five minutes on its samples lie in a file without a name, and not in memory.

    Raises:
        As `load_audio`; AudioTooLongError over `MAX_MAPPED_SAMPLES`, or where there is no room on the disk for temporary files.
    """
    import numpy as np

    audio = load_audio(source, rate=rate, name=name, seconds=_IN_MEMORY_SECONDS)
    if audio.seconds < _IN_MEMORY_SECONDS:
        return audio
    start = seconds = 0.0
    if isinstance(source, Excerpt):
        name = name or str(source)
        source, start, seconds = source.within(0.0, 0.0)
    segment = _segment(rate, start, seconds, MAX_MAPPED_SAMPLES)
    given, name = _source(source, name)
    pieces = _pieces(given, segment, name, _decoders())
    source_rate = next(pieces)
    with tempfile.TemporaryFile(prefix="zoo-audio-") as file:
        try:
            for piece in pieces:
                file.write(memoryview(piece).cast("B"))
            file.flush()
        except OSError as error:
            raise AudioTooLongError(
                f"{name} is long, and {tempfile.gettempdir()} has no room for its samples ({error.strerror}); make room, or read "
                "segments of it",
                what=name,
            ) from error
        samples = np.memmap(file, np.float32, "r+")
    return DecodedAudio(samples, segment.rate, len(samples) / segment.rate, source_rate)


def iter_audio(
    source: Any, *, rate: int, seconds: float, hop: float = 0.0, name: str = "", start: float = 0.0
) -> Iterator[DecodedAudio]:
    """Windows of audio of any length, one after the other, in memory for one: those of `windows` over all of `load_audio`, to the bit.

    Args:
        source, rate, name: as `load_audio`; up to 100 hours. seconds: of a window. hop: seconds from one to the next, at most
            `seconds`, which it is by default. start: seconds of the source at which the first begins.

    Yields:
        `DecodedAudio`s; each has its `start` in the source. Audio shorter than `seconds` is one shorter window.

    Raises:
        As `load_audio`, also after windows that were good.
    """
    import numpy as np

    _check_times(seconds=seconds, hop=hop, start=start)
    if not seconds:
        raise ArgumentError("seconds is the length of a window, more than 0")
    segment = _segment(rate, start, 0.0, MAX_STREAMED_SECONDS * check_rate(rate, "rate"))
    length, step = max(round(seconds * rate), 1), max(round((hop or seconds) * rate), 1)
    windows(length, length, step)  # refuses a hop that leaves something out
    given, name = _source(source, name)
    # A process of its own: one that many share would wait for whoever takes his time between two windows.
    decoders = _new_decoders(1)
    try:
        pieces = _pieces(given, segment, name, decoders)
        source_rate = next(pieces)
        held, first, begin, last = (
            np.empty(0, np.float32),
            0,
            0,
            -1,
        )  # held[0] is sample `first`; the next window is at `begin`
        for piece in pieces:
            held = np.concatenate([held, np.asarray(piece, np.float32)])
            while begin + length <= first + len(held):
                part = held[begin - first : begin - first + length].copy()
                yield DecodedAudio(part, segment.rate, length / segment.rate, source_rate, start + begin / segment.rate)
                begin, last = begin + step, begin
            # As much is kept as the last window needs, which ends where the audio ends.
            kept = max(min(begin, first + len(held) - length), first)
            held, first = held[kept - first :], kept
        total = first + len(held)
        if not total:
            raise InvalidAudioError(f"{name} holds no samples", what=name)
        if last < 0 or last + length < total:
            begin = max(total - length, 0)
            part = held[begin - first :].copy()
            yield DecodedAudio(part, segment.rate, len(part) / segment.rate, source_rate, start + begin / segment.rate)
    finally:
        decoders.close()


def windows(samples: Any, length: int, hop: int) -> list[slice]:
    """Windows of audio: every `hop` samples one of `length`, and a last one that ends where the audio ends.

    The last is whole too, and overlaps the one before by more than the others do: a remainder of a few samples would be padded to
    a window of nearly nothing. Audio that is shorter than `length` is one shorter window.

    Args:
        samples: how many there are, or an array `(n,)`. length: of a window, from 1. hop: from one to the next, 1 to `length`.

    Raises:
        ArgumentError: `hop` would leave samples out, or a number is below 1.
    """
    count = samples if isinstance(samples, int) else len(samples)
    if count < 1 or length < 1 or not 1 <= hop <= length:
        raise ArgumentError(
            f"windows of {length} samples every {hop} over {count}: expected a length of at least 1, a hop from 1 to the length "
            "(more would leave samples out) and at least 1 sample"
        )
    if count <= length:
        return [slice(0, count)]
    starts = list(range(0, count - length + 1, hop))
    if starts[-1] + length < count:
        starts.append(count - length)
    return [slice(start, start + length) for start in starts]


def _check_times(**times: float) -> None:
    for key, value in times.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise ArgumentError(f"{key} is a time in seconds, 0 or more, not {value!r}")


def _segment(rate: Any, start: float, seconds: float, most: int) -> Segment:
    _check_times(start=start, seconds=seconds)
    if isinstance(rate, bool) or not hasattr(rate, "__index__") or not MIN_RATE <= rate <= MAX_RATE:
        raise ArgumentError(f"rate is samples a second, {MIN_RATE:,} to {MAX_RATE:,}, not {rate!r}")
    return Segment(float(start), float(seconds), int(rate), most)


@dataclass(frozen=True)
class _File:
    """A file or bytes, and FFmpeg's name of their container."""

    content: Path | bytes
    container: str


def _source(source: Any, name: str) -> tuple[Waveform | _File, str]:
    """What is to be read, recognised and checked as far as that needs no decoder."""
    waveform = as_waveform(source)
    if waveform is not None:
        name = name or repr(waveform)
        check_rate(waveform.rate, name)
        length_of(waveform, name)
        return waveform, name
    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    elif is_open_file(source):
        source = read_open_file(source)
    name = name or describe(source)
    if not isinstance(source, Path | bytes):
        remedy = "pass pathlib.Path, bytes or zoo.Waveform(samples, rate)"
        if hasattr(source, "dtype") or isinstance(source, list | tuple):
            remedy = "an array does not tell its rate: pass zoo.Waveform(samples, rate=16000)"
        elif isinstance(source, dict):
            remedy = 'a dict of audio has the keys "array" and "sampling_rate"'
        raise UnsupportedInputError(f"audio was given as {name}; {remedy}", what=name)
    head = head_of(source)
    container = container_of(head)
    if container is None:
        kind = kind_of_head(head)
        found = f"holds {kind}, not audio" if kind else what_it_looks_like(head)
        raise NotMediaError(f"{name} {found}", what=name)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_FILE_BYTES:
        raise AudioTooLongError(
            f"{name} has {size / 2**30:.1f} GiB; at most {MAX_FILE_BYTES // 2**30} are read: cut it", what=name
        )
    if find_spec("soxr") is None or (find_spec("soundfile") is None and find_spec("av") is None):
        raise MissingPackageError("audio needs soundfile, soxr and PyAV: pip install 'embedding-zoo[audio]'")
    return _File(source, container), name


def container_of(head: bytes) -> str | None:
    """FFmpeg's name of the container of audio, or of a video that may have an audio track; None for anything else.

    Args:
        head: the first kilobyte.
    """
    if head[4:8] == b"ftyp":
        return None if kind_of_head(head) == "image" else "mov"
    start = head
    if head[:3] == b"ID3" and len(head) >= 10:  # a tag of any length, with images too; what follows is MP3 but for few
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        start = head[10 + size :] or b"\xff\xfb"
        if start[:4] != b"fLaC" and not _is_adts(start):
            return "mp3"
    if start[:4] == b"RIFF" or start[:4] in (b"RF64", b"BW64"):
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(start[8:12])
    if start[:4] == b"FORM":
        return "aiff" if start[8:12] in (b"AIFF", b"AIFC") else None
    for magic, container in _MAGIC.items():
        if start.startswith(magic):
            return container
    if _is_adts(start):
        return "aac"
    if len(start) > 400 and any(start[at] == start[at + step] == 0x47 for at, step in ((0, 188), (4, 192))):
        return "mpegts"
    return "mp3" if kind_of_head(start) == "audio" else None


_MAGIC = {
    b"fLaC": "flac",
    b"OggS": "ogg",
    b".snd": "au",
    b"caff": "caf",
    b"riff\x2e\x91\xcf\x11": "w64",
    b"#!AMR": "amr",
    b"\x1a\x45\xdf\xa3": "matroska",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"\0\0\x01\xba": "mpeg",
    b"FLV\x01": "flv",
    b"wvpk": "wv",
    b"\x0b\x77": "ac3",
}


def _is_adts(head: bytes) -> bool:
    return len(head) > 3 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def _pieces(given: Waveform | _File, segment: Segment, name: str, decoders: Confined) -> Iterator[Any]:
    """First the rate of the source, then its samples at the segment's rate, float32 arrays."""
    if isinstance(given, Waveform):
        rate = check_rate(given.rate, name)
        segment.check_promise(length_of(given, name) / rate, name)
        yield rate
        yield from resampled(_blocks(given, rate, segment, name), rate, segment, name)
        return
    wanted = min(segment.start + (segment.seconds or segment.most / segment.rate), MAX_STREAMED_SECONDS)
    cpu_seconds = _SECONDS + wanted / _AUDIO_A_SECOND
    with opened(given.content) as file:
        answer = decoders.pieces(
            name,
            file,
            most=4 * (segment.most + segment.rate),
            count=segment.most // _PIECE + 4,
            seconds=_PATIENCE * cpu_seconds,
            cpu_seconds=cpu_seconds,
            container=given.container,
            segment=segment._asdict(),
        )
        try:
            yield from _received(answer, name)
        except ConfinedError as error:
            if error.reason in ("late", "memory"):
                raise AudioTooLongError(
                    f"{name} is too much work: its decoder {error}; cut it, or convert it to FLAC", what=name
                ) from error
            raise CorruptAudioError(
                f"{name} is damaged, or made to do harm: its decoder {error}; try to convert it to FLAC", what=name
            ) from error
        finally:
            answer.close()


def _received(answer: Iterator[tuple[dict[str, Any], bytearray]], name: str) -> Iterator[Any]:
    """The answer's samples; the process, which a crafted file may have taken over, is believed nothing."""
    import numpy as np

    facts, _ = next(answer, ({}, bytearray()))
    rate = facts.get("source_rate")
    if not isinstance(rate, int) or not MIN_RATE <= rate <= MAX_RATE:
        raise ConfinedError("gave no rate", "lied")
    yield rate
    for _, content in answer:
        if len(content) % 4:
            raise ConfinedError("gave no samples", "lied")
        samples = np.frombuffer(content, np.float32)
        if not np.dot(samples, samples) <= len(samples) * (2 * LOUDEST) ** 2:  # also where one is NaN
            raise ConfinedError("gave samples that are none", "lied")
        yield samples


def _blocks(waveform: Waveform, rate: int, segment: Segment, name: str) -> Iterator["np.ndarray"]:
    for first in range(segment.first_second * rate, length_of(waveform, name), _BLOCK):
        yield mono(waveform, name, first, _BLOCK)


def _new_decoders(processes: int) -> Confined:
    return Confined("zoo.inputs.listening:decoded", memory=_MEMORY, processes=processes)


@cache
def _decoders() -> Confined:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _new_decoders(min(max(count, 2), _MOST_PROCESSES))
