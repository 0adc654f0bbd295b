"""Decoded images that are kept for a while: several models that read the same data decode each of them once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.inputs.excerpts import DocumentPage

if TYPE_CHECKING:
    import numpy as np

MOST = 2**30  # bytes of pixels: some 1,100 images of 640x480


class Pixels:
    """Decoded images by what was decoded: a file by its path, size and time of change, bytes by their content.

    Whoever gets pixels from it must not change them. When it is full it keeps what it has: models read data in one order, and what
    was read last would be gone by the time that it is asked for again.

    Args:
        most: bytes of pixels that are kept.

    Attributes:
        decoded: how many images were decoded. found: how many did not have to be.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most, self.held, self.decoded, self.found = most, 0, 0, 0
        self._known: dict[Any, np.ndarray] = {}
        self._lock = threading.Lock()

    def of(self, source: Any, decode: Callable[[Any], "np.ndarray"]) -> "np.ndarray":
        """The pixels of a source; raises as `decode`, which gives them where they are not kept."""
        key = _key(source)
        with self._lock:
            if key is not None and (known := self._known.get(key)) is not None:
                self.found += 1
                return known
        pixels = decode(source)
        with self._lock:
            self.decoded += 1
            if key is not None and key not in self._known and self.held + pixels.nbytes <= self.most:
                self._known[key] = pixels
                self.held += pixels.nbytes
        return pixels


_PIXELS: ContextVar[Pixels | None] = ContextVar("pixels", default=None)


@contextmanager
def remembering(pixels: Pixels) -> Iterator[None]:
    """Inside, `zoo.inputs.image.load_pixels` takes images from these and adds to them; in threads that run in a copy of the context too."""
    token = _PIXELS.set(pixels)
    try:
        yield
    finally:
        _PIXELS.reset(token)


def remembered() -> Pixels | None:
    """What `remembering` says here."""
    return _PIXELS.get()


def _key(source: Any) -> Any:
    """What stands for a source, None for what could change unseen."""
    if isinstance(source, Path):
        try:
            status = source.stat()
        except OSError:
            return None  # which reading names
        return str(source.absolute()), status.st_size, status.st_mtime_ns
    if isinstance(source, bytes):
        return blake2b(source, digest_size=16).digest()
    if isinstance(source, DocumentPage):
        key = _key(source.source)
        return None if key is None else (key, *source.told())
    return None
