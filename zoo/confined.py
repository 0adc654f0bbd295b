"""Decoding what strangers send in a process of its own, with limits on memory and time: what kills it costs one image.

`Confined` is the one side; run as a program, this file is the other: a line of JSON and the image's bytes come in, a line
of JSON and its pixels go out.
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo import errors
from zoo.errors import CorruptImageError, ImageTooLargeError, InputError
from zoo.media import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np

MEMORY = 3 * 2**30  # bytes of address space: the libraries, and an image of 64 megapixels on its way from planes to RGB
SECONDS = 30.0  # for an image; one of 64 megapixels takes three on an idle machine, twelve on a busy one
_LINE = 2**16


class Confined:
    """A decoder in a process of its own, started with the first image, and again after one that killed it.

    It may be called from any thread; one image is decoded at a time.

    Args:
        max_pixels: images with more are refused before they are decoded.
        seconds, memory: what one image may take. decoder: "module:function" that the process runs.
    """

    def __init__(
        self,
        *,
        max_pixels: int = MAX_PIXELS,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        decoder: str = "zoo.media:decode",
    ) -> None:
        self.max_pixels, self.seconds, self.memory, self.decoder = min(max_pixels, MAX_PIXELS), seconds, memory, decoder
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __call__(self, data: bytes, name: str) -> "np.ndarray":
        """An image file's bytes as upright RGB: uint8 `(height, width, 3)`.

        Raises:
            InputError: as `zoo.media.load_pixels`; CorruptImageError also where the decoder died or took too long.
        """
        with self._lock:
            process = self._running()
            late: list[bool] = []
            timer = threading.Timer(self.seconds, lambda: (late.append(True), process.kill()))
            timer.start()
            try:
                return self._asked(process, data, name)
            except InputError:
                raise  # its answer, which is also a ValueError
            except (OSError, EOFError, ValueError) as error:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)  # its own status, where it is about to have one
                self._end()
                why = f"took more than {self.seconds:g} s" if late else f"ended with status {process.returncode}"
                raise CorruptImageError(
                    f"{name} is damaged, or made to do harm: its decoder {why}; save the image again as JPEG or PNG",
                    what=name,
                ) from error
            finally:
                timer.cancel()

    def close(self) -> None:
        """Ends the process; the next image starts another."""
        with self._lock:
            self._end()

    def _asked(self, process: "subprocess.Popen[bytes]", data: bytes, name: str) -> "np.ndarray":
        """Its pixels; the process, which a crafted image may have taken over, is believed nothing."""
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"size": len(data), "name": name, "max_pixels": self.max_pixels}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.write(data)
        process.stdin.flush()
        line = process.stdout.readline(_LINE)
        if not line.endswith(b"\n"):
            raise EOFError
        try:
            answer = json.loads(line)
        except RecursionError:
            raise ValueError("no answer") from None
        if not isinstance(answer, dict):
            raise ValueError("no answer")
        if "error" in answer:
            found = getattr(errors, str(answer["error"]), None)
            known = isinstance(found, type) and issubclass(found, InputError)
            raise (found if known else CorruptImageError)(str(answer.get("message")), what=name)
        return _pixels(process.stdout, answer, self.max_pixels)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        # -P and the path: the zoo that runs here, and no folder that merely has its name. No key or token goes along.
        kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if key in os.environ}
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "zoo.confined", self.decoder, str(self.memory)],
            env={**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):  # what could not be written any more
                stream.close()  # type: ignore[union-attr]


def _pixels(stream: BinaryIO, answer: dict[str, Any], max_pixels: int) -> "np.ndarray":
    import numpy as np

    height, width = answer.get("height"), answer.get("width")
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise ValueError
    if height * width > max_pixels:
        raise ValueError
    content = bytearray(height * width * 3)
    if stream.readinto(content) != len(content):
        raise EOFError
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)


# ---- The process.


def main(decoder: str, memory: str) -> None:
    """Decodes what comes in, until nothing more does."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    module, _, name = decoder.partition(":")
    decode = getattr(import_module(module), name)
    _limit(int(memory))
    while line := source.readline():
        request = json.loads(line)
        data = source.read(request.pop("size"))
        try:
            pixels = decode(data, **request)
        except MemoryError:
            _say(target, ImageTooLargeError(f"{request['name']} needs too much memory to be decoded: scale it down"))
        except Exception as error:
            _say(target, error)
        else:
            height, width = pixels.shape[:2]
            target.write(json.dumps({"height": height, "width": width}).encode() + b"\n")
            target.write(pixels.data)
        target.flush()


def _say(target: BinaryIO, error: Exception) -> None:
    answer = {"error": type(error).__name__, "message": str(error)[:2000]}
    target.write(json.dumps(answer).encode() + b"\n")


def _limit(memory: int) -> None:
    import resource

    limits = {resource.RLIMIT_AS: memory, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    for kind, value in limits.items():
        with suppress(ValueError, OSError):  # a system that does not know it, or has set less
            resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    main(*sys.argv[1:])
