"""ReadCache: what encoders have read, in memory, so that a second epoch does not decode again."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.encoders.base import Encoder
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item


class ReadCache:
    """What encoders have read, in memory, so that a second epoch does not decode again; safe for many threads.

    Args:
        budget: bytes; what was asked for least lately goes first.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.size = budget, 0
        self._reads: OrderedDict[tuple[Encoder, bytes], tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, encoder: Encoder, item: Item) -> Any:
        """`encoder.prepare_item(item)`, or what it gave before; not to be changed in place. Errors are not kept."""
        key = (encoder, item_key(item))
        with self._lock:
            if key in self._reads:
                self._reads.move_to_end(key)
                return self._reads[key][0]
        value = encoder.prepare_item(item)  # outside the lock: decoding is what the threads are for
        size = _size(value) + sys.getsizeof(key)
        with self._lock:
            if key not in self._reads and size <= self.budget:
                self._reads[key] = (value, size)
                self.size += size
                while self.size > self.budget:
                    self.size -= self._reads.popitem(last=False)[1][1]
        return value


def _size(value: Any) -> int:
    """Bytes that a read takes, nearly."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sys.getsizeof(value) + sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + (
            32 * len(value) if value and isinstance(value[0], int) else sum(map(_size, value))
        )
    return getattr(value, "nbytes", None) or sys.getsizeof(value)
