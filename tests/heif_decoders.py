"""Decoders for the process of `zoo.confined`, each of which does what a crafted image could make a real one do."""

import contextlib
import os
import signal
import threading
from typing import Any

import numpy as np

from zoo.media import decode


def dies(data: bytes, name: str, **options: Any) -> np.ndarray:
    """A crash on images that say so; others are decoded."""
    if b"die" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(data, name, **options)


def hangs(data: bytes, name: str, **options: Any) -> np.ndarray:
    """Never answers."""
    threading.Event().wait()
    raise AssertionError


def takes_all_memory(data: bytes, name: str, **options: Any) -> np.ndarray:
    """Asks for more than the process may have."""
    return np.ones((1 << 20, 1 << 10, 3), np.uint8)


def lies(data: bytes, name: str, **options: Any) -> np.ndarray:
    """Answers with more pixels than were allowed."""
    return np.zeros((options["max_pixels"] + 1, 1, 3), np.uint8)


def answers_by_itself(data: bytes, name: str, **options: Any) -> np.ndarray:
    """Writes another answer than the protocol has, on the channel of answers, which a crafted image may find."""
    for number in range(3, 16):
        with contextlib.suppress(OSError):
            os.write(number, b"[1, 2]\n")
    os._exit(0)


def raises_nonsense(data: bytes, name: str, **options: Any) -> np.ndarray:
    """An error that is none of the zoo's."""
    raise RuntimeError("SystemExit")
