"""A function in a process of its own, with limits on memory and time: what kills it costs one item, and no more.

`Confined` is the one side; run as a program, this file is the other. A request is JSON with bytes or an open file; the
answer is a row of pieces, each of JSON facts and bytes, of which many go by `zoo.strangers.blocks`.
"""

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

from zoo import errors
from zoo.allocator import keep_freed
from zoo.errors import InputError, ZooError
from zoo.strangers import blocks
from zoo.strangers.limits import allow_seconds, limit

MEMORY = 3 * 2**30  # bytes of address space: the libraries, and an image of 64 megapixels on its way from planes to RGB
SECONDS = 30.0  # for an item; an image of 64 megapixels takes three on an idle machine, twelve on a busy one
_LINE = 2**18  # bytes of the facts of a piece
_KEPT = 2**26  # bytes that were freed and stay with the process: some frames of 4K
_PIPE = 2**20  # more than the usual 64 kB: frames are large

Answer = Iterable[tuple[dict[str, Any], Any]]
"""What a confined function gives: pieces of facts (JSON) and a buffer of bytes, as they come."""
Room = Callable[[dict[str, Any], int], memoryview | None]
"""Where the bytes of a piece are put, by its facts and their number: so many bytes, or None for a place of their own."""


class ConfinedError(ZooError):
    """A confined function gave no answer; the message says why in words that follow "it ...".

    Attributes:
        reason: "died", "late", "memory", "failed" (an error that is none of the zoo's) or "lied" (no answer of this protocol).
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Confined:
    """A function in processes of its own, started with the first request, and again after one that killed its process.

    It may be called from any thread, and after a fork. The function, which a crafted item may have taken over, is believed
    nothing. What it raises by a name of `zoo.errors` is raised here.

    Args:
        function: "module:function". It gets bytes or the number of an open file, then the request by name, and gives an
            `Answer`. Its module is imported before the limits fall.
        seconds, memory: what one request may take. processes: how many work at a time; further requests wait.
    """

    def __init__(self, function: str, *, seconds: float = SECONDS, memory: int = MEMORY, processes: int = 1) -> None:
        self.function, self.seconds, self.memory, self.processes = function, seconds, memory, processes
        self._idle: list[_Child] = []
        self._begin()
        weakref.finalize(self, _end_all, self._idle)
        _ALL.add(self)

    def ask(
        self, name: str, content: bytes | BinaryIO = b"", *, most: int = 0, **request: Any
    ) -> tuple[dict[str, Any], bytearray]:
        """The only piece of an answer; as `pieces`."""
        pieces = list(self.pieces(name, content, most=most, count=1, **request))
        if not pieces:
            raise ConfinedError("gave an empty answer", "lied")
        return pieces[0]

    def pieces(
        self,
        name: str,
        content: bytes | BinaryIO = b"",
        *,
        most: int,
        count: int,
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
        room: Room | None = None,
        **request: Any,
    ) -> Iterator[tuple[dict[str, Any], bytearray | memoryview]]:
        """The pieces of the answer to one request, as they come.

        Args:
            name: what messages call the item. content: bytes, or a file opened to read, which the process gets as such.
            most: bytes of all pieces together; count: how many pieces. Who gives more has lied.
            seconds: in place of the usual ones; by the clock, while a piece is waited for. cpu_seconds: of the processor, of all
                threads together; by default twice as many.
            room: gets the facts of a piece and the number of its bytes, and says where these are put; None for a place of
                their own.
            request: JSON-able; the function gets it by name.

        Raises:
            ZooError: what the function raises by a name of `zoo.errors`. ConfinedError: it gave no answer.
        """
        with self._places:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None or not child.is_alive():
                if child is not None:
                    child.end()
                child = _Child(self.function, self.memory)
            audio = False
            try:
                times = (seconds or self.seconds, cpu_seconds or 2 * (seconds or self.seconds))
                yield from child.answer(name, content, times, most, count, request, room)
                audio = True
            except _RaisedError as error:
                audio = True
                raise error.args[0] from None
            finally:
                if audio:
                    with self._lock:
                        self._idle.append(child)
                else:  # dead, or out of step
                    child.end()

    def close(self) -> None:
        """Ends the processes that rest; the next request starts another."""
        with self._lock:
            _end_all(self._idle)

    def _begin(self) -> None:
        """Also what a fork begins with: the processes are its parent's, and a lock could be held for ever."""
        self._idle.clear()
        self._places, self._lock = threading.Semaphore(self.processes), threading.Lock()

    @property
    def pids(self) -> list[int]:
        """The processes that rest."""
        return [child.process.pid for child in self._idle]


