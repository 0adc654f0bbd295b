"""The frames of a video file by PyAV, in the process of `zoo.inputs.decoding`: counted by packets, found by times, each exact.

A file is demuxed once without decoding, which says how many frames a player shows, when, and from which key frame each one can
be decoded; where each frame is a key frame, an MP4's own index says as much, and next to nothing is demuxed. Then only what the
taken frames need is decoded. Each frame carries the number of its packet through the decoder, so that none is taken for another.
Where the packets do not tell (times that are missing, come twice or jump; a key frame that is
none), all frames are decoded and counted instead.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.errors import CorruptVideoError, VideoTooLargeError
from zoo.inputs.image import load_pixels
from zoo.inputs.packets import NO_TIME, Packets, completed
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

_FAR = 16 * 2**20  # bytes that are skipped by seeking, not by demuxing
_SOUGHT = frozenset({"mov", "matroska", "mpegts", "mpeg"})
_RESTING = 32 * 2**20  # bytes of packets that are kept between two requests
_BUFFER = 2**17
_TOGETHER, _TOGETHER_BYTES = 256, 2**23  # packets that are looked at together, which is several times as fast
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


class VideoFile:
    """One video file that is open to be read.

    Args:
        file: bytes that can be sought. form: FFmpeg's name of its container. bounds: what it may hold.

    Raises:
        CorruptVideoError: there is no video in it that can be decoded. VideoTooLargeError: its frames, or their number.
    """

    def __init__(self, file: io.RawIOBase, form: str, bounds: Bounds, name: str) -> None:
        self.file, self.form, self.bounds, self.name = file, form, bounds, name
        self._limits = {"max_pixels": str(bounds.pixels + bounds.pixels // 8)}  # of whole blocks, a little more
        self._end = file.seek(0, io.SEEK_END)
        self.container, self.stream = self._opened()
        self.context = self.stream.codec_context
        check_room(1, self.context.height, self.context.width, bounds, name)
        self.context.thread_count = 1
        self.context.options = self._limits
        self.reformatter = av.video.reformatter.VideoReformatter()
        self.size: tuple[int, int] | None = None
        self._demuxed: Iterator[tuple[int, Packet]] = iter(())
        self._sought = False
        self._started(self._indexed() or self._scanned())

    def _started(self, packets: Packets) -> None:
        self.packets, self._at = packets, len(packets)
        self._told: tuple[np.ndarray, np.ndarray] | tuple[()] | None = None
        self._count: tuple[np.ndarray, np.ndarray] | None = None

    def rest(self) -> None:
        """Keeps little, until more of it is asked for; packets only where they could not be sought."""
        if self.form in _SOUGHT:
            self.packets.let_go(_RESTING)

    def close(self) -> None:
        """Lets go of the file."""
        self.container.close()
        self.file.close()

    def attempts(self, choose: Choose) -> Iterator[Taken]:
        """What `choose` takes, by less and less that is believed: where it ends in an UntoldError, the next one is tried.

        First by the packets' times, then by groups of frames, and at last by decoding and counting all.
        """
        with suppress(UntoldError):
            if self._told is None:
                self._told = self._order() or ()
            if self._told:
                order, places = self._told
                yield self._by_packets(choose, order, places)
                # Where a file was cut off, its last packet may be half a frame.
                if self.form != "mov" and len(order) > 1:
                    yield self._by_packets(choose, order[order != len(self.packets) - 1], places)
        if self.packets.by_index:  # which was wrong
            self._reopen()
            self._started(self._scanned())
            yield from self.attempts(choose)
            return
        with suppress(UntoldError):
            groups = self.packets.groups
            if groups is not None:
                count = len(self.packets)
                shown = self._shown(np.full(count, NO_TIME), np.arange(count))
                self.size, indices = None, choose(shown)
                yield Taken(shown, indices, map(self._rgb, self._grouped(groups, indices)))
        self.size = None
        self._count = self._count or self._counted()
        numbers, times = self._count
        shown = self._shown(times, numbers)
        indices = choose(shown)
        yield Taken(shown, indices, map(self._rgb, self._picked(indices)))

    def _by_packets(self, choose: Choose, order: np.ndarray, places: np.ndarray) -> Taken:
        self.size = None
        shown = self._shown(self.packets.pts[order], order)
        indices = choose(shown)
        return Taken(shown, indices, map(self._rgb, self._found(order, places, indices)))

    # ---- Packets.

    def _opened(self) -> "tuple[InputContainer, VideoStream]":
        self.file.seek(0)
        container = av.open(
            self.file,
            format=self.form,
            buffer_size=_BUFFER,
            options={"protocol_whitelist": "none", "format_whitelist": self.form, **self._limits},
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
        return container, stream

    def _indexed(self) -> Packets | None:
        """The packets by the file's own index, where that tells all of them; the last one is looked at.

        An index has the times of decoding. Those of showing are the same where each frame is a key frame, or else the first packet
        that is taken differs from it.
        """
        entries = self.stream.index_entries if self.form == "mov" else ()
        if not 1 < len(entries) <= self.bounds.frames:
            return None
        packets = Packets(self.form, self.context.codec.canonical_name, self.context.extradata or b"")
        if not packets.take_index(entries, self._end):
            return None
        with suppress(av.error.FFmpegError):
            self.container.seek(int(packets.dts[-1]), stream=self.stream)
            demuxed = self._demux()
            last = next(demuxed, None)
            if last is not None and next(demuxed, None) is None and _place(last) == packets.place(-1):
                packets.last = last.duration or 0
                return packets
        self._reopen()
        return None

    def _scanned(self) -> Packets:
        packets = Packets(self.form, self.context.codec.canonical_name, self.context.extradata or b"")
        count, number, waiting, size = -1, 0, [], 0  # the last packet stands for the end
        for packet in self.container.demux(self.stream):
            count += 1
            if not packet.size:  # a frame that was dropped, and shows the one before
                continue
            number += 1
            waiting.append(packet)
            size += packet.size
            if len(waiting) == _TOGETHER or size > _TOGETHER_BYTES:
                packets.extend(waiting)
                waiting, size = [], 0
            if number > self.bounds.frames:
                raise VideoTooLargeError(
                    f"{self.name} has over {self.bounds.frames:,} frames, and no more are read: cut it", what=self.name
                )
        packets.extend(waiting)
        promised = len(self.stream.index_entries) if self.form == "mov" else 0
        if promised > count:
            raise CorruptVideoError(
                f"{self.name} is cut off: its head promises {promised:,} frames and {count:,} are there", what=self.name
            )
        if not len(packets):
            raise CorruptVideoError(f"{self.name} has no frames", what=self.name)
        return packets

    def _order(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The packets of the frames that are shown, in that order, and the places of all packets; None where they do not tell."""
        places = self.packets.places()
        order = self.packets.order(places) if places is not None else None
        if places is None or order is None or self.packets.keys[order[0]]:
            return None if places is None or order is None else (order, places)
        # It begins within a group of frames, or with some that need what was cut away: the decoder gives none of those.
        first = next((frame for frame in self._decoded(0, len(self.packets), lenient=True)), None)
        number = first.pts if first is not None else None
        return (order[places[order] >= places[number]], places) if number is not None else None

    def _shown(self, times: np.ndarray, numbers: np.ndarray) -> Shown:
        """Facts of frames by their times in the stream's unit, and by the numbers of their packets."""
        unit = self.stream.time_base
        rate = float(self.stream.average_rate or 0)
        keys, count = self.packets.keys[numbers], len(times)
        known = completed(times) if unit is not None and self.form != "mpegvideo" else None
        if known is None:
            seconds = np.arange(count) / rate if rate else np.full(count, np.nan)
            return Shown(seconds, keys, rate)
        start = self.container.start_time
        origin = float(start / av.time_base / unit) if start is not None else float(known[0])
        if self.form == "mov":  # its times are those of a player's clock
            origin = min(origin, 0.0)
        elif self.form == "avi":  # has no times
            origin = float(known[0])
        seconds = (known - min(origin, float(known[0]))) * unit.numerator / unit.denominator
        span = float(seconds[-1] - seconds[0])
        # To the end of the last frame: its own duration, else as long as the others are on average.
        length = span + (self.packets.last * float(unit) or (span / (count - 1) if count > 1 else 0.0))
        # The container's rate is kept where it fits the times to 1 %; else frames / seconds.
        if not length or (rate and abs(count / rate - length) <= max(0.01 * length, 0.0015)):
            return Shown(seconds, keys, rate)
        return Shown(seconds, keys, count / length)

    def _from(self, first: int, end: int) -> Iterator[tuple[int, "Packet"]]:
        """Packets with their numbers, from one to before another."""
        if self.packets.kept is not None:
            yield from enumerate(self.packets.kept[first:end], first)
            return
        far = _BUFFER if self.packets.by_index else _FAR
        if first < self._at or self.packets.pos[first] - self.packets.pos[self._at] > far:
            self._seek(first)
        at = first  # the next one that is to be given
        while at < end:
            number, packet = next(self._demuxed, (len(self.packets), None))
            self._at = number + 1
            astray = packet is None or (number >= at and _place(packet) != self.packets.place(number))
            if astray:  # by a search
                if self._sought is False:
                    raise UntoldError("other packets than before")
                self._reopen()
            elif number >= at:
                yield number, packet
                at = number + 1

    def _seek(self, first: int) -> None:
        """Demuxes anew, from a packet or one before it."""
        if first and self.form in _SOUGHT:
            times = self.packets.dts if self.form == "mov" else self.packets.pts
            with suppress(av.error.FFmpegError):
                if self.form in ("mov", "matroska"):
                    self.container.seek(int(times[first]), stream=self.stream)
                else:
                    self.container.seek(int(self.packets.pos[first]), unsupported_byte_offset=True)
                packets = self._demux()
                start = next(packets, None)
                place = _place(start) if start is not None else None
                for at in range(first, max(-1, first - 1000), -1):
                    if self.packets.place(at) == place:
                        self._sought, self._at, self._demuxed = True, at, _numbered(at, start, packets)
                        return
        self._reopen()

    def _reopen(self) -> None:
        self.container, self.stream = self._opened()
        self._sought, self._at, self._demuxed = False, 0, enumerate(self._demux())

    def _demux(self) -> Iterator["Packet"]:
        return (packet for packet in self.container.demux(self.stream) if packet.size)

    # ---- Frames.

    def _decoded(
        self,
        first: int,
        end: int,
        *,
        wanted: frozenset[int] | None = None,
        left_out: frozenset[int] = frozenset(),
        lenient: bool = False,
    ) -> "Iterator[VideoFrame]":
        """The frames of packets from `first` to before `end`, in the order in which they are shown; their `pts` is the packet's number.

        Args:
            wanted: numbers of packets; of others, frames that no other one needs may be left out. left_out: those that are not
                decoded. lenient: what cannot be decoded before the first frame, and at the end of a file that says nothing of its
                length, is passed over.
        """
        context = self.context
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        skips = wanted is not None and self.packets.disposable
        leaves = self.packets.leaves if wanted is not None else b""
        given = False
        for number, packet in self._from(first, end):
            if (left_out and number in left_out) or (leaves and leaves[number] and number not in wanted):
                continue
            if skips:
                context.skip_frame = "DEFAULT" if number in wanted else "NONREF"
            packet.pts = number
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

    def _found(self, order: np.ndarray, places: np.ndarray, indices: np.ndarray) -> "Iterator[VideoFrame]":
        """The frames of those places in `order`, each run of them from the key frame that it begins with."""
        targets = order[indices]
        # Packet number to place among the frames shown, -1 where it shows none.
        ranks = np.full(len(self.packets), -1)
        ranks[order] = np.arange(len(order))
        ranks = ranks.tolist()  # of which one is taken sooner
        begins = [_begin(self.packets.begins, places, int(target)) for target in targets]
        place = 0
        while place < len(targets):
            stop = place
            while stop < len(targets) and begins[stop] == begins[place]:
                stop += 1
            first, end = begins[place], int(targets[place:stop].max()) + 1
            waiting, before = targets[place:stop].tolist(), -1
            # Shown before the key frame and made of what lies before it, as in open groups.
            early = frozenset((first + np.flatnonzero(places[first:end] < places[first])).tolist())
            for frame in self._decoded(first, end, wanted=frozenset(waiting), left_out=early):
                number = frame.pts
                if number is None or ranks[number] <= before:
                    raise UntoldError("other frames than the packets say, or in another order")
                if frame.is_corrupt:  # and what is made of it is not right either
                    raise UntoldError("a damaged frame")
                before = ranks[number]
                if number == waiting[0]:
                    yield frame
                    waiting.pop(0)
                    if not waiting:
                        break
            if waiting:
                raise UntoldError("a packet without a frame")
            place = stop

    def _grouped(self, groups: np.ndarray, indices: np.ndarray) -> "Iterator[VideoFrame]":
        """The frames of those places, of closed groups: each has as many frames as packets, in an order of its own."""
        ends = [*groups[1:].tolist(), len(self.packets)]
        for first, end in zip(groups.tolist(), ends, strict=True):
            waiting = indices[(indices >= first) & (indices < end)].tolist()
            if not waiting:
                continue
            place = first
            for frame in self._decoded(first, end):
                if frame.is_corrupt:
                    raise UntoldError("a damaged frame")
                if place in waiting:
                    yield frame
                place += 1
            if place != end:
                raise UntoldError("a group of fewer frames than packets")

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """All frames decoded: the packets that they come from, and their times."""
        numbers, times = [], []
        for frame in self._all():
            numbers.append(frame.pts or 0)
            times.append(NO_TIME if frame.pts is None else int(self.packets.pts[frame.pts]))
        if not numbers:
            raise CorruptVideoError(f"{self.name} is damaged: none of its frames can be decoded", what=self.name)
        return np.array(numbers), np.array(times, np.int64)

    def _picked(self, indices: np.ndarray) -> "Iterator[VideoFrame]":
        """The frames of those places among all that are decoded."""
        waiting, damaged = indices.tolist(), None
        for place, frame in enumerate(self._all()):
            damaged = place if frame.is_corrupt else None if frame.key_frame else damaged
            if place == waiting[0]:
                if damaged is not None:
                    raise self._damaged(f"frame {damaged} cannot be decoded")
                yield frame
                waiting.pop(0)
                if not waiting:
                    return

    def _all(self) -> "Iterator[VideoFrame]":
        try:
            for frame in self._decoded(0, len(self.packets), lenient=True):
                if not (frame.is_corrupt and self.form != "mov" and frame.pts == len(self.packets) - 1):
                    yield frame
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


