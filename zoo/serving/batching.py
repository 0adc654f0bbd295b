"""Dynamic batching: inputs of many requests are read in threads and run together by one thread that owns the model."""

import contextlib
import io
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from zoo.encoders.prefetch import batches, budget_of
from zoo.errors import (
    AudioTooLongError,
    DocumentTooLargeError,
    ImageTooLargeError,
    InputError,
    NonFiniteEmbeddingError,
    SilentAudioError,
)
from zoo.inputs.audio import longer_than
from zoo.inputs.document import page_count
from zoo.inputs.heif import Way, decoding, refused
from zoo.inputs.image import MAX_PIXELS
from zoo.inputs.item import Item
from zoo.inputs.kinds import FORMATS, kind_of
from zoo.inputs.resampling import lasting
from zoo.inputs.silence import noticing
from zoo.serving.engines import Engine, Read
from zoo.serving.limits import Limits, RequestError

if TYPE_CHECKING:
    from zoo.serving.metrics import Metrics

LOG = logging.getLogger("zoo.serving")
_CHUNK = 16  # texts read by one thread in one go; images one by one
_READ_AHEAD = 4.0  # batches' worth of read items that may wait for the model; beyond it the reading threads pause
_BUDGETS = 2.0  # batches' worth of items taken at once, so that items of similar length find each other


class Answered(NamedTuple):
    """One request's `results` `(n, width)`, the number of tokens in its texts, and which of its items are silence."""

    results: torch.Tensor
    tokens: int
    silent: tuple[int, ...] = ()


@dataclass(eq=False)
class _Job:
    """One request on its way."""

    inputs: Sequence[Any]
    prompt: str
    query: bool
    results: torch.Tensor
    left: int
    chunk: int = 1  # items read in one go
    next: int = 0  # the first item that no thread reads yet
    done: "Future[Answered]" = field(default_factory=Future)
    tokens: int = 0
    error: Exception | None = None
    error_at: int = 2**62
    silent: set[int] = field(default_factory=set)


class _Entry(NamedTuple):
    job: _Job
    index: int
    read: Read
    cost: float  # share of the encoder's budget


class _Settled(NamedTuple):
    job: _Job
    index: int
    error: Exception | None = None
    tokens: int = 0