_ALL: "weakref.WeakSet[Confined]" = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [confined._begin() for confined in _ALL])


class _RaisedError(Exception):
    """An error that the function raised and the process survived."""


class _Child:
    """One process: requests go through a socket, which can carry an open file, answers come through a pipe."""

    def __init__(self, function: str, memory: int) -> None:
        # -P and the path: the zoo that runs here, and no folder that merely has its name. No key or token goes along.
        kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if key in os.environ}
        path = os.pathsep.join(entry for entry in sys.path if entry)
        ours, theirs = socket.socketpair()
        self.shared = blocks.shared()
        passed = [self.shared.file] if self.shared else []
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "zoo.strangers.confined", function, str(memory), *map(str, passed)],
                    pass_fds=passed,
                    env={**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    stdin=theirs,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
        finally:
            if self.shared:
                self.shared.given()
        self.requests = ours
        assert self.process.stdout is not None
        self.answers = _Answers(self.process.stdout.fileno())
        _widen(self.answers.pipe)

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.requests.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def answer(
        self,
        name: str,
        content: bytes | BinaryIO,
        times: tuple[float, float],
        most: int,
        count: int,
        request: dict[str, Any],
        room: Room | None = None,
    ) -> Iterator[tuple[dict[str, Any], bytearray | memoryview]]:
        seconds, cpu_seconds = times
        self.answers.left = seconds
        try:
            self._send(content, {**request, "name": name}, cpu_seconds)
            while (piece := self._piece(name, most, room)) is not None:
                most, count = most - len(piece[1]), count - 1
                if count < 0:
                    raise ValueError("more pieces than were asked for")
                yield piece
        except TimeoutError as error:
            raise ConfinedError(f"took more than {seconds:g} s", "late") from error
        except (OSError, EOFError) as error:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)  # its own status, where it is about to have one
            if self.process.returncode == -signal.SIGXCPU:
                raise ConfinedError(f"took more than {cpu_seconds:g} s of the processor", "late") from error
            raise ConfinedError(f"ended with status {self.process.returncode}", "died") from error
        except (ValueError, RecursionError) as error:
            if isinstance(error, ZooError):
                raise
            raise ConfinedError(f"gave no answer ({error})", "lied") from error

    def _send(self, content: bytes | BinaryIO, request: dict[str, Any], cpu_seconds: float) -> None:
        is_file = not isinstance(content, bytes)
        size = 0 if is_file else len(content)
        line = json.dumps({"size": size, "cpu_seconds": cpu_seconds, "request": request}).encode()
        files = [content.fileno()] if is_file else []
        self.requests.settimeout(self.answers.left)
        socket.send_fds(self.requests, [len(line).to_bytes(8, "big")], files)
        self.requests.sendall(line)
        if not is_file:
            self.requests.sendall(content)

    def _piece(self, name: str, most: int, room: Room | None) -> tuple[dict[str, Any], bytearray | memoryview] | None:
        piece = json.loads(self.answers.line())
        if not isinstance(piece, dict):
            raise ValueError("no object")
        if piece.get("end") is True:
            return None
        if "error" in piece:
            raise _RaisedError(_error(str(piece["error"]), str(piece.get("message")), name))
        facts, size = piece.get("facts"), piece.get("size")
        if not isinstance(facts, dict) or not isinstance(size, int) or not 0 <= size <= most:
            raise ValueError("no facts, or more bytes than were asked for")
        place = room(facts, size) if room is not None else None
        content = bytearray(size) if place is None else place
        if piece.get("blocks") is True and self.shared is not None:
            self._take_blocks(memoryview(content))
        else:
            self.answers.fill(memoryview(content))
        return facts, content

    def _take_blocks(self, view: memoryview) -> None:
        told = memoryview(bytearray(1))
        for part in blocks.parts(view):
            self.answers.fill(told)
            if not blocks.received(told):
                raise ValueError("no block where one was promised")
            self.shared.take(part)
            blocks.set_free(self.requests)


