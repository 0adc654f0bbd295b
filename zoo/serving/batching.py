"""Dynamic batching: items of many requests are read in threads and embedded together by one thread that owns the model."""

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

from zoo.embedder import Embedder, Tower
from zoo.embedder.streaming import forward
from zoo.encoders.prefetch import batches
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
from zoo.serving.limits import Limits, RequestError
from zoo.similarity import usable

if TYPE_CHECKING:
    from zoo.serving.metrics import Metrics

LOG = logging.getLogger("zoo.serving")
_CHUNK = 16  # texts read by one thread in one go; images one by one
_READ_AHEAD = 4.0  # batches' worth of read items that may wait for the model; beyond it the reading threads pause
_BUDGETS = 2.0  # batches' worth of items taken at once, so that items of similar length find each other


_NOT_FINITE = "the model gave no usable vector (NaN, infinity or zero); serve it as float32"


class Embedded(NamedTuple):
    """One request's result: `vectors` `(n, dim)`, the number of tokens in its texts, and which of its items are silence."""

    vectors: torch.Tensor
    tokens: int
    silent: tuple[int, ...] = ()


@dataclass(eq=False)
class _Job:
    """One request on its way."""

    items: Sequence[Item]
    prompt: str
    query: bool
    vectors: torch.Tensor
    left: int
    chunk: int = 1  # items read in one go
    next: int = 0  # the first item that no thread reads yet
    done: "Future[Embedded]" = field(default_factory=Future)
    tokens: int = 0
    error: Exception | None = None
    error_at: int = 2**62
    silent: set[int] = field(default_factory=set)


class _Read(NamedTuple):
    job: _Job
    index: int
    tower: int
    read: Any
    cost: float  # share of the encoder's budget
    tokens: int


class _Settled(NamedTuple):
    job: _Job
    index: int
    error: Exception | None = None
    tokens: int = 0


