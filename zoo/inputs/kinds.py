"""What a file or bytes are, told from how they begin and never from a name; and how a file is opened that may be anything."""

import io
import os
import stat
import threading
from pathlib import Path
from typing import Any

from zoo.errors import ImageTooLargeError, MissingFileError, NotMediaError, UnsupportedInputError
from zoo.inputs.containers import form_of, tracks_of
from zoo.inputs.excerpts import is_excerpt
from zoo.inputs.heif import is_heif
from zoo.modalities import Modality

MAX_FILE_BYTES = 512 * 2**20
# EPS would start Ghostscript, and sixty rare parsers are sixty chances for a bug.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif"}
)
VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".qt",
        ".3gp",
        ".3g2",
        ".mkv",
        ".webm",
        ".avi",
        ".divx",
        ".mpg",
        ".mpeg",
        ".mpe",
        ".m1v",
        ".m2v",
    }
    | {".vob", ".mts", ".m2ts", ".flv", ".f4v", ".wmv", ".asf", ".ogv"}
)
AUDIO_SUFFIXES = frozenset(
    {
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".aac",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".amr",
        ".wma",
        ".mka",
        ".weba",
    }
)
DOCUMENT_SUFFIXES = frozenset({".pdf"})
TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown", ".rst"})
"""Of files that are one text each; all others here begin in a way that tells what they are."""
_HEAD = 1024  # a PDF may begin with so much of something else
_READING = threading.Lock()


def is_open_file(value: Any) -> bool:
    """Whether something is a file that was opened to read bytes, a `BytesIO`, or behaves like one."""
    return callable(getattr(value, "read", None)) and not isinstance(value, io.TextIOBase | Path)


def read_open_file(file: Any) -> bytes:
    """All bytes of an open file, from its beginning where it can go back there.

    Raises:
        MissingFileError: it is closed or cannot be read. UnsupportedInputError: it gives no bytes.
        ImageTooLargeError: over 512 MiB.
    """
    name = f"{type(file).__name__} {getattr(file, 'name', '')}".strip()
    try:
        with _READING:  # one file may stand in a list twice
            if getattr(file, "seekable", lambda: False)():
                file.seek(0)
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise MissingFileError(f"{name} cannot be read: {error}; open it again, in mode 'rb'", what=name) from error
    if not isinstance(content, bytes | bytearray | memoryview):
        found = type(content).__name__
        raise UnsupportedInputError(f"{name} gives {found}, not bytes; open it in mode 'rb'", what=name)
    if len(content) > MAX_FILE_BYTES:
        raise ImageTooLargeError(f"{name} has over {MAX_FILE_BYTES // 2**20} MiB; no more are read", what=name)
    return bytes(content)


def kind_of(source: Path | bytes) -> Modality:
    """The modality of a file or of bytes, told from how they begin and never from the name.

    A container that may hold either is video where it has a track of that, or does not say, else audio.

    Raises:
        MissingFileError: no such regular, readable file. NotMediaError: no media that the zoo knows.
    """
    head = head_of(source)
    kind = kind_of_head(head)
    if kind is None:
        raise NotMediaError(f"{describe(source)} {what_it_looks_like(head)}", what=describe(source))
    if kind in ("video", "audio") and form_of(head) and not _is_apple_audio(head):
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            tracks = tracks_of(file)
        kind = "video" if "video" in tracks else "audio" if tracks else kind
    return kind


def kind_of_head(head: bytes) -> Modality | None:
    """The modality of what begins so, None where nothing that the zoo knows does; wants the first kilobyte."""
    if head[:3] == b"\xff\xd8\xff" or head[:8] == b"\x89PNG\r\n\x1a\n" or head[:4] == b"GIF8" or _is_bmp(head):
        return "image"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "image"
    if head[:4] == b"RIFF":
        return {b"WEBP": "image", b"WAVE": "audio", b"AVI ": "video", b"CDXA": "video"}.get(head[8:12])  # type: ignore[return-value]
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"avif", b"avis", b"mif1", b"msf1") or is_heif(head):
            return "image"
        return "audio" if _is_apple_audio(head) else "video"
    if _is_audio(head):
        return "audio"
    if form_of(head):
        return "video"
    return "document" if b"%PDF-" in head else None


