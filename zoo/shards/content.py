"""What is embedded of an input, as 24 bytes: how large it is, and a digest of it; where it lies does not count."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from zoo.inputs.item import Item

# 8 bytes of the size, little-endian, and 16 of the digest: files of other sizes are told apart without being read.
STAMP_BYTES = 16
CONTENT_BYTES = 24
UNKNOWN = bytes(CONTENT_BYTES)
_DIGEST_BYTES = 16


def parts_of(value: Any) -> list[tuple[str, str | bytes | Path]]:
    """What an input is made of: texts, bytes and files, each with its modality where there are several."""
    if not isinstance(value, Item):
        return [("", value)]
    named = ((name, getattr(value, name)) for name in ("text", "image", "video", "audio"))
    return [(name, part) for name, part in named if part is not None]


def state_of(value: Any) -> tuple[tuple[int, int], ...]:
    """Size and time of each file of an input; (-1, -1) for one that is not there."""
    return tuple(_state(part) for _, part in parts_of(value) if isinstance(part, Path))


def size_of(value: Any) -> int:
    """How many bytes are embedded, -1 where a file is not there; reads no file."""
    sizes = [_state(part)[0] if isinstance(part, Path) else len(_raw(part)) for _, part in parts_of(value)]
    return -1 if -1 in sizes else sum(sizes)


def content_of(value: Any) -> bytes:
    """Size and digest of what is embedded; reads the files. `UNKNOWN` where one cannot be read."""
    digest, size = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
    for name, part in parts_of(value):
        if isinstance(part, Path):
            try:
                if not stat.S_ISREG(os.stat(part).st_mode):  # opening a pipe would wait for ever
                    return UNKNOWN
                with part.open("rb") as file:
                    own = hashlib.file_digest(file, "blake2b").digest()
                    length = file.tell()
            except (OSError, ValueError):
                return UNKNOWN
        else:
            raw = _raw(part)
            own, length = hashlib.blake2b(raw).digest(), len(raw)
        digest.update(name.encode() + b"\0" + own)
        size += length
    return size.to_bytes(8, "little") + digest.digest()


def _raw(part: str | bytes) -> bytes:
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


def _state(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns
