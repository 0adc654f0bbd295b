"""Which container a film really is, and what its head says: read before a decoder sees the file (standard library only).

A decoder guesses from content too, and knows formats that are lists of other files (playlists, sessions). So what is let
through begins so strictly like its container that no such format is a guess.
"""

from collections.abc import Iterator
from typing import BinaryIO

from zoo.errors import CorruptVideoError, NotMediaError

_BOXES = 10_000  # of one film's head; one with sound and subtitles has some hundred
_EBML = b"\x1a\x45\xdf\xa3"
_DOCTYPES = (b"matroska", b"webm")
_SEGMENT, _TRACKS, _TRACK, _VIDEO, _WIDTH, _HEIGHT = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA
_CLUSTER = 0x1F43B675
_HOLDS = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl"}


def frame_size(file: BinaryIO, name: str) -> tuple[int, int] | None:
    """Width and height of the largest frames that the head of a film names; None where it names none.

    Raises:
        NotMediaError: none of MP4, QuickTime, Matroska, WebM, AVI and MPEG.
        CorruptVideoError: its frames lie in other files.
    """
    file.seek(0)
    head = file.read(1100)
    sizes: list[tuple[int, int]] = []
    if head[4:8] == b"ftyp" and 8 <= int.from_bytes(head[:4], "big") <= 2**16:
        sizes = list(_mp4_sizes(file, name))
    elif head[:4] == _EBML and _is_matroska(head):
        sizes = list(_matroska_sizes(file))
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        if head[24:28] == b"avih":
            sizes = [(int.from_bytes(head[64:68], "little"), int.from_bytes(head[68:72], "little"))]
    elif head[:4] != b"\0\0\x01\xba":
        raise NotMediaError(
            f"{name} is no film that the zoo reads: its first bytes are those of a film, and what follows is not; "
            "convert it to MP4",
            what=name,
        )
    file.seek(0)
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


# ---- MP4 and QuickTime: boxes of a length, a name and what they hold.


def _mp4_sizes(file: BinaryIO, name: str) -> Iterator[tuple[int, int]]:
    handler = b""
    for kind, start, end in _boxes(file, 0, file.seek(0, 2)):
        if kind == b"dref":
            _check_references(file, start, end, name)
        elif kind == b"hdlr":
            file.seek(start)
            about = file.read(12)
            handler = handler if about[4:8] == b"dhlr" else about[8:12]  # "dhlr": of where data lie, not of what
        elif kind == b"stsd" and handler == b"vide":
            yield from _sample_sizes(file, start, end)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of boxes and of those inside, in order; what makes no sense ends the list."""
    waiting = [(start, end)]
    for _ in range(_BOXES):
        while waiting and waiting[-1][0] + 8 > waiting[-1][1]:
            waiting.pop()
        if not waiting:
            return
        at, last = waiting.pop()
        file.seek(at)
        head = file.read(16)
        size, kind, inside = int.from_bytes(head[:4], "big"), head[4:8], at + 8
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
        file.seek(at)
        head = file.read(12)
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


def _sample_sizes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start + 8
    for _ in range(64):
        file.seek(at)
        entry = file.read(36)
        size = int.from_bytes(entry[:4], "big")
        if len(entry) < 36 or size < 36 or at + size > end:
            return
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


def _matroska_sizes(file: BinaryIO) -> Iterator[tuple[int, int]]:
    end = file.seek(0, 2)
    waiting = [(0, end)]
    found: dict[int, int] = {}
    for _ in range(_BOXES):
        while waiting and waiting[-1][0] >= waiting[-1][1]:
            waiting.pop()
        if not waiting:
            break
        at, last = waiting.pop()
        file.seek(at)
        head = file.read(12)
        kind = _number(head, 0, keep=True)
        size = _number(head, kind[1], keep=False) if kind else None
        if kind is None or size is None or kind[0] == _CLUSTER:  # tracks come before frames
            break
        inside = at + size[1]
        unknown = size[0] == (1 << 7 * (size[1] - kind[1])) - 1
        following = last if unknown else min(inside + size[0], last)
        waiting.append((following, last))
        if kind[0] in (_SEGMENT, _TRACKS, _TRACK, _VIDEO):
            waiting.append((inside, following))
        elif kind[0] in (_WIDTH, _HEIGHT):
            file.seek(inside)
            found[kind[0]] = max(int.from_bytes(file.read(min(size[0], 8)), "big"), found.get(kind[0], 0))
    if len(found) == 2:
        yield found[_WIDTH], found[_HEIGHT]


def _number(data: bytes, at: int, *, keep: bool) -> tuple[int, int] | None:
    """A number of EBML and where it ends; `keep` leaves the bit that says its length. None where there is none."""
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return None
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep else value & ((1 << 7 * length) - 1)), at + length
