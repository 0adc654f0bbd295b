"""What is embedded of an input, as 24 bytes: how large it is, and a digest of it; where it lies does not count."""

import hashlib
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.inputs.excerpts import is_excerpt
from zoo.inputs.hashing import KEY_BYTES, item_key
from zoo.inputs.item import Item
from zoo.inputs.masks import mask_files
from zoo.inputs.regions import Region

# 8 bytes of the size, little-endian, and 16 of the digest: files of other sizes are told apart without being read.
STAMP_BYTES = 16
CONTENT_BYTES = 24
UNKNOWN = bytes(CONTENT_BYTES)
_DIGEST_BYTES = 16


def parts_of(value: Any) -> list[tuple[str, str | bytes | Path | tuple[Region, ...]]]:
    """What an input is made of: texts, bytes, files and regions, each with its modality where there are several."""
    if not isinstance(value, Item):
        return [_named("", value)]
    named = ((name, getattr(value, name)) for name in ("text", "image", "video", "audio", "document"))
    found: list[tuple[str, Any]] = [_named(name, part) for name, part in named if part is not None]
    return [*found, ("regions", tuple(value.regions))] if len(value.regions) else found


def _named(name: str, part: Any) -> tuple[str, Any]:
    """A part with its modality; of a page of a document its file, and which page in the name."""
    return (" ".join([name, *part.told()]).strip(), part.source) if is_excerpt(part) else (name, part)


def state_of(value: Any) -> tuple[tuple[int, int], ...]:
    """Size and time of each file of an input; (-1, -1) for one that is not there."""
    files = []
    for _, part in parts_of(value):
        files += [part] if isinstance(part, Path) else mask_files(part) if isinstance(part, tuple) else []
    return tuple(map(_state, files))


def size_of(value: Any) -> int:
    """How many bytes are embedded, -1 where a file is not there; reads no file."""
    sizes = [_size(part) for _, part in parts_of(value)]
    return -1 if -1 in sizes else sum(sizes)


def _size(part: str | bytes | Path | tuple[Region, ...]) -> int:
    if isinstance(part, tuple):
        return KEY_BYTES
    return _state(part)[0] if isinstance(part, Path) else len(_raw(part))


def content_of(value: Any) -> bytes:
    """Size and digest of what is embedded; reads the files. `UNKNOWN` where one cannot be read."""
    digest, size = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
    for name, part in parts_of(value):
        if isinstance(part, Path):
            try:
                status = os.stat(part)
                if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                    return UNKNOWN
                own, length = _of_file(part, status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            except (OSError, ValueError):
                return UNKNOWN
        else:
            try:
                raw = item_key(Item(regions=part), files="content") if isinstance(part, tuple) else _raw(part)
            except (OSError, InputError):  # a mask that cannot be read
                return UNKNOWN
            own, length = hashlib.blake2b(raw).digest(), len(raw)
        digest.update(name.encode() + b"\0" + own)
        size += length
    return size.to_bytes(8, "little") + digest.digest()


@lru_cache(maxsize=64)
def _of_file(path: Path, *_state: int) -> tuple[bytes, int]:
    """Digest and length of a file, once for all regions of an image, which come one after the other."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest(), file.tell()


def _raw(part: str | bytes) -> bytes:
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


def _state(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns
