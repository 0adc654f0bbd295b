"""Which container of video or audio a file really is, and what its head says: read before a decoder sees the file (standard
library only).

A decoder guesses from content too, and knows formats that are lists of other files (playlists, sessions). So a container is
one that begins strictly like it, and FFmpeg is told which: it has nothing to guess.
"""

from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

from zoo.errors import CorruptVideoError, NotMediaError

Track = Literal["video", "audio"]
_BOXES = 10_000  # of one video's head; one with audio and subtitles has some hundred
_EBML = b"\x1a\x45\xdf\xa3"
_DOCTYPES = (b"matroska", b"webm")
_SEGMENT, _TRACKS, _TRACK, _VIDEO, _WIDTH, _HEIGHT, _TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA, 0x83
_CLUSTER = 0x1F43B675
_HOLDS = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl"}
_OLD_QUICKTIME = (b"moov", b"wide", b"free", b"skip", b"pnot")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_KINDS: dict[bytes, Track] = {
    bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b"): "video",
    bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b"): "audio",
}
_OGG_VIDEO = (b"\x80theora", b"BBCD\0", b"OVP80", b"\x01video")
_OGG_AUDIO = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ", b"fLaC")
# Types of a transport stream's tracks (ISO 13818-1, table 2-34, and what broadcasters add).
_TS_VIDEO = frozenset({0x01, 0x02, 0x10, 0x1B, 0x1E, 0x20, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA})
_TS_AUDIO = frozenset({0x03, 0x04, 0x0F, 0x11, 0x1C, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0xC1, 0xCF})
_FLV_TAGS = 30  # in which a track is found that the head does not promise
_TS_READ = 2**20  # bytes in which tables of a transport stream, or a first image of a program stream, are looked for


class Container(NamedTuple):
    """What the head of a file says.

    Attributes:
        form: FFmpeg's name of the container. tracks: which kinds it has, empty where the head does not say.
        size: width and height of the largest frames, None where the head does not say.
    """

    form: str
    tracks: frozenset[Track]
    size: tuple[int, int] | None


def form_of(head: bytes) -> str:
    """FFmpeg's name of the container that begins so, "" for none; wants the first kilobyte."""
    if head[4:8] == b"ftyp":
        return "mov" if 8 <= int.from_bytes(head[:4], "big") <= 2**16 else ""
    if head[4:8] == b"mdat" or (head[4:8] in _OLD_QUICKTIME and head[:1] == b"\0"):
        return "mov"
    if head[:4] == _EBML:
        return "matroska" if _is_matroska(head) else ""
    if head[:4] == b"RIFF":
        return {b"AVI ": "avi", b"CDXA": "mpeg"}.get(head[8:12], "")
    if head[:4] == b"\0\0\x01\xba":  # a pack header: program stream
        return "mpeg"
    if head[:4] == b"\0\0\x01\xb3":  # a sequence header: MPEG-1 or 2 without a container
        return "mpegvideo"
    if head[:4] == b"FLV\x01" and len(head) > 4 and not head[4] & ~5:  # flags: 1 video, 4 audio
        return "flv"
    if head[:16] == _ASF:
        return "asf"
    if head[:5] == b"OggS\0":
        return "ogg"
    return "mpegts" if _ts_packets(head) else ""


def look(file: BinaryIO, name: str) -> Container:
    """What the head of an open file says; leaves the file at its beginning.

    Raises:
        NotMediaError: none of MP4, QuickTime, Matroska, WebM, AVI, MPEG-1 and 2, MPEG-TS, FLV, ASF and Ogg.
        CorruptVideoError: its frames lie in other files, or are encrypted.
    """
    file.seek(0)
    head = file.read(1100)
    form = form_of(head)
    if not form:
        raise NotMediaError(
            f"{name} is no video that the zoo reads: its first bytes are those of a video, and what follows is not; "
            "convert it to MP4",
            what=name,
        )
    found = list(_mp4_tracks(file, name) if form == "mov" else _READERS[form](file, head))
    file.seek(0)
    tracks = frozenset(kind for kind, _ in found)
    sizes = [size for _, size in found if size]
    return Container(form, tracks, max(sizes, key=lambda size: size[0] * size[1], default=None))


