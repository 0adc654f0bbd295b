"""The frames of a video file by PyAV, in the process of `zoo.inputs.decoding`: counted by packets, found by times, each exact.

A file is demuxed once without decoding, which says how many frames a player shows, when, and from which key frame each one can
be decoded. Then only what the taken frames need is decoded. Each frame carries the number of its packet through the decoder, so
that none is taken for another. Where the packets do not tell (times that are missing, come twice or jump; a key frame that is
none), all frames are decoded and counted instead.
"""

import io
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.errors import CorruptVideoError, VideoTooLargeError
from zoo.inputs.image import load_pixels
from zoo.inputs.video import Bounds, check_room

with suppress(ImportError, OSError):  # animations do without
    import av

if "av" in globals():  # all that it imports when it is used: by then no file can be opened
    import av.audio.codeccontext
    import av.audio.stream
    import av.container
    import av.sidedata.sidedata
    import av.stream
    import av.subtitles.codeccontext
    import av.subtitles.stream
    import av.video.codeccontext
    import av.video.reformatter
    import av.video.stream

    av.logging.set_level(None)  # what FFmpeg says of a damaged video is in our error

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_NO_TIME = np.iinfo(np.int64).min
_KEY, _SHOWN = 1, 2
_KEPT = 128 * 2**20  # bytes of packets that are kept for the decoder; of a larger file they are demuxed again
_FAR = 16 * 2**20  # bytes that are skipped by seeking, not by demuxing
_REORDERED = 32  # places that a frame may be away from its packet's; H.264 and H.265 know 16
_BUFFER = 2**17
# Decoders where a frame that no other one needs says so, and is left out at no one's cost.
_DISPOSABLE = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})

Choose = Callable[["Shown"], np.ndarray]


class Shown(NamedTuple):
    """The frames that a player shows.

    Attributes:
        seconds: `(total,)` when, from the beginning of the file, NaN where nothing says so. keys: `(total,)` bool, key frames.
        fps: frames a second on average, 0.0 where nothing says so.
    """

    seconds: np.ndarray
    keys: np.ndarray
    fps: float


class Taken(NamedTuple):
    """What is taken of a video: which of the frames that are shown, and those frames, in order, as RGB `(height, width, 3)`."""

    shown: Shown
    indices: np.ndarray
    frames: Iterator[np.ndarray]


class UntoldError(Exception):
    """The packets did not tell what the decoder gave: try the next of `VideoFile.attempts`."""


@dataclass
class _Packets:
    """Of each packet of the stream, in order: times in the stream's unit, place in the file, flags; and the packets themselves."""

    pts: array = field(default_factory=lambda: array("q"))
    dts: array = field(default_factory=lambda: array("q"))
    pos: array = field(default_factory=lambda: array("q"))
    flags: bytearray = field(default_factory=bytearray)
    kept: "list[Packet] | None" = field(default_factory=list)
    bytes: int = 0
    last: int = 0  # how long the last one in time is shown, in the stream's unit

    def add(self, packet: "Packet", shown: bool) -> None:
        self.pts.append(_NO_TIME if packet.pts is None else packet.pts)
        self.dts.append(_NO_TIME if packet.dts is None else packet.dts)
        self.pos.append(-1 if packet.pos is None else packet.pos)
        self.flags.append(_KEY * packet.is_keyframe | _SHOWN * shown)
        self.bytes += packet.size
        if self.kept is not None:
            packet.opaque = (len(self.kept),)
            self.kept.append(packet)
            if self.bytes > _KEPT:
                self.kept = None

    def __len__(self) -> int:
        return len(self.flags)


