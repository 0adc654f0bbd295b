"""HEIC and HEIF images: which files they are, with which libheif they are decoded, and where: here, elsewhere or nowhere."""

import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from zoo.errors import UnreadHeifError, ZooError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Each libheif from 1.23.1 to 1.23.5 and each libde265 from 1.0.16 to 1.1.2 mends reads or writes outside of buffers that a
# crafted image reaches (two rated critical in libheif 1.23.2, one in 1.23.3). These are the versions after them, which
# pillow-heif 1.8.1 brings; no advisory against them was found in November 2026. Raise them with the next advisory.
LEAST = {"libheif": (1, 23, 6), "libde265": (1, 1, 3)}
_EXTRA = 'pip install --upgrade "embedding-zoo[heif]"'
_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_CONTAINERS = frozenset({b"mif1", b"msf1"})  # of any codec: what else the file says tells which
_AV1 = frozenset({b"avif", b"avis"})

Way = Callable[[bytes, str], "np.ndarray"]
_WAY: ContextVar[Way | None] = ContextVar("heif", default=None)


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is HEIC or HEIF; AVIF, the same container around another codec, is not."""
    if head[4:8] != b"ftyp":
        return False
    brand = head[8:12]
    if brand not in _CONTAINERS:
        return brand in _HEVC
    size = int.from_bytes(head[:4], "big")
    others = {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}
    return bool(others & _HEVC) or not others & _AV1


@contextmanager
def decoding(way: Way | None) -> Iterator[None]:
    """Inside, HEIC images are decoded by `way`, which gets bytes and their name and gives what `load_pixels` does.

    `refused` refuses them, `zoo.inputs.apart.ImagesApart` decodes them in a process of its own, None does it here, as usual.
    Threads started inside do not inherit it, unless they run in a copy of the context.
    """
    token = _WAY.set(way)
    try:
        yield
    finally:
        _WAY.reset(token)


def chosen_way() -> Way | None:
    """What `decoding` says here; None for this process."""
    return _WAY.get()


def refused(data: bytes, name: str) -> "np.ndarray":
    """The way of pages and servers that strangers reach: decoders of HEVC have too many faults to offer them unasked.

    Raises:
        UnreadHeifError: always.
    """
    raise UnreadHeifError(
        f"{name} is a HEIC/HEIF image, which is not decoded here unless the server is started with --heif; "
        "convert it to JPEG or PNG first",
        what=name,
    )


def largest_size(data: bytes) -> tuple[int, int]:
    """Width and height of the largest image or tile that a HEIC file names, before crops; (1, 1) where it names none.

    libheif says the size after the crop, and decodes the whole: four billion pixels may stand after one.
    """
    sizes = [(1, 1)]
    for found in re.finditer(b"ispe", data):
        # A box's length (where it is 1, the real one after the name), its name, version 0 and flags, width, height.
        start, end = found.span()
        end += 8 * (data[max(0, start - 4) : start] == b"\0\0\0\1")
        size = tuple(int.from_bytes(data[at : at + 4], "big") for at in (end + 4, end + 8))
        if data[end : end + 1] == b"\0" and all(size):
            sizes.append(size)
    return max(sizes, key=math.prod)


def open_image(data: bytes, name: str) -> "Image.Image":
    """The primary image of a HEIC file, opened and not yet decoded: turned as the file says, and in 8 bits.

    Pillow is not told of the format: what else in this process opens images must not decode strangers' HEIC by the way.

    Raises:
        UnreadHeifError: no library that may decode it.
    """
    try:
        library = check_library()
    except ZooError as error:
        raise UnreadHeifError(
            f"{name} is a HEIC/HEIF image: {error}; or convert it to JPEG or PNG", what=name
        ) from error
    return library.HeifImageFile(io.BytesIO(data))


@cache
def check_library() -> Any:
    """The module pillow_heif, once its libraries are found to be without known faults.

    Raises:
        ZooError: it is not installed, or libheif or libde265 is older than `LEAST`.
    """
    try:
        import pillow_heif

        info = pillow_heif.libheif_info()
    except ImportError as error:
        raise ZooError(f"decoding it needs pillow-heif: {_EXTRA}") from error
    found = {"libheif": info["libheif"], "libde265": info["decoders"].get("libde265", "")}
    for name, text in found.items():
        version = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
        # Without libde265 another decoder is in its place, of which nothing is known here.
        if version is None or tuple(map(int, version.groups())) < LEAST[name]:
            least = ".".join(map(str, LEAST[name]))
            raise ZooError(f"{name} {text or 'is absent'}; older than {least} it has known faults: {_EXTRA}")
    return pillow_heif