def tracks_of(file: BinaryIO) -> frozenset[Track]:
    """Which kinds of tracks an open file has; empty where its head does not say, or is no container's."""
    try:
        return look(file, "").tracks
    except NotMediaError:
        return frozenset()
    except CorruptVideoError:  # its frames are elsewhere, or encrypted
        return frozenset({"video"})


_Found = Iterator[tuple[Track, tuple[int, int] | None]]


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    """Bytes from a place, which what a file says may make any number; none beyond its end."""
    if not 0 <= at < 2**62:
        return b""
    file.seek(at)
    return file.read(length)


# ---- MP4 and QuickTime: boxes of a length, a name and what they hold.


def _mp4_tracks(file: BinaryIO, name: str) -> _Found:
    handler, last = b"", file.seek(0, 2)
    moov = last
    for kind, start, end in _boxes(file, 0, last):
        if start > moov:  # fragments follow
            return
        if kind == b"moov":
            moov = end
        elif kind == b"dref":
            _check_references(file, start, end, name)
        elif kind == b"hdlr":
            file.seek(start)
            about = file.read(12)
            handler = handler if about[4:8] == b"dhlr" else about[8:12]  # "dhlr": of where data lie, not of what
        elif kind == b"stsd" and handler == b"soun":
            yield "audio", None
        elif kind == b"stsd" and handler == b"vide":
            yield "video", None
            for size in _sample_sizes(file, start, end, name):
                yield "video", size


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of boxes and of those inside, in order; what makes no sense ends the list."""
    waiting = [(start, end)]
    for _ in range(_BOXES):
        while waiting and waiting[-1][0] + 8 > waiting[-1][1]:
            waiting.pop()
        if not waiting:
            return
        at, last = waiting.pop()
        head = _read(file, at, 16)
        size, kind, inside = int.from_bytes(head[:4], "big"), head[4:8], at + 8
        # 1: the real size stands after the name, in 64 bits; 0: the box ends where its holder ends.
        if size == 1:
            size, inside = int.from_bytes(head[8:16], "big"), at + 16
        elif size == 0:
            size = last - at
        following = at + size
        if following < inside:
            continue
        waiting.append((following, last))
        yield kind, inside, min(following, last)
        if kind in _HOLDS:
            waiting.append((inside, min(following, last)))


def _check_references(file: BinaryIO, start: int, end: int, name: str) -> None:
    """Each entry of a `dref` says where frames lie: a flag for "in this file", or a name."""
    file.seek(start + 4)
    count = int.from_bytes(file.read(4), "big")
    at = start + 8
    for _ in range(min(count, _BOXES)):
        head = _read(file, at, 12)
        size = int.from_bytes(head[:4], "big")
        if len(head) < 12 or size < 12 or at + size > end:
            return
        if not head[11] & 1:
            raise CorruptVideoError(
                f"{name} keeps its frames in another file, which is never opened for it; save it as one file "
                "(self-contained)",
                what=name,
            )
        at += size


def _sample_sizes(file: BinaryIO, start: int, end: int, name: str) -> Iterator[tuple[int, int]]:
    # Behind the version (4 bytes) and the number of entries (4). In an entry of video, width
    # and height stand at 32 and 34.
    at = start + 8
    for _ in range(64):
        entry = _read(file, at, 36)
        size = int.from_bytes(entry[:4], "big")
        if len(entry) < 36 or size < 36 or at + size > end:
            return
        if entry[4:8] == b"encv":
            raise CorruptVideoError(f"{name} is encrypted (DRM), and no key is ever asked for", what=name)
        yield int.from_bytes(entry[32:34], "big"), int.from_bytes(entry[34:36], "big")
        at += size


# ---- Matroska and WebM: elements of a number, a length and what they hold.


def _is_matroska(head: bytes) -> bool:
    """Whether the whole first element lies in `head` and names its kind, as FFmpeg asks too."""
    number = _number(head, 4, keep=False)
    if number is None:
        return False
    size, at = number
    return at + size <= len(head) and any(kind in head[at : at + size] for kind in _DOCTYPES)


def _matroska_tracks(file: BinaryIO, head: bytes) -> _Found:
    end = file.seek(0, 2)
    waiting = [(0, end)]
    found: dict[int, int] = {}
    for _ in range(_BOXES):
        while waiting and waiting[-1][0] >= waiting[-1][1]:
            waiting.pop()
        if not waiting:
            break
        at, last = waiting.pop()
        start = _read(file, at, 12)
        kind = _number(start, 0, keep=True)
        size = _number(start, kind[1], keep=False) if kind else None
        if kind is None or size is None or kind[0] == _CLUSTER:  # tracks come before frames
            break
        inside = at + size[1]
        unknown = size[0] == (1 << 7 * (size[1] - kind[1])) - 1
        following = last if unknown else min(inside + size[0], last)
        waiting.append((following, last))
        if kind[0] in (_SEGMENT, _TRACKS, _TRACK, _VIDEO):
            waiting.append((inside, following))
        elif kind[0] in (_WIDTH, _HEIGHT, _TYPE):
            file.seek(inside)
            value = int.from_bytes(file.read(min(size[0], 8)), "big")
            if kind[0] != _TYPE:
                found[kind[0]] = max(value, found.get(kind[0], 0))
            elif value in (1, 2):
                yield ("video" if value == 1 else "audio"), None
    if len(found) == 2:
        yield "video", (found[_WIDTH], found[_HEIGHT])


def _number(data: bytes, at: int, *, keep: bool) -> tuple[int, int] | None:
    """A number of EBML and where it ends; `keep` leaves the bit that says its length. None where there is none."""
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return None
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep else value & ((1 << 7 * length) - 1)), at + length


# ---- AVI: chunks of a name, a length and what they hold.


def _avi_tracks(file: BinaryIO, head: bytes) -> _Found:
    size = (int.from_bytes(head[64:68], "little"), int.from_bytes(head[68:72], "little"))
    at, end = 12, file.seek(0, 2)
    for _ in range(_BOXES):
        chunk = _read(file, at, 16)
        if len(chunk) < 16 or chunk[8:12] == b"movi" or at >= end:
            return
        if chunk[:4] == b"LIST" and chunk[8:12] in (b"hdrl", b"strl"):
            at += 12
            continue
        if chunk[:4] == b"strh" and chunk[8:12] in (b"vids", b"auds"):
            is_video = chunk[8:12] == b"vids"
            yield ("video" if is_video else "audio"), (size if is_video and head[24:28] == b"avih" else None)
        at += 8 + (int.from_bytes(chunk[4:8], "little") + 1) // 2 * 2


# ---- MPEG: program streams (DVD, VCD), elementary streams, transport streams (broadcasts, Blu-ray, cameras).


def _program_tracks(file: BinaryIO, head: bytes) -> _Found:
    file.seek(0)
    content = file.read(_TS_READ)
    at = content.find(b"\0\0\x01")
    found: set[Track] = set()
    while 0 <= at < len(content) - 3 and len(found) < 2:
        kind = content[at + 3]
        if 0xE0 <= kind <= 0xEF:
            found.add("video")
        elif 0xC0 <= kind <= 0xDF or kind == 0xBD:
            found.add("audio")
        at = content.find(b"\0\0\x01", at + 3)
    yield from ((kind, None) for kind in found)


def _elementary_tracks(file: BinaryIO, head: bytes) -> _Found:
    yield "video", (int.from_bytes(head[4:6], "big") >> 4, int.from_bytes(head[5:7], "big") & 0xFFF)


def _ts_packets(head: bytes) -> tuple[int, int] | None:
    """Where packets of a transport stream begin, and how long they are; None where at least three do not."""
    for start, length in ((0, 188), (4, 192), (0, 204)):
        marks = head[start : 5 * length : length]
        if len(marks) >= 3 and marks == b"\x47" * len(marks):
            return start, length
    return None


def _transport_tracks(file: BinaryIO, head: bytes) -> _Found:
    start, length = _ts_packets(head) or (0, 188)
    file.seek(start)
    content = file.read(_TS_READ)
    tables: set[int] = set()
    for at in range(0, len(content) - 187, length):
        packet = content[at : at + 188]
        number = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[0] != 0x47 or not packet[1] & 0x40 or (number and number not in tables):
            continue
        inside = 5 + packet[4] if packet[3] & 0x20 else 4
        section = packet[inside + 1 + packet[inside] :] if inside < 188 else b""
        body = section[8 : max(3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4, 0)]
        if not number:
            tables |= {int.from_bytes(body[n + 2 : n + 4], "big") & 0x1FFF for n in range(0, len(body) - 3, 4)}
        elif section[:1] == b"\x02":
            yield from _program_map(body)
            return


def _program_map(body: bytes) -> _Found:
    at = 4 + (int.from_bytes(body[2:4], "big") & 0xFFF)
    while at + 5 <= len(body):
        kind, about = body[at], body[at + 5 : at + 5 + (int.from_bytes(body[at + 3 : at + 5], "big") & 0xFFF)]
        if kind in _TS_VIDEO or (kind == 0x06 and (b"AV01" in about or b"HEVC" in about)):
            yield "video", None
        elif kind in _TS_AUDIO or kind == 0x06:
            yield "audio", None
        at += 5 + len(about)


# ---- FLV: tags of a kind and a length. ASF: objects of a number and a length. Ogg: pages, the first of each track first.


def _flv_tracks(file: BinaryIO, head: bytes) -> _Found:
    at = int.from_bytes(head[5:9], "big") + 4
    promised = {kind for kind, bit in ((8, 4), (9, 1)) if head[4] & bit} or {8, 9}
    for number in range(200):
        tag = _read(file, at, 11)
        if len(tag) < 11 or (not promised and number >= _FLV_TAGS):
            return
        if tag[0] in (8, 9):
            yield ("audio" if tag[0] == 8 else "video"), None
            promised.discard(tag[0])
        at += 15 + int.from_bytes(tag[1:4], "big")


def _asf_tracks(file: BinaryIO, head: bytes) -> _Found:
    at, end = 30, int.from_bytes(head[16:24], "little")
    for _ in range(_BOXES):
        entry = _read(file, at, 86)
        size = int.from_bytes(entry[16:24], "little")
        if at >= end or len(entry) < 24 or size < 24:
            return
        if entry[:16] == _ASF_STREAM and entry[24:40] in _ASF_KINDS:
            kind = _ASF_KINDS[entry[24:40]]
            sizes = int.from_bytes(entry[78:82], "little"), int.from_bytes(entry[82:86], "little")
            yield kind, (sizes if kind == "video" and len(entry) == 86 else None)
        at += size


def _ogg_tracks(file: BinaryIO, head: bytes) -> _Found:
    at = 0
    for _ in range(64):
        page = _read(file, at, 27 + 255 + 64)
        if page[:5] != b"OggS\0" or len(page) < 28 or not page[5] & 2:  # 2: a track begins
            return
        segments = page[26]
        content = page[27 + segments :]
        if content.startswith(_OGG_VIDEO):
            is_theora = content.startswith(b"\x80theora") and len(content) > 20
            size = (int.from_bytes(content[14:17], "big"), int.from_bytes(content[17:20], "big"))
            yield "video", (size if is_theora else None)
        elif content.startswith(_OGG_AUDIO):
            yield "audio", None
        at += 27 + segments + sum(page[27 : 27 + segments])


_READERS = {
    "matroska": _matroska_tracks,
    "avi": _avi_tracks,
    "mpeg": _program_tracks,
    "mpegvideo": _elementary_tracks,
    "mpegts": _transport_tracks,
    "flv": _flv_tracks,
    "asf": _asf_tracks,
    "ogg": _ogg_tracks,
}