class Batcher:
    """Embeds the items of concurrent requests; every method may be called from any thread. `heif` decodes HEIC."""

    def __init__(self, model: Embedder, limits: Limits, metrics: "Metrics", heif: Way = refused) -> None:
        self.model, self.limits, self.metrics = model.eval(), limits, metrics
        self._heif = heif
        self._ready: deque[_Read] = deque()
        self._jobs: deque[_Job] = deque()  # those with items to read; each in turn gives a chunk
        self._changed = threading.Condition()
        self._waiting = self._unread = 0  # items without a vector; those of them that are not read yet
        self._cost = 0.0  # of all that is ready, in budgets
        self._rate = 0.0  # items per second, lately
        self._closing = False
        metrics.waiting.set_function(lambda: self._waiting)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="zoo-read")
        self._worker = threading.Thread(target=self._work, name="zoo-model", daemon=True)
        self._worker.start()

    # ------------------------------------------------------------------------------------------------ coming in

    def submit(self, items: Sequence[Item], prompt: str = "", *, query: bool = False) -> "Future[Embedded]":
        """Begins to embed one request's items; `prompt` is put before each text. Cancelling the future stops it.

        Where the items are a `query`, silence is an error of its item: whatever is near it is no answer.

        The future raises the InputError of the first bad item, with its index.

        Raises:
            RequestError: 503, the queue is full or the server stops.
        """
        chunk = _CHUNK if all(item.modalities == {"text"} for item in items) else 1
        job = _Job(items, prompt, query, torch.empty(len(items), self.model.spec.dim), len(items), chunk)
        with self._changed:
            if self._closing:
                raise RequestError(503, "stopping", "the server is stopping", retry_after=5)
            if self._waiting + len(items) > self.limits.queue_items:
                raise RequestError(
                    503, "overloaded", f"{self._waiting} items are waiting; try again later", retry_after=self._delay()
                )
            self._waiting += len(items)
            self._unread += len(items)
            self._jobs.append(job)
            # Inside the lock: close() must not shut the pool down between the check and this.
            for _ in range(0, len(items), chunk):
                self._pool.submit(self._read_chunk)
        job.done.add_done_callback(lambda _: self._forget(job))
        return job.done

    def _forget(self, job: _Job) -> None:
        """Drops what waits of a cancelled job: its client has gone, and its bytes no longer count as pending."""
        if not job.done.cancelled():
            return
        with self._changed:
            dropped = len(job.vectors) - job.next
            if dropped:
                self._jobs.remove(job)
                self._unread -= dropped
            kept = deque(entry for entry in self._ready if entry.job is not job)
            dropped += len(self._ready) - len(kept)
            self._ready, self._cost = kept, sum(entry.cost for entry in kept)
            job.items, job.next = (), len(job.vectors)
        self._settle([_Settled(job, 0)] * dropped)

    def probe(self, reads: Sequence[tuple[int, Any]]) -> "Future[Embedded]":
        """Embeds (tower, read) pairs ahead of everything that waits, however full the queue is."""
        job = _Job([Item()] * len(reads), "", False, torch.empty(len(reads), self.model.spec.dim), len(reads))
        if not reads:
            job.done.set_result(Embedded(job.vectors, 0))
        with self._changed:
            self._waiting += len(reads)
            self._ready.extendleft(_Read(job, i, tower, read, 0.0, 0) for i, (tower, read) in enumerate(reads))
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
            indices = range(job.next, min(job.next + job.chunk, len(job.items)))
            items = job.items[indices.start : indices.stop]
            job.next = indices.stop
            if job.next < len(job.items):
                # At the back of the line: a request of thousands of items gives way to one of
                # one item after each chunk.
                self._jobs.append(job)
        reads: list[_Read] = []
        settled: list[_Settled] = []
        for index, item in zip(indices, items, strict=True):
            if not _wanted(job, index):
                settled.append(_Settled(job, index))
                continue
            try:
                reads.append(self._read(job, index, item))
            except InputError as error:
                settled.append(_Settled(job, index, error.at(index)))
            except Exception as error:
                LOG.exception("item %d of a request could not be read", index)
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

    def _read(self, job: _Job, index: int, item: Item) -> _Read:
        self._check_pixels(item)
        self._check_pages(item)
        position = self.model.route_index(item)
        self._check_audio(item)
        encoder = self.model.routes[position].encoder
        with decoding(self._heif), noticing() as silences:
            read = encoder.prepare_prompted(item, job.prompt)
        if silences and all(silences):
            if job.query:
                raise SilentAudioError("the audio is silence, in which there is nothing to look for; record it again")
            job.silent |= {index} if item.modalities == {"audio"} else set()
        tokens = 0 if item.text is None else encoder.tokens(read)
        return _Read(job, index, position, read, encoder.length(read) / encoder.batch_budget, tokens)

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

    # ------------------------------------------------------------------------------------------------ embedding

    def _work(self) -> None:
        while taken := self._take():
            for position, tower in enumerate(self.model.routes):
                mine = [(i, entry.read) for i, entry in enumerate(taken) if entry.tower == position]
                for batch in batches(mine, tower.encoder, None):
                    self._embed(tower, [taken[i] for i, _ in batch])
            del taken

    def _take(self) -> list[_Read]:
        """What is embedded next, first come first served; empty once everything is done and the server stops."""
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

    def _embed(self, tower: Tower, entries: list[_Read]) -> None:
        """One forward pass; where it fails, halves, so that an item takes no other request down with it."""
        # Asked once: a client may go away between two looks.
        asked = [(entry, _wanted(entry.job, entry.index)) for entry in entries]
        self._settle([_Settled(entry.job, entry.index) for entry, yes in asked if not yes])
        wanted = [entry for entry, yes in asked if yes]
        if not wanted:
            return
        start = time.perf_counter()
        try:
            vectors = forward(self.model, tower, [entry.read for entry in wanted])
        except Exception as error:
            if len(wanted) > 1:
                self._embed(tower, wanted[: len(wanted) // 2])
                self._embed(tower, wanted[len(wanted) // 2 :])
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
        good = usable(vectors, self.model.spec.similarity).tolist()
        settled = []
        for entry, vector, ok in zip(wanted, vectors, good, strict=True):
            entry.job.vectors[entry.index] = vector
            error = None if ok else NonFiniteEmbeddingError(_NOT_FINITE, index=entry.index)
            settled.append(_Settled(entry.job, entry.index, error, entry.tokens))
        self._settle(settled)

    # ------------------------------------------------------------------------------------------------ going out

    def _settle(self, settled: Sequence[_Settled]) -> None:
        """Notes that these items have their vector, their error, or are wanted no more."""
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
                    job.done.set_result(Embedded(job.vectors, job.tokens, tuple(sorted(job.silent))))
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