class Batcher:
    """Runs the inputs of concurrent requests; every method may be called from any thread. `heif` decodes HEIC."""

    def __init__(self, engine: Engine, limits: Limits, metrics: "Metrics", heif: Way = refused) -> None:
        self.engine, self.limits, self.metrics = engine, limits, metrics
        self._heif = heif
        self._budgets = [budget_of(encoder) for encoder in engine.encoders]
        self._ready: deque[_Entry] = deque()
        self._jobs: deque[_Job] = deque()  # those with items to read; each in turn gives a chunk
        self._changed = threading.Condition()
        self._waiting = self._unread = 0  # inputs without a result; those of them that are not read yet
        self._cost = 0.0  # of all that is ready, in budgets
        self._rate = 0.0  # items per second, lately
        self._closing = False
        metrics.count_waiting(lambda: self._waiting)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="zoo-read")
        self._worker = threading.Thread(target=self._work, name="zoo-model", daemon=True)
        self._worker.start()

    # ------------------------------------------------------------------------------------------------ coming in

    def submit(self, inputs: Sequence[Any], prompt: str = "", *, query: bool = False) -> "Future[Answered]":
        """Begins with one request's inputs; `prompt` is put before each text. Cancelling the future stops it.

        Where the inputs are a `query`, silence is an error of its item: whatever is near it is no answer.

        The future raises the InputError of the first bad one, with its index.

        Raises:
            RequestError: 503, the queue is full or the server stops.
        """
        texts = all(item.modalities == {"text"} for one in inputs for item in self.engine.items(one))
        chunk, results = _CHUNK if texts else 1, torch.empty(len(inputs), self.engine.width)
        job = _Job(inputs, prompt, query, results, len(inputs), chunk)
        with self._changed:
            if self._closing:
                raise RequestError(503, "stopping", "the server is stopping", retry_after=5)
            if self._waiting + len(inputs) > self.limits.queue_items:
                raise RequestError(
                    503, "overloaded", f"{self._waiting} items are waiting; try again later", retry_after=self._delay()
                )
            self._waiting += len(inputs)
            self._unread += len(inputs)
            self._jobs.append(job)
            # Inside the lock: close() must not shut the pool down between the check and this.
            for _ in range(0, len(inputs), chunk):
                self._pool.submit(self._read_chunk)
        job.done.add_done_callback(lambda _: self._forget(job))
        return job.done

    def _forget(self, job: _Job) -> None:
        """Drops what waits of a cancelled job: its client has gone, and its bytes no longer count as pending."""
        if not job.done.cancelled():
            return
        with self._changed:
            dropped = len(job.results) - job.next
            if dropped:
                self._jobs.remove(job)
                self._unread -= dropped
            kept = deque(entry for entry in self._ready if entry.job is not job)
            dropped += len(self._ready) - len(kept)
            self._ready, self._cost = kept, sum(entry.cost for entry in kept)
            job.inputs, job.next = (), len(job.results)
        self._settle([_Settled(job, 0)] * dropped)

    def probe(self, reads: Sequence[Read]) -> "Future[Answered]":
        """Runs what was read ahead of everything that waits, however full the queue is."""
        job = _Job(reads, "", False, torch.empty(len(reads), self.engine.width), len(reads))
        if not reads:
            job.done.set_result(Answered(job.results, 0))
        with self._changed:
            self._waiting += len(reads)
            self._ready.extendleft(_Entry(job, i, read, 0.0) for i, read in enumerate(reads))
            self._changed.notify_all()
        return job.done

    def _delay(self) -> int:
        return min(60, max(1, round(self._waiting / self._rate))) if self._rate else 1

    # ------------------------------------------------------------------------------------------------ reading

    def _read_chunk(self) -> None:
        with self._changed:
            if not self._jobs:
                return
            job = self._jobs.popleft()
            indices = range(job.next, min(job.next + job.chunk, len(job.inputs)))
            inputs = job.inputs[indices.start : indices.stop]
            job.next = indices.stop
            if job.next < len(job.inputs):
                # At the back of the line: a request of thousands of items gives way to one of
                # one item after each chunk.
                self._jobs.append(job)
        reads: list[_Entry] = []
        settled: list[_Settled] = []
        for index, one in zip(indices, inputs, strict=True):
            if not _wanted(job, index):
                settled.append(_Settled(job, index))
                continue
            try:
                reads.append(self._read(job, index, one))
            except InputError as error:
                settled.append(_Settled(job, index, error.at(index)))
            except Exception as error:
                LOG.exception("input %d of a request could not be read", index)
                settled.append(_Settled(job, index, error))
        with self._changed:
            # Read items are decoded images: without a limit a slow model would fill the memory with them.
            while reads and self._cost >= _READ_AHEAD and not job.done.done():
                self._changed.wait()
            if job.done.done():
                settled += [_Settled(job, read.index) for read in reads]
                reads = []
            self._unread -= len(indices)
            self._ready.extend(reads)
            self._cost += sum(read.cost for read in reads)
            self._changed.notify_all()
        self._settle(settled)

    def _read(self, job: _Job, index: int, asked: Any) -> _Entry:
        items = self.engine.items(asked)
        for item in items:
            self._check_pixels(item)
            self._check_pages(item)
        route = self.engine.route(asked)  # before the audio is opened, which a model without audio needs no package for
        for item in items:
            self._check_audio(item)
        with decoding(self._heif), noticing() as silences:
            read = self.engine.read(asked, route, job.prompt)
        if silences and all(silences):
            if job.query:
                raise SilentAudioError("the audio is silence, in which there is nothing to look for; record it again")
            job.silent |= {index} if all(item.modalities == {"audio"} for item in items) else set()
        return _Entry(job, index, read, self.engine.encoders[route].length(read.value) / self._budgets[route])

    def check_sizes(self, item: Item) -> None:
        """Raises InputError where one item is larger than the limits."""
        self._check_pixels(item)
        self._check_pages(item)
        self._check_audio(item)

    def _check_pixels(self, item: Item) -> None:
        if not isinstance(item.image, bytes) or self.limits.pixels >= MAX_PIXELS:
            return
        from PIL import Image

        try:
            if kind_of(item.image) != "image":
                return
            with Image.open(io.BytesIO(item.image), formats=FORMATS) as image:
                width, height = image.size
        except Exception:
            return  # the encoder's own reader says better what is wrong with it
        if width * height > self.limits.pixels:
            raise ImageTooLargeError(
                f"an image of {width}x{height} pixels; at most {self.limits.pixels:,} are decoded: scale it down"
            )

    def _check_audio(self, item: Item) -> None:
        if isinstance(item.audio, bytes) and longer_than(item.audio, self.limits.audio_seconds):
            raise AudioTooLongError(f"audio of over {lasting(self.limits.audio_seconds)}; no more are embedded: cut it")

    def _check_pages(self, item: Item) -> None:
        if item.document is not None and (count := page_count(item.document)) > self.limits.pages:
            raise DocumentTooLargeError(
                f"a document of {count:,} pages; at most {self.limits.pages:,} are embedded: split it"
            )

    # ------------------------------------------------------------------------------------------------ running

    def _work(self) -> None:
        while taken := self._take():
            for route, encoder in enumerate(self.engine.encoders):
                mine = [(i, entry.read.value) for i, entry in enumerate(taken) if entry.read.route == route]
                for batch in batches(mine, encoder, None):
                    self._run(route, [taken[i] for i, _ in batch])
            del taken

    def _take(self) -> list[_Entry]:
        """What is run next, first come first served; empty once everything is done and the server stops."""
        with self._changed:
            while not self._ready:
                if self._closing and not self._unread:
                    return []
                self._changed.wait()
            # A lone request never waits; while others are being read, a batch with room does, a moment.
            until = time.monotonic() + self.limits.max_wait
            while self._unread and self._cost < 1:
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    break
            # At least one, however costly it is: an item above the budget would wait for ever.
            taken, cost = [], 0.0
            while self._ready and (not taken or cost + self._ready[0].cost <= _BUDGETS):
                taken.append(self._ready.popleft())
                cost += taken[-1].cost
            self._cost = self._cost - cost if self._ready else 0.0
            self._changed.notify_all()
        return taken

    def _run(self, route: int, entries: list[_Entry]) -> None:
        """One forward pass; where it fails, halves, so that an item takes no other request down with it."""
        # Asked once: a client may go away between two looks.
        asked = [(entry, _wanted(entry.job, entry.index)) for entry in entries]
        self._settle([_Settled(entry.job, entry.index) for entry, yes in asked if not yes])
        wanted = [entry for entry, yes in asked if yes]
        if not wanted:
            return
        start = time.perf_counter()
        try:
            results = self.engine.run(route, [entry.read.value for entry in wanted])
        except Exception as error:
            if len(wanted) > 1:
                self._run(route, wanted[: len(wanted) // 2])
                self._run(route, wanted[len(wanted) // 2 :])
                return
            if isinstance(error, InputError):  # a page of a document
                error = error.at(wanted[0].index)
            else:
                LOG.exception("a forward pass failed")
            self._settle([_Settled(wanted[0].job, wanted[0].index, error)])
            return
        seconds = time.perf_counter() - start
        # A running mean over the last few batches, for Retry-After alone.
        self._rate = 0.8 * self._rate + 0.2 * len(wanted) / max(seconds, 1e-6)
        self.metrics.batch_items.observe(len(wanted))
        self.metrics.batch_seconds.observe(seconds)
        # NaN is found here: in JSON it would be no JSON, and in an index it would rank silently wrong.
        good = self.engine.usable(results).tolist()
        settled = []
        for entry, result, ok in zip(wanted, results, good, strict=True):
            entry.job.results[entry.index] = result
            error = None if ok else NonFiniteEmbeddingError(self.engine.broken, index=entry.index)
            settled.append(_Settled(entry.job, entry.index, error, entry.read.tokens))
        self._settle(settled)

    # ------------------------------------------------------------------------------------------------ going out

    def _settle(self, settled: Sequence[_Settled]) -> None:
        """Notes that these items have their result, their error, or are wanted no more."""
        if not settled:
            return
        finished = []
        with self._changed:
            self._waiting -= len(settled)
            for job, index, error, tokens in settled:
                job.left -= 1
                job.tokens += tokens
                # The error of the first bad item, whichever thread found one first: the same
                # request has the same answer.
                if error is not None and index < job.error_at:
                    job.error, job.error_at = error, index
                if job.left == 0:
                    finished.append(job)
            self._changed.notify_all()
        for job in finished:
            with contextlib.suppress(InvalidStateError):  # cancelled: its client has gone, or waited long enough
                if job.error is None:
                    job.done.set_result(Answered(job.results, job.tokens, tuple(sorted(job.silent))))
                else:
                    job.done.set_exception(job.error)

    def close(self, seconds: float = 60.0) -> None:
        """Takes no more requests, finishes those that were taken, and ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._worker.join(seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)


def _wanted(job: _Job, index: int) -> bool:
    return not job.done.done() and index < job.error_at
