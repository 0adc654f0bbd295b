"""The packets of a video track, before any is decoded: which frames they say are shown, in which order, and when."""

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo.inputs.av1 import Leaves

if TYPE_CHECKING:
    from av.index import IndexEntries
    from av.packet import Packet

NO_TIME = np.iinfo(np.int64).min
_KEPT = 128 * 2**20  # bytes of packets that are kept for the decoder; of a larger file they are demuxed again
_REORDERED = 32  # places that a frame may be away from its packet's; H.264 and H.265 know 16
_B_IMAGE = 3
# Codecs whose key frames can be believed; of others, some files call frames so that are made of the one before.
_KEYED = frozenset(
    {
        "h264",
        "hevc",
        "vvc",
        "av1",
        "vp8",
        "vp9",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "h263",
        "flv1",
        "msmpeg4v3",
        "msmpeg4v2",
    }
    | {
        "msmpeg4v1",
        "wmv1",
        "wmv2",
        "wmv3",
        "vc1",
        "theora",
        "mjpeg",
        "prores",
        "dnxhd",
        "ffv1",
        "cfhd",
        "rawvideo",
        "png",
    }
    | {
        "huffyuv",
        "ffvhuff",
        "utvideo",
        "magicyuv",
        "dvvideo",
        "jpeg2000",
        "jpegls",
        "v210",
        "targa",
    }
)
# Decoders where a frame that no other one needs says so, and is left out at no one's cost.
_DISPOSABLE = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})
_UNKNOWN = -1
_INSTANT = 5  # H.264's kind of unit of an image where decoding begins anew (IDR)
_REORDERS = frozenset({"h264", "hevc", "vc1"})