def _place(packet: "Packet") -> tuple[int, int]:
    return -1 if packet.pos is None else packet.pos, NO_TIME if packet.pts is None else packet.pts


def _numbered(at: int, start: "Packet", packets: Iterator["Packet"]) -> Iterator[tuple[int, "Packet"]]:
    yield at, start
    yield from enumerate(packets, at + 1)


def _begin(begins: np.ndarray, places: np.ndarray, target: int) -> int:
    """The last key frame from which a frame can be decoded: it comes before it, and is shown before it."""
    for key in begins[: np.searchsorted(begins, target, "right")][::-1].tolist():
        if places[key] <= places[target]:
            return key
    return 0


def _matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """How a player turns it: `(a, b, c, d)` of x' = a x + c y, y' = b x + d y."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            # FFmpeg's 3 × 3 matrix by rows, a b u, c d v, x y w, in fixed point: only the signs and
            # which is larger are used.
            values = np.frombuffer(bytes(data), np.int32)
            return int(values[0]), int(values[1]), int(values[3]), int(values[4])
    return 1, 0, 0, 1


def upright(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Pixels `(height, width, 3)` turned or mirrored by the matrix of a player, to the nearest quarter of a circle."""
    a, b, c, d = matrix
    # Nearer to a quarter turn: x' comes from y and y' from x, so the axes change places and c, b are the diagonal.
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