class _Answers:
    """What a process writes, read without a thread to watch it.

    Attributes:
        left: seconds that it may still be waited for. While nobody reads, as where each of many pieces is embedded first, they
            stay as they are, and the process waits.
    """

    def __init__(self, pipe: int) -> None:
        self.pipe, self.left = pipe, 0.0
        self._waiting = select.poll()
        self._waiting.register(pipe, select.POLLIN)
        self._ahead = bytearray()

    def line(self) -> bytes:
        """Up to the next end of a line, without that.

        Raises:
            EOFError: there is none. TimeoutError: it did not come.
        """
        while (end := self._ahead.find(b"\n")) < 0:
            if len(self._ahead) > _LINE:
                raise EOFError
            self._wait()
            more = os.read(self.pipe, 2**12)  # little of the bytes that follow it, which have a place of their own
            if not more:
                raise EOFError
            self._ahead += more
        line = bytes(self._ahead[:end])
        del self._ahead[: end + 1]
        return line

    def fill(self, view: memoryview) -> None:
        """The next bytes, as many as there is room for; raises as `line`."""
        ahead = min(len(self._ahead), len(view))
        view[:ahead] = self._ahead[:ahead]
        del self._ahead[:ahead]
        view = view[ahead:]
        while view:
            self._wait()
            got = os.readv(self.pipe, [view])
            if not got:
                raise EOFError
            view = view[got:]

    def _wait(self) -> None:
        started = time.monotonic()
        ready = self._waiting.poll(1000 * self.left)
        self.left = max(self.left - (time.monotonic() - started), 0.0)
        if not ready:
            raise TimeoutError


def _error(kind: str, message: str, name: str) -> ZooError:
    if kind == "MemoryError":
        return ConfinedError("needs too much memory", "memory")
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, InputError):
        return found(message, what=name)
    if isinstance(found, type) and issubclass(found, ZooError):
        return found(message)
    return ConfinedError(f"failed: {' '.join(message.split())}", "failed")


def _end_all(children: list[_Child]) -> None:
    while children:
        children.pop().end()


def _widen(pipe: int) -> None:
    with suppress(ImportError, AttributeError, OSError):  # Linux alone knows it
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


# ---- The process.


def main(function: str, memory: str, shared: str = "") -> None:
    """Answers what comes in, until nothing more does; `shared` is the descriptor of `blocks.Shared`, if there is one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side is interrupted, and ends this one where it must
    source, target = socket.socket(fileno=os.dup(0)), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _widen(target.fileno())
    filled = blocks.Filled(int(shared), target, source) if shared else None
    module, _, name = function.partition(":")
    work = getattr(import_module(module), name)
    keep_freed(_KEPT)
    gc.freeze()  # what was imported is no garbage, and need not be looked at for every few hundred packets of a video
    limit(int(memory))
    while (asked := _request(source)) is not None:
        request, content = asked
        try:
            for facts, buffer in work(content, **request):
                _write(target, facts, buffer, filled)
        except MemoryError:
            _write_line(target, {"error": "MemoryError"})
        except BaseException as error:  # a panic of Rust is no Exception
            _write_line(target, {"error": type(error).__name__, "message": str(error)[:2000]})
        else:
            _write_line(target, {"end": True})
        finally:
            if isinstance(content, int):
                os.close(content)
            target.flush()
        if filled is not None:
            filled.settle()


def _request(source: socket.socket) -> tuple[dict[str, Any], bytes | int] | None:
    start, files, _, _ = socket.recv_fds(source, 8, 1)
    if not start:
        return None
    asked = json.loads(_received(source, int.from_bytes(start, "big")))
    content = files[0] if files else bytes(_received(source, asked["size"]))
    allow_seconds(asked["cpu_seconds"])
    return asked["request"], content


def _received(source: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        got = source.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return content


def _write(target: BinaryIO, facts: dict[str, Any], buffer: Any, filled: blocks.Filled | None) -> None:
    content = memoryview(buffer)
    content = content.cast("B") if content.nbytes else memoryview(b"")
    by_blocks = filled is not None and len(content) >= blocks.LEAST
    _write_line(target, {"facts": facts, "size": len(content), "blocks": by_blocks})
    if by_blocks:
        filled.put(content)
    else:
        target.write(content)


def _write_line(target: BinaryIO, piece: dict[str, Any]) -> None:
    target.write(json.dumps(piece).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