class Packets:
    """Of each packet, in order: times in the track's unit, place in the file, what is told of its frame; and the packets themselves.

    Args:
        form: FFmpeg's name of the container. codec: its name of the codec, whichever library decodes it. extradata: the codec's own head.

    Attributes:
        kept: the packets, None where they are too many bytes. last: how long the last frame is shown, in the track's unit, 0
            where that is not told. by_index: whether they are what the file's own index says, and none was read.
    """

    def __init__(self, form: str, codec: str, extradata: bytes) -> None:
        self.form, self.codec, self.extradata = form, codec, extradata
        self._pts, self._dts, self._pos = array("q"), array("q"), array("q")
        self._keys, self._shown = bytearray(), bytearray()
        self._kinds = bytearray()  # of frames of MPEG-1 and 2: I, P, B; 0 where that is not told
        self.kept: list[Packet] | None = []
        self.last = 0
        self.by_index = False
        self._bytes, self._latest, self._packed = 0, NO_TIME, False
        self._layers: set[int] = set()  # of time, in H.265
        self._closed = bytearray()  # of H.264: before which all frames are shown before it, and after which after it
        self.leaves = bytearray()  # of AV1: which hold frames alone that no other one is made of
        self._leaf = Leaves(extradata) if codec == "av1" else None
        # H.264 and H.265 in MP4 and Matroska: before each unit its length; elsewhere a mark.
        at = {"h264": 4, "hevc": 21}.get(codec, 0)
        self._lengths = (extradata[at] & 3) + 1 if at and len(extradata) > at and extradata[0] == 1 else 0
        self._tells_kinds, self._hides = codec in ("mpeg1video", "mpeg2video"), codec == "vp8"

    def extend(self, packets: "list[Packet]") -> None:
        """The next packets."""
        if not packets:
            return
        if self.codec == "mpeg4" and not self._keys:
            self._packed = _is_packed(bytes(memoryview(packets[0])[:4096]))
        if self._tells_kinds:
            self._kinds.extend(_kind_of_image(bytes(memoryview(packet)[:512])) for packet in packets)
        if self.codec == "hevc":
            self._tell_layers(packets)
        if self.codec == "h264" and self.form == "avi":
            images = (
                next(_images(bytes(memoryview(packet)[:4096]), self._lengths, "h264"), None) for packet in packets
            )
            self._closed.extend(image is not None and image[0] & 31 == _INSTANT for image in images)
        if self._leaf is not None:
            self.leaves.extend(self._leaf(memoryview(packet)) for packet in packets)
        # VP8 has frames that only others are made of: its fifth bit says whether it is shown.
        shown = [not packet.is_discard and not (self._hides and not memoryview(packet)[0] & 0x10) for packet in packets]
        pts = [NO_TIME if (time := packet.pts) is None else time for packet in packets]
        self._pts.extend(pts)
        self._dts.extend([NO_TIME if (time := packet.dts) is None else time for packet in packets])
        self._pos.extend([-1 if (place := packet.pos) is None else place for packet in packets])
        self._keys.extend([packet.is_keyframe for packet in packets])
        self._shown.extend(shown)
        latest = max((n for n in range(len(packets)) if shown[n]), key=pts.__getitem__, default=None)
        if latest is not None and pts[latest] > self._latest:
            self._latest, self.last = pts[latest], packets[latest].duration or 0
        if self.kept is not None:
            self._bytes += sum(packet.size for packet in packets)
            self.kept.extend(packets)
            if self._bytes > _KEPT:
                self.kept = None

    def take_index(self, entries: "IndexEntries", size: int) -> bool:
        """Takes what a file's own index says of all packets, where each is a key frame and lies in the file; whether it did.

        Args:
            size: bytes of the file.
        """
        if self.codec not in _KEYED or self._hides:
            return False
        entries = [entry for entry in entries if entry.size]  # others show the frame before
        times = array("q", [entry.timestamp for entry in entries])
        places = array("q", [entry.pos for entry in entries])
        whole = all(
            entry.is_keyframe and not entry.is_discard and 0 <= entry.pos <= size - entry.size for entry in entries
        )
        if not whole or not entries or (np.diff(np.frombuffer(times, np.int64)) <= 0).any():
            return False
        self._pts, self._dts, self._pos = times, times, places
        self._keys = self._shown = bytearray(b"\1") * len(entries)
        self.kept, self.by_index = None, True
        return True

    def place(self, number: int) -> tuple[int, int]:
        """By what a packet is known again: where it lies, and its time."""
        return self._pos[number], self._pts[number]

    def _tell_layers(self, packets: "list[Packet]") -> None:
        for packet in packets:
            if len(self._layers) > 1:
                return
            image = next(_images(bytes(memoryview(packet)[:4096]), self._lengths, "hevc"), None)
            self._layers.add(_UNKNOWN if image is None else (image[1] & 7) - 1)

    @property
    def groups(self) -> np.ndarray | None:
        """Where groups of frames begin that can be decoded and counted apart, where no times tell; None for none such."""
        return np.flatnonzero(np.frombuffer(self._closed, bool)) if self._closed and self._closed[0] else None

    def let_go(self, most: int) -> None:
        """Keeps packets of so many bytes at most, and else none; they can be demuxed again."""
        if self._bytes > most:
            self.kept = None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def pts(self) -> np.ndarray:
        """When the frame of each is shown, `NO_TIME` where that is not told."""
        return np.frombuffer(self._pts, np.int64)

    @property
    def dts(self) -> np.ndarray:
        """When each is decoded."""
        return np.frombuffer(self._dts, np.int64)

    @property
    def pos(self) -> np.ndarray:
        """Where each lies in the file, -1 where that is not told."""
        return np.frombuffer(self._pos, np.int64)

    @property
    def keys(self) -> np.ndarray:
        """Which are key frames, bool."""
        return np.frombuffer(self._keys, bool)

    @property
    def begins(self) -> np.ndarray:
        """The numbers of those with which decoding can begin, the first one aside."""
        return np.flatnonzero(self.keys) if self.codec in _KEYED else np.zeros(0, np.int64)

    @property
    def disposable(self) -> bool:
        """Whether the decoder may leave out frames that no other one needs.

        H.265 says so of frames that none of the same layer of time needs, which is all only where there is one layer.
        """
        return self.codec in _DISPOSABLE or (
            self.codec == "hevc" and len(self._layers - {_UNKNOWN}) == len(self._layers) == 1
        )

    def places(self) -> np.ndarray | None:
        """Of each packet a number that rises as their frames are shown; None where packets do not tell the order.

        It is the time; with MPEG-1 and 2, where FFmpeg guesses times, it follows from the kinds of frames.
        """
        made_up = self.form == "mpegvideo" or (self.form == "avi" and self.codec in _REORDERS)
        if not any(self._shown) or self._packed or _is_packed(self.extradata):
            return None
        if self._kinds and 0 not in self._kinds:
            return self._by_kind()
        known = self.dts[self.dts != NO_TIME]
        told = (self.pts[np.frombuffer(self._shown, bool)] != NO_TIME).all() and (np.diff(known) >= 0).all()
        return self.pts if told and not made_up else None

    def order(self, places: np.ndarray) -> np.ndarray | None:
        """The packets of the frames that are shown, in that order; None where the places are none that a codec makes."""
        shown = np.flatnonzero(np.frombuffer(self._shown, bool))
        ranks = np.argsort(places[shown], kind="stable")
        order = shown[ranks]
        # Two frames at one time, or one far from its packet: times that no codec makes, so the frames are
        # counted in another way.
        twice = (np.diff(places[order]) <= 0).any()
        return None if twice or (np.abs(ranks - np.arange(len(ranks))) > _REORDERED).any() else order

    def _by_kind(self) -> np.ndarray:
        """A B-frame is shown when it comes, any other one when the next of its kind comes."""
        places, waiting = np.empty(len(self), np.int64), None
        for number, kind in enumerate(self._kinds):
            # Even numbers for B-frames, odd ones for the others, which are shown just before the packet at 2 · number.
            if kind == _B_IMAGE:
                places[number] = 2 * number
                continue
            if waiting is not None:
                places[waiting] = 2 * number - 1
            waiting = number
        if waiting is not None:
            places[waiting] = 2 * len(self)
        return places