def _is_bmp(head: bytes) -> bool:
    """BMP, whose second header has one of these lengths: "BM" alone is also how a text on BMWs begins."""
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def _is_apple_audio(head: bytes) -> bool:
    """Music and books of Apple, whose images (covers, chapters) are no video though they stand in a track of that."""
    return head[4:8] == b"ftyp" and head[8:12] in (b"M4A ", b"M4B ", b"M4P ")


def _is_audio(head: bytes) -> bool:
    """WAVE beyond 4 GiB, FLAC, Ogg, MP3, AAC, AIFF, AU, CAF and AMR."""
    if head[:4] in (b"RF64", b"fLaC", b"OggS", b".snd", b"caff") or head[:3] == b"ID3" or head[:5] == b"#!AMR":
        return True
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return True
    # An MPEG frame: eleven bits set, then version, layer and rate, of which one value each is reserved. Layer 0 is AAC's (ADTS).
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[1] & 0x18 == 0x08:
        return False
    if head[1] & 0x06 == 0:
        return head[1] & 0xF0 == 0xF0 and head[2] & 0x3C < 0x34
    return head[2] & 0xF0 not in (0xF0, 0x00) and head[2] & 0x0C != 0x0C


def what_it_looks_like(head: bytes) -> str:
    """What begins so and is no media, in words that follow a name; says what to do instead."""
    start = head.lstrip().lower()
    known = f"; the zoo reads {', '.join(FORMATS)} images, videos, audio and PDF"
    if not head:
        return "is empty (0 bytes)" + known
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page (HTML), probably a failed download" + known
    if start.startswith((b"<svg", b"<?xml")):
        return "is SVG or XML; draw it to PNG first"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return "holds no media that the zoo knows" + known
    return "is a text file; read it and pass its text as str" + known


def describe(source: Any) -> str:
    """A short name of an image's source for messages."""
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    if is_excerpt(source):
        return str(source)
    shape = getattr(source, "shape", None) or getattr(source, "size", None)
    return f"{type(source).__name__} {tuple(shape)}" if isinstance(shape, tuple) else type(source).__name__


def read_bytes(path: Path) -> bytes:
    """A regular file's bytes; raises MissingFileError for anything else, ImageTooLargeError above 512 MiB."""
    size = _regular_size(path)
    if size > MAX_FILE_BYTES:
        raise ImageTooLargeError(
            f"{path} has {size / 2**20:.0f} MiB; at most {MAX_FILE_BYTES // 2**20} are read", what=str(path)
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror or error}", what=str(path)) from error


def head_of(source: Path | bytes) -> bytes:
    """How a file or bytes begin, which tells what they are; raises MissingFileError for no regular, readable file."""
    if isinstance(source, bytes):
        return source[:_HEAD]
    _regular_size(source)
    try:
        with source.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise MissingFileError(f"{source} cannot be read: {error.strerror or error}", what=str(source)) from error


def _regular_size(path: Path) -> int:
    # Asked before opening: opening a FIFO would wait for ever, a device would never end.
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if os.path.islink(path):
            why = f"is a link to {os.readlink(path)}, which does not exist"
        elif str(path).startswith(("http:/", "https:/")):
            why = "is a URL, which is never fetched; download it and pass the file"
        else:
            reason = getattr(error, "strerror", None) or str(error)
            missing = isinstance(error, FileNotFoundError)
            why = f"does not exist (working directory {Path.cwd()})" if missing else f"cannot be opened: {reason}"
        raise MissingFileError(f"{path} {why}", what=str(path)) from error
    if stat.S_ISDIR(status.st_mode):
        raise MissingFileError(f"{path} is a folder; pass its files, or use `zoo embed`", what=str(path))
    if not stat.S_ISREG(status.st_mode):
        raise MissingFileError(f"{path} is no regular file (a pipe, socket or device)", what=str(path))
    return status.st_size