class VideoFile:
    """One video file that is open to be read.

    Args:
        file: bytes that can be sought. form: FFmpeg's name of its container. bounds: what it may hold.

    Raises:
        CorruptVideoError: there is no video in it that can be decoded. VideoTooLargeError: its frames, or their number.
    """

    def __init__(self, file: io.RawIOBase, form: str, bounds: Bounds, name: str) -> None:
        self.file, self.form, self.bounds, self.name = file, form, bounds, name
        self.container, self.stream = self._opened()
        context = self.stream.codec_context
        check_room(1, context.height, context.width, bounds, name)
        self.codec = context.name
        self.reformatter = av.video.reformatter.VideoReformatter()
        self.size: tuple[int, int] | None = None
        self.packets = self._scanned()
        self._demuxed: Iterator[tuple[int, Packet]] = iter(())
        self._at = len(self.packets)

    def attempts(self, choose: Choose) -> Iterator[Taken]:
        """What `choose` takes: by the packets, where they tell, and where that ends in an UntoldError by counting frames."""
        with suppress(UntoldError):
            order = self._order()
            if order is not None:
                shown = self._shown(np.frombuffer(self.packets.pts, np.int64)[order], order)
                indices = choose(shown)
                yield Taken(shown, indices, map(self._rgb, self._found(order, indices)))
        self.size = None
        numbers, times = self._counted()
        shown = self._shown(times, numbers)
        indices = choose(shown)
        yield Taken(shown, indices, map(self._rgb, self._picked(indices)))

    # ---- Packets.

    def _opened(self) -> "tuple[InputContainer, VideoStream]":
        self.file.seek(0)
        limits = {"max_pixels": str(self.bounds.pixels + self.bounds.pixels // 8)}  # of whole blocks, a little more
        container = av.open(
            self.file,
            format=self.form,
            buffer_size=_BUFFER,
            options={"protocol_whitelist": "none", "format_whitelist": self.form, **limits},
            metadata_errors="ignore",
        )
        hidden = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        streams = [s for s in container.streams.video if not s.disposition & hidden and s.codec_context is not None]
        if not streams:
            raise CorruptVideoError(
                f"{self.name} holds no video that can be decoded: audio alone, or a codec that FFmpeg does not know; "
                "convert it to H.264 in MP4",
                what=self.name,
            )
        best = container.streams.best("video")
        stream = best if best in streams else streams[0]
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        context = stream.codec_context
        context.thread_count, context.copy_opaque = 1, True
        context.options = {"err_detect": "explode", **limits}
        return container, stream

    def _scanned(self) -> _Packets:
        packets, latest, count = _Packets(), _NO_TIME, -1  # the last one stands for the end
        hides = self.codec == "vp8"
        for packet in self.container.demux(self.stream):
            count += 1
            if not packet.size:  # a frame that was dropped, and shows the one before
                continue
            # VP8 has frames that only others are made of: its fifth bit says whether it is shown.
            packets.add(packet, not packet.is_discard and not (hides and not memoryview(packet)[0] & 0x10))
            if packet.pts is not None and packet.pts > latest and packets.flags[-1] & _SHOWN:
                latest, packets.last = packet.pts, packet.duration or 0
            if len(packets) > self.bounds.frames:
                raise VideoTooLargeError(
                    f"{self.name} has over {self.bounds.frames:,} frames, and no more are read: cut it", what=self.name
                )
        promised = len(self.stream.index_entries) if self.form == "mov" else 0
        if promised > count:
            raise CorruptVideoError(
                f"{self.name} is cut off: its head promises {promised:,} frames and {count:,} are there", what=self.name
            )
        if not packets.flags:
            raise CorruptVideoError(f"{self.name} has no frames", what=self.name)
        return packets

    def _order(self) -> np.ndarray | None:
        """The packets of the frames that are shown, by time; None where times do not tell."""
        packets = self.packets
        flags = np.frombuffer(packets.flags, np.uint8)
        pts, dts = (np.frombuffer(times, np.int64) for times in (packets.pts, packets.dts))
        shown = np.flatnonzero(flags & _SHOWN)
        if not len(shown) or (self.form == "avi" and self.codec in ("h264", "hevc", "vc1")):
            return None
        if self.codec == "mpeg4" and self._is_packed():
            return None
        known = dts[dts != _NO_TIME]
        if (pts[shown] == _NO_TIME).any() or (np.diff(known) < 0).any():
            return None
        ranks = np.argsort(pts[shown], kind="stable")
        order = shown[ranks]
        if (np.diff(pts[order]) <= 0).any() or (np.abs(ranks - np.arange(len(ranks))) > _REORDERED).any():
            return None
        if flags[order[0]] & _KEY:
            return order
        # It begins within a group of frames, or with some that need what was cut away: the decoder gives none of those.
        first = next((frame for frame in self._decoded(0, len(packets), lenient=True)), None)
        number = _number(first) if first is not None else None
        return order[pts[order] >= pts[number]] if number is not None else None

    def _is_packed(self) -> bool:
        """Whether two frames are in one packet, as in DivX's AVI: its name then ends so ("DivX503b1393p")."""
        start = self.stream.codec_context.extradata or b""
        start += bytes(self.packets.kept[0])[:4096] if self.packets.kept else b""
        at = start.find(b"DivX")
        return at >= 0 and start[at : at + 24].partition(b"\0")[0].endswith(b"p")

    def _shown(self, times: np.ndarray, numbers: np.ndarray) -> Shown:
        """Facts of frames by their times in the stream's unit, and by the numbers of their packets."""
        unit = self.stream.time_base
        rate = float(self.stream.average_rate or 0)
        keys = (np.frombuffer(self.packets.flags, np.uint8)[numbers] & _KEY).astype(bool)
        if unit is None or (times == _NO_TIME).any() or (np.diff(times) <= 0).any():
            seconds = np.arange(len(times)) / rate if rate else np.full(len(times), np.nan)
            return Shown(seconds, keys, rate)
        start = self.container.start_time
        origin = float(start / av.time_base / unit) if start is not None else float(times[0])
        if self.form == "mov":  # its times are those of a player's clock
            origin = min(origin, 0.0)
        elif self.form == "avi":  # has no times
            origin = float(times[0])
        seconds = (times - min(origin, float(times[0]))) * unit.numerator / unit.denominator
        count, span = len(times), float(seconds[-1] - seconds[0])
        length = span + (self.packets.last * float(unit) or (span / (count - 1) if count > 1 else 0.0))
        if not length or (rate and abs(count / rate - length) <= max(0.01 * length, 0.0015)):
            return Shown(seconds, keys, rate)
        return Shown(seconds, keys, count / length)

    def _from(self, first: int) -> Iterator[tuple[int, "Packet"]]:
        """Packets with their numbers, from one on."""
        if self.packets.kept is not None:
            yield from ((number, self.packets.kept[number]) for number in range(first, len(self.packets)))
            return
        if first < self._at or self.packets.pos[first] - self.packets.pos[self._at] > _FAR:
            self._seek(first)
        for number, packet in self._demuxed:
            self._at = number + 1
            if number >= first:
                packet.opaque = (number,)
                yield number, packet

    def _seek(self, first: int) -> None:
        """Demuxes anew, from a packet or one before it."""
        numbers = {}
        if self.form in ("mov", "matroska") and first:
            times = self.packets.dts if self.form == "mov" else self.packets.pts
            numbers = {(self.packets.pos[n], self.packets.pts[n]): n for n in range(max(0, first - 1000), first + 1)}
            with suppress(av.error.FFmpegError):
                self.container.seek(times[first], stream=self.stream)
                packets = self._demux()
                start = next(packets, None)
                at = numbers.get((start.pos, start.pts)) if start is not None else None
                if at is not None:
                    self._at, self._demuxed = at, _numbered(at, start, packets)
                    return
        self.container.close()
        self.container, self.stream = self._opened()
        packets = self._demux()
        self._at, self._demuxed = 0, enumerate(packets)

    def _demux(self) -> Iterator["Packet"]:
        return (packet for packet in self.container.demux(self.stream) if packet.size)

    # ---- Frames.

    def _decoded(
        self, first: int, end: int, *, wanted: frozenset[int] | None = None, lenient: bool = False
    ) -> "Iterator[VideoFrame]":
        """The frames of packets from `first` to before `end`, in the order in which they are shown.

        Args:
            wanted: numbers of packets; of others, frames that no other one needs may be left out. lenient: what cannot be
                decoded before the first frame, and at the end of a file that says nothing of its length, is passed over.
        """
        context = self.stream.codec_context
        context.flush_buffers()
        skips = wanted is not None and self.codec in _DISPOSABLE
        given = False
        for number, packet in self._from(first):
            if number >= end:
                break
            if skips:
                context.skip_frame = "DEFAULT" if number in wanted else "NONREF"
            try:
                frames = context.decode(packet)
            except av.error.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                if lenient and (not given or (number == len(self.packets) - 1 and self.form != "mov")):
                    continue
                raise UntoldError(f"the packet {number} of {len(self.packets)} cannot be decoded: {error}") from error
            given = given or bool(frames)
            yield from frames
        context.skip_frame = "DEFAULT"
        yield from context.decode(None)

    def _found(self, order: np.ndarray, indices: np.ndarray) -> "Iterator[VideoFrame]":
        """The frames of those places in `order`, each run of them from the key frame that it begins with."""
        pts = np.frombuffer(self.packets.pts, np.int64)
        flags = np.frombuffer(self.packets.flags, np.uint8)
        targets = order[indices]
        keys = np.flatnonzero((flags & _KEY) & (pts != _NO_TIME))
        ranks = np.full(len(self.packets), -1)
        ranks[order] = np.arange(len(order))
        begins = [_begin(keys, pts, int(target)) for target in targets]
        place = 0
        while place < len(targets):
            stop = place
            while stop < len(targets) and begins[stop] == begins[place]:
                stop += 1
            run = targets[place:stop]
            waiting, before = run.tolist(), -1
            for frame in self._decoded(begins[place], int(run.max()) + 1, wanted=frozenset(waiting)):
                number = _number(frame)
                if number is None or ranks[number] <= before:
                    raise UntoldError("other frames than the packets say, or in another order")
                before = ranks[number]
                if number == waiting[0]:
                    if frame.is_corrupt:
                        raise UntoldError("a damaged frame")
                    yield frame
                    waiting.pop(0)
                    if not waiting:
                        break
            if waiting:
                raise UntoldError("a packet without a frame")
            place = stop

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """All frames decoded: the packets that they come from, and their times."""
        numbers, times = [], []
        for frame in self._all():
            numbers.append(_number(frame) or 0)
            times.append(_NO_TIME if frame.pts is None else frame.pts)
        if not numbers:
            raise CorruptVideoError(f"{self.name} is damaged: none of its frames can be decoded", what=self.name)
        return np.array(numbers), np.array(times, np.int64)

    def _picked(self, indices: np.ndarray) -> "Iterator[VideoFrame]":
        """The frames of those places among all that are decoded."""
        waiting = indices.tolist()
        for place, frame in enumerate(self._all()):
            if place == waiting[0]:
                if frame.is_corrupt:
                    raise self._damaged(f"frame {place}")
                yield frame
                waiting.pop(0)
                if not waiting:
                    return

    def _all(self) -> "Iterator[VideoFrame]":
        try:
            yield from self._decoded(0, len(self.packets), lenient=True)
        except UntoldError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> CorruptVideoError:
        return CorruptVideoError(f"{self.name} is damaged: {what}; try to convert it to H.264 in MP4", what=self.name)

    def _rgb(self, frame: "VideoFrame") -> np.ndarray:
        """A frame as uint8 `(height, width, 3)`, upright, of the size of the first one."""
        self.size = self.size or (frame.width, frame.height)
        alpha = any(component.is_alpha for component in frame.format.components)
        form = "rgba" if alpha else "rgb24"
        width, height = self.size
        converted = self.reformatter.reformat(frame, width=width, height=height, format=form, threads=1)
        pixels = converted.to_ndarray()
        return upright(load_pixels(pixels) if alpha else pixels, _matrix(frame))


def _numbered(at: int, start: "Packet", packets: Iterator["Packet"]) -> Iterator[tuple[int, "Packet"]]:
    yield at, start
    yield from enumerate(packets, at + 1)


def _number(frame: "VideoFrame") -> int | None:
    """The number of the packet that a frame comes from.

    It stands in a tuple of its own: PyAV finds such objects by their address, and one small number is one object for all.
    """
    return frame.opaque[0] if frame.opaque else None


def _begin(keys: np.ndarray, pts: np.ndarray, target: int) -> int:
    """The last key frame from which a frame can be decoded: it comes before it, and is shown before it."""
    for key in keys[: np.searchsorted(keys, target, "right")][::-1].tolist():
        if pts[key] <= pts[target]:
            return key
    return 0


def _matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """How a player turns it: `(a, b, c, d)` of x' = a x + c y, y' = b x + d y."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            values = np.frombuffer(bytes(data), np.int32)
            return int(values[0]), int(values[1]), int(values[3]), int(values[4])
    return 1, 0, 0, 1


def upright(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Pixels `(height, width, 3)` turned or mirrored by the matrix of a player, to the nearest quarter of a circle."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