def completed(times: np.ndarray) -> np.ndarray | None:
    """Times of frames in the order in which they are shown, those that are missing put in evenly; None where they do not rise.

    As in a program stream, where several frames are in one packet and its first has a time.
    """
    known = times != NO_TIME
    known[1:] &= times[1:] > np.maximum.accumulate(times)[:-1]  # FFmpeg guesses some, wrongly
    if known.sum() < 2:
        return times if known.all() else None
    if not known.all():
        places, (given,) = np.arange(len(times)), np.nonzero(known)
        # The median step: one gap, or one wrong time, does not move it as it would the mean.
        steps = np.sort(np.diff(times[given]) / np.diff(given))
        step = steps[len(steps) // 2]
        filled = np.interp(places, given, times[given])
        filled += step * (np.minimum(places - given[0], 0) + np.maximum(places - given[-1], 0))
        times = filled.round().astype(np.int64)
    return times if (np.diff(times) > 0).all() else None


def _kind_of_image(start: bytes) -> int:
    """1, 2 or 3 for an I-, P- or B-frame of MPEG-1 or 2; 0 for none, or one field of a frame."""
    at = start.find(b"\0\0\x01\0")
    if at < 0 or at + 6 > len(start):
        return 0
    kind = start[at + 5] >> 3 & 7
    extension = start.find(b"\0\0\x01\xb5", at)
    if 0 <= extension < len(start) - 6 and start[extension + 4] >> 4 == 8 and start[extension + 6] & 3 != 3:
        return 0
    return kind if kind in (1, 2, 3) else 0


def _is_packed(start: bytes) -> bool:
    """Whether two frames are in one packet, as in DivX's AVI: its name then ends so ("DivX503b1393p")."""
    at = start.find(b"DivX")
    return at >= 0 and start[at : at + 24].partition(b"\0")[0].endswith(b"p")


def _images(start: bytes, lengths: int, codec: str) -> Iterator[bytes]:
    """The heads, of two bytes, of what in a packet of H.264 or H.265 is of an image, as far as it stands in these bytes.

    Args:
        lengths: bytes of the length before each unit, 0 where a mark stands there.
    """
    at = 0
    while at < len(start):
        if lengths:
            size, at = int.from_bytes(start[at : at + lengths], "big"), at + lengths
        else:
            mark = start.find(b"\0\0\x01", at)
            size, at = 0, (mark + 3 if mark >= 0 else len(start))
        head = start[at : at + 2]
        if len(head) == 2 and (head[0] >> 1 & 0x3F < 32 if codec == "hevc" else 1 <= head[0] & 31 <= 5):
            yield head
        at += size
