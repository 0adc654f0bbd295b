"""Several devices at once: a process for each has the model, and this one reads the source, hands out blocks of inputs and writes.

So everything that makes a job resumable and exact is as with one device: one process walks the source and writes the shards. A process
that dies is begun anew, and what it had is computed again.
"""

import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo import errors
from zoo.arguments import device as device_here
from zoo.errors import ArgumentError, InputError, WorkerError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

INPUTS, BYTES = 1024, 2**25  # of a block, at most
AHEAD = 2  # blocks that a process has: one that it computes and one that waits for it
TRIES = 3  # of a block whose process dies


class Embedded(NamedTuple):
    """A result as `encode_stream` gives it: a vector `(dim,)`, or the error in its place."""

    vector: "Tensor | None"
    error: InputError | None
    silent: bool


def devices_of(name: str, value: Any) -> list[str]:
    """Names of devices that are here: of a list, of words with commas between them, or "all".

    "all" is every GPU of CUDA; where there is none, the one device that a model is put on (see `zoo.loading.best_device`).

    Raises:
        ArgumentError: none, or one that is not here.
    """
    import torch

    from zoo.loading import best_device

    if value == "all":
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or [best_device()]
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not given or not all(isinstance(one, str) for one in given):
        raise ArgumentError(f'{name} must be "all" or names of devices such as ["cuda:0", "cuda:1"], not {value!r:.60}')
    return [str(device_here(name, one.strip())) for one in given]


class Devices:
    """A model on several devices, which embeds a stream of inputs as `Embedder.encode_stream` does.

    Args:
        names: a process each; one device may have several.
        model: what `zoo.load_model` opens. options: of `load_model`, but for the device.
        fingerprint: that every process's model must have: a folder may change meanwhile.
    """

    def __init__(self, names: Sequence[str], model: Any, options: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        threads = max(1, (os.cpu_count() or 1) // len(names))  # for each, so that those on the CPU share it
        setup = {"model": model, "options": options, "fingerprint": fingerprint, "threads": threads}
        self._workers = [_Worker(name, setup) for name in names]

    def stream(self, inputs: Iterable[Any], **options: Any) -> Iterator[Embedded]:
        """A result for each input, in order, in bounded memory.

        Args:
            options: of `encode_stream`.

        Raises:
            WorkerError: a process died again and again on one block. ZooError: what opening the model there raised.
        """
        waiting, blocks = deque[int](), _blocks(inputs)
        held: dict[int, list[bytes]] = {}  # blocks that are not computed yet
        done: dict[int, list[Embedded]] = {}  # and those that are, while an earlier one is not
        deaths = Counter[int]()
        most, given, next_one = (AHEAD + 1) * len(self._workers), 0, 0
        try:
            while True:
                while (free := self._free()) is not None:
                    if not waiting:
                        if given - next_one >= most or (block := next(blocks, None)) is None:
                            break
                        held[given] = block
                        waiting.append(given)
                        given += 1
                    number = waiting.popleft()
                    free.give(number, held[number], options)
                if next_one in done:
                    yield from done.pop(next_one)
                    next_one += 1
                    continue
                if next_one == given:
                    return
                number, results, worker = self._next()
                if results is None:
                    deaths[number] += 1
                    self._bury(worker, deaths[number])
                    waiting.extendleft(reversed(worker.left()))
                else:
                    done[number] = results
                    del held[number]
        finally:
            self.close()

    def _free(self) -> "_Worker | None":
        """The process that has the least to do, if it may have more."""
        least = min(self._workers, key=lambda worker: len(worker.has))
        return least if len(least.has) < AHEAD else None

    def _next(self) -> tuple[int, list[Embedded] | None, "_Worker"]:
        """A finished block; None of a process that has died."""
        busy = {worker.connection: worker for worker in self._workers if worker.has}
        worker = busy[wait(list(busy))[0]]  # type: ignore[index]
        number, results = worker.take()
        return number, results, worker

    def _bury(self, worker: "_Worker", deaths: int) -> None:
        """Raises WorkerError where processes died on the same block again and again."""
        status = worker.end()
        if deaths >= TRIES:
            raise WorkerError(
                f"the process on {worker.device} ended with status {status}, and so did others on the same inputs, {deaths} times; memory "
                "may be too small for them (status -9): take a smaller --batch-size, or fewer devices. What was done is kept"
            )

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.end()


class _Worker:
    """One process, begun with its first block.

    Attributes:
        has: numbers of the blocks that it has, in order.
    """

    def __init__(self, device: str, setup: dict[str, Any]) -> None:
        self.device, self.setup = device, setup
        self.has: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None

    def give(self, number: int, block: list[bytes], options: dict[str, Any]) -> None:
        """Hands it a block; where it has died, `take` says so."""
        if self.process is None:
            self._begin()
        self.has.append(number)
        with contextlib.suppress(OSError):
            self.connection.send((block, options))  # type: ignore[union-attr]

    def _begin(self) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)  # the zoo that runs here
        ours, theirs = socket.socketpair()
        threads = str(self.setup["threads"])
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "zoo.bulk.worker"],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"},
                stdin=theirs,
                stdout=2,  # what libraries print is no part of our own answer
            )
        self.connection = Connection(ours.detach())
        with contextlib.suppress(OSError):
            self.connection.send({**self.setup, "device": self.device})

    def take(self) -> tuple[int, list[Embedded] | None]:
        """The block that it has finished; None where it has died; raises what it raised."""
        number = self.has[0]
        try:
            facts = json.loads(self.connection.recv_bytes())  # type: ignore[union-attr]
            rows = np.frombuffer(self.connection.recv_bytes(), np.float32)  # type: ignore[union-attr]
        except (EOFError, OSError):
            return number, None
        if "error" in facts:
            raise _error(facts["error"], f"on {self.device}: {facts['message']}")
        self.has.pop(0)
        return number, _results(facts, rows)

    def left(self) -> list[int]:
        """Takes back the blocks of a process that has died."""
        left, self.has = self.has, []
        return left

    def end(self) -> int | None:
        """Ends the process, and gives the status that it ended with; another begins with the next block."""
        status = None
        if self.process is not None:
            self.connection.close()  # type: ignore[union-attr]
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self.process.wait(0.2)  # its own, where it has one
            self.process.kill()
            self.process.wait()
        self.process = self.connection = None
        return status


def _blocks(inputs: Iterable[Any]) -> Iterator[list[bytes]]:
    """Inputs in blocks of bounded size, pickled for our own processes."""
    block: list[bytes] = []
    size = 0
    for value in inputs:
        block.append(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        size += len(block[-1])
        if len(block) >= INPUTS or size >= BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _results(facts: dict[str, Any], rows: np.ndarray) -> list[Embedded]:
    """What a process answers: `errors` by place, `silent` places, and the vectors `(n, dim)` of all others.

    No pickle comes this way: those processes decode what strangers made.
    """
    import torch

    bad = {int(place): (kind, message) for place, (kind, message) in facts["errors"].items()}
    vectors = iter(torch.from_numpy(rows.reshape(-1, facts["dim"]).copy()) if facts["dim"] else ())
    found = []
    for place in range(facts["count"]):
        error = _error(*bad[place]) if place in bad else None
        found.append(Embedded(None if error else next(vectors), error, place in facts["silent"]))
    return found


def _error(kind: str, message: str) -> Any:
    """An error of `zoo.errors` by its name; of any other kind a WorkerError."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, InputError):
        return known(message)
    return (
        known(message) if isinstance(known, type) and issubclass(known, ZooError) else WorkerError(f"{kind}: {message}")
    )
