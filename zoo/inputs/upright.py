"""Upright images, decoded once for all of their regions that are read at about the same time, and what was made of them."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.inputs.image import load_pixels

if TYPE_CHECKING:
    import numpy as np

_MOST_IMAGES, _MOST_BYTES = 4, 256 * 2**20


@dataclass(eq=False)
class Upright:
    """A decoded image, shared by all of its regions that are read at about the same time.

    Attributes:
        pixels: upright RGB, uint8 `(height, width, 3)`. derived: what a rule made of the whole image, by a key of its own.
    """

    pixels: "np.ndarray"
    derived: dict[Any, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def once(self, key: Any, make: Any) -> Any:
        """What `make` gives, called once an image and key."""
        with self.lock:
            if key not in self.derived:
                self.derived[key] = make()
            return self.derived[key]


class Latest:
    """The images decoded last, so that the regions of one image, which come one after the other, decode it once.

    Only what cannot change unseen is remembered: files (by size and time of change), bytes, and arrays that own their memory and are
    not writable.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[threading.Lock, list[Upright], Any]] = OrderedDict()

    def of(self, source: Any) -> Upright:
        """The decoded image; raises as `load_pixels`."""
        key = _key(source)
        if key is None:
            return Upright(load_pixels(source))
        with self._lock:
            lock, found, _ = self._known.setdefault(
                key, (threading.Lock(), [], source)
            )  # which keeps its id from another
            self._known.move_to_end(key)
            while len(self._known) > _MOST_IMAGES or (len(self._known) > 1 and self._bytes() > _MOST_BYTES):
                self._known.popitem(last=False)
        with lock:
            if not found:
                found.append(Upright(load_pixels(source)))
            return found[0]

    def _bytes(self) -> int:
        return sum(upright.pixels.nbytes for _, found, _ in self._known.values() for upright in found)

    def __reduce__(self) -> tuple[Any, ...]:
        return Latest, ()  # a lock cannot be copied


def _key(source: Any) -> Hashable | None:
    if isinstance(source, Path):
        try:
            status = source.stat()
        except OSError:
            return None  # which reading names
        return "file", str(source.absolute()), status.st_size, status.st_mtime_ns
    flags = getattr(source, "flags", None)
    fixed = isinstance(source, bytes) or (flags is not None and flags.owndata and not flags.writeable)
    return ("object", id(source)) if fixed else None
