"""Decoders for the process of `zoo.inputs.apart`, each of which does what a crafted image could make a real one do."""

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo.inputs.apart import decoded
from zoo.strangers.confined import Answer

FACTS = {"height": 1, "width": 1}


def dies(data: bytes, name: str, **options: Any) -> Answer:
    """A crash on images that say so; others are decoded."""
    if isinstance(data, int) or b"die" in data:
        ctypes.string_at(0)
    return decoded(data, name, **options)


def hangs(data: bytes, name: str, **options: Any) -> Answer:
    """Never answers."""
    threading.Event().wait()
    raise AssertionError


def takes_all_memory(data: bytes, name: str, **options: Any) -> Answer:
    """Asks for more than the process may have."""
    return [(FACTS, np.ones((1 << 20, 1 << 10, 3), np.uint8))]


def lies(data: bytes, name: str, **options: Any) -> Answer:
    """Answers with more pixels than were allowed."""
    pixels = np.zeros((options["max_pixels"] + 1, 1, 3), np.uint8)
    return [({"height": len(pixels), "width": 1}, pixels)]


def answers_by_itself(data: bytes, name: str, **options: Any) -> Answer:
    """Writes another answer than the protocol has, on the channel of answers, which a crafted image may find."""
    for number in range(3, 16):
        with contextlib.suppress(OSError):
            os.write(number, b"[1, 2]\n")
    os._exit(0)


def raises_anything(data: bytes, name: str, **options: Any) -> Answer:
    """An error that is none of the zoo's."""
    raise RuntimeError("SystemExit")


def never_ends(data: bytes, name: str, **options: Any) -> Answer:
    """One piece after the other."""
    while True:
        yield FACTS, b"abc"


def says_another_size(data: bytes, name: str, **options: Any) -> Answer:
    """Fewer pixels than its facts promise."""
    return [({"height": 2, "width": 2}, b"abc")]


def says_no_size(data: bytes, name: str, **options: Any) -> Answer:
    """Facts of wrong types."""
    return [({"height": "1", "width": [1]}, b"abc")]


def _video(height: int, width: int, times: int, *frames: bytes) -> Answer:
    yield (
        {"total": 3, "fps": 1.0, "height": height, "width": width},
        np.arange(times).tobytes() + np.zeros(times).tobytes(),
    )
    yield from (({}, frame) for frame in frames)


def fewer_frames(data: int, name: str, **options: Any) -> Answer:
    """A video of three frames, of which one comes."""
    return _video(1, 1, 3, b"abc")


def other_frames(data: int, name: str, **options: Any) -> Answer:
    """Frames of another size than is said."""
    return _video(2, 2, 3, b"abc", b"abc", b"abc")


def vast_frames(data: int, name: str, **options: Any) -> Answer:
    """A size for which nobody has memory."""
    return _video(10**6, 10**6, 3)


def reaches_out(data: bytes, name: str, **options: Any) -> Answer:
    """Tries what a decoder that was taken over would; the facts say what was allowed. `data` is a folder with a file."""
    folder = Path(os.fsdecode(data))
    kept = folder / "kept.txt"
    tries = {
        "truncates": lambda: os.truncate(kept, 0),
        "opens to write": lambda: kept.open("wb"),
        "creates": lambda: os.close(os.open(folder / "new", os.O_CREAT | os.O_WRONLY)),
        "removes": kept.unlink,
        "renames": lambda: kept.rename(folder / "moved"),
        "links": lambda: (folder / "link").symlink_to(kept),
        "makes folders": (folder / "made").mkdir,
        "changes modes": lambda: kept.chmod(0o777),
        "connects": lambda: socket.create_connection(("127.0.0.1", 9), 1),
        "opens sockets": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "runs programs": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "signals": lambda: os.kill(os.getppid(), 0),
    }
    allowed = []
    for what, attempt in tries.items():
        with contextlib.suppress(PermissionError):
            with contextlib.suppress(ConnectionRefusedError):
                attempt()
            allowed.append(what)
    yield {"allowed": allowed}, b""


def waits(data: bytes, name: str, **options: Any) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Its process, after a while in which another request can come."""
    threading.Event().wait(0.2)
    yield {"pid": os.getpid()}, b""
