"""What every endpoint shares: bodies within limits, media that are fetched, clients that hang up, time that runs out, counters."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from zoo._version import __version__
from zoo.errors import FetchError, InputError
from zoo.inputs.apart import ImagesApart
from zoo.inputs.heif import refused
from zoo.inputs.item import Item
from zoo.serving.batching import Answered, Batcher
from zoo.serving.engines import Engine
from zoo.serving.limits import Limits, RequestError
from zoo.serving.metrics import Metrics
from zoo.serving.protocol import MEDIA, form_body, read_json, with_media
from zoo.serving.urls import Url, fetch, in_thread
from zoo.strangers.confined import SECONDS

LOG = logging.getLogger("zoo.serving")
SMALL_BODY = 2**16  # bytes that are parsed at once, without a thread
_CLIENT_GONE = 499
_FETCHES = 8  # at the same time; each may hold body_bytes that are counted once they are there
Parsed = TypeVar("Parsed")


class Served:
    """One model of a server: its names, its batcher, and what its probes gave at the start."""

    def __init__(self, engine: Engine, names: Sequence[str]) -> None:
        self.engine, self.names = engine, [name for name in names if name]
        self.reads = engine.probes()
        self.batcher: Batcher | None = None
        self.expected: Any = None
        self._probe: asyncio.Future[Answered] | None = None

    async def start(self, service: "Service") -> None:
        """Starts the model's thread and runs the probes, which also warms it up."""
        self.batcher = Batcher(self.engine, service.limits, service.metrics, service.heif)
        self.expected = (await asyncio.wrap_future(self.batcher.probe(self.reads))).results

    async def healthy(self) -> bool:
        """Whether the probes give what they gave at the start; one probe at a time answers everybody who asks meanwhile."""
        assert self.batcher is not None
        if self._probe is None or self._probe.done():
            self._probe = asyncio.wrap_future(self.batcher.probe(self.reads))
        return not self.engine.drifted((await asyncio.shield(self._probe)).results, self.expected)


class Service:
    """The models of a server with what all of its requests share."""

    def __init__(self, models: Sequence[Served], limits: Limits, allow_urls: bool, heif: bool) -> None:
        self.models, self.limits, self.allow_urls = models, limits, allow_urls
        # A hang must leave time for the answer that names it.
        seconds = min(SECONDS, limits.seconds / 2)
        self.heif = ImagesApart(max_pixels=limits.pixels, seconds=seconds) if heif else refused
        self.metrics = Metrics([model.names[0] for model in models])
        self.began = int(time.time())
        self.pending_bytes = self.pending_requests = 0
        self.fetching = asyncio.Semaphore(_FETCHES)

    async def start(self) -> None:
        """Starts the models' threads."""
        for model in self.models:
            await model.start(self)

    async def stop(self) -> None:
        """Answers what was taken, then ends the threads."""
        for model in self.models:
            if model.batcher:
                await asyncio.to_thread(model.batcher.close, self.limits.seconds)
        if isinstance(self.heif, ImagesApart):
            self.heif.close()

    # -------------------------------------------------------------------------------------------- one request

    async def counted(self, answer: Awaitable[Response], place: Callable[[int | None], str]) -> Response:
        """The answer within its time, whatever happens, with its counters; `place` names an input by its index in errors."""
        start = time.perf_counter()
        try:
            response = await self._timed(answer)
        except Exception as raised:
            error = _as_refusal(raised, place)
            self.metrics.refused.labels(error.code).inc()
            response = refusal(error)
        self.metrics.requests.labels(response.status_code).inc()
        self.metrics.seconds.observe(time.perf_counter() - start)
        return response

    async def _timed(self, answer: Awaitable[Response]) -> Response:
        if self.pending_requests >= self.limits.requests:
            answer.close()  # type: ignore[attr-defined]
            raise RequestError(503, "overloaded", "too many requests at once", retry_after=1)
        self.pending_requests += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await answer
        except TimeoutError:
            raise RequestError(
                504, "timeout", f"no answer within {self.limits.seconds:g} s; send fewer items", retry_after=1
            ) from None
        finally:
            self.pending_requests -= 1

    async def receive(self, request: Request, held: "Held") -> bytes:
        """The body, each piece of which counts as pending once it is there."""
        body = bytearray()
        limit = self.limits.body_bytes
        too_large = RequestError(413, "body_too_large", f"the body has more than {limit:,} bytes; send fewer items")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestError(415, "unsupported_encoding", "compressed bodies are not read")
        # Before anything is read; a client may lie or send none, so the pieces are counted too.
        if int(request.headers.get("content-length") or 0) > limit:
            raise too_large
        async for piece in request.stream():
            if len(body) + len(piece) > limit:
                raise too_large
            held.take(len(piece))
            body += piece
        return bytes(body)

    async def parsed(
        self, request: Request, body: bytes, parse: Callable[[Any], Parsed], *, forms: bool = False
    ) -> Parsed:
        """What `parse` makes of the JSON of a body, or of a form where those are read."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data" and forms:
            return parse(form_body(await self._form(request, body)))
        # Where text/plain were read as JSON, any web page could send it here without asking the browser for leave.
        if kind != "application/json":
            read = "application/json or multipart/form-data" if forms else "application/json"
            raise RequestError(415, "unsupported_type", f"Content-Type {kind[:60]!r}; send {read}")

        def read_body() -> Parsed:
            return parse(read_json(body, self.limits))

        return read_body() if len(body) <= SMALL_BODY else await asyncio.to_thread(read_body)

    async def _form(self, request: Request, body: bytes) -> list[tuple[str, str | bytes]]:
        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        limit = self.limits.items + 16
        form = Request(request.scope, replay).form(
            max_files=limit, max_fields=limit, max_part_size=self.limits.body_bytes
        )
        async with form as parts:
            return [(name, part if isinstance(part, str) else await part.read()) for name, part in parts.multi_items()]

    async def fetched(self, items: list[Item], held: "Held") -> list[Item]:
        """The items with every Url replaced by its bytes; one after the other, so that a request takes one thread."""
        places = [(i, url) for i, item in enumerate(items) for url in _urls(item)]
        if not places:
            return items
        left, fetched = self.limits.body_bytes, {}
        for index, url in places:
            if url in fetched:
                continue
            try:
                fetched[url] = await self._fetch(url, left)
            except FetchError as error:
                raise error.at(index) from None
            held.take(len(fetched[url]))
            left -= len(fetched[url])
        return with_media(items, fetched)

    async def _fetch(self, url: Url, max_bytes: int) -> bytes:
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(self.fetching.release)

        await self.fetching.acquire()
        call = in_thread(lambda: fetch(url.address, max_bytes=max_bytes, seconds=self.limits.seconds / 2))
        call.add_done_callback(release)  # not before its thread ends, also where the request has ended by then
        return await asyncio.wrap_future(call)

    async def unless_gone(self, request: Request, asked: "Future[Answered]") -> Answered:
        """The result; where the client hangs up first, its inputs are dropped."""
        done = asyncio.wrap_future(asked)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise RequestError(_CLIENT_GONE, "client_gone", "the client has closed the connection")
            return await done
        finally:
            done.cancel()
            gone.cancel()

    # -------------------------------------------------------------------------------------------- health

    async def health(self) -> Response:
        """200 where every model's thread runs its probes, within the time, as it did at the start; else 503."""
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self.limits.seconds):
                healthy = [await model.healthy() for model in self.models]
        except Exception as error:
            return JSONResponse({"status": "failing", "reason": type(error).__name__}, 503)
        seconds = round(time.perf_counter() - start, 4)
        if not all(healthy):
            return JSONResponse({"status": "failing", "reason": "the probes' results have changed"}, 503)
        names = [model.names[0] for model in self.models]
        told = {"status": "ok", "model": names[0], "seconds": seconds, "version": __version__}
        return JSONResponse(told | ({"reranker": names[1]} if len(names) > 1 else {}))


class Held:
    """What one request holds of the pending bytes, until it is answered."""

    def __init__(self, service: Service) -> None:
        self.service, self.size = service, 0

    def take(self, size: int) -> None:
        """Counts bytes that are in memory now; raises RequestError where all requests together hold too many."""
        if self.service.pending_bytes + size > self.service.limits.pending_bytes:
            raise RequestError(503, "overloaded", "too many large requests at once", retry_after=1)
        self.service.pending_bytes += size
        self.size += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives back all of it."""
        self.service.pending_bytes -= self.size
        self.size = 0


def _urls(item: Item) -> list[Url]:
    return [value for name in MEDIA if isinstance(value := getattr(item, name), Url)]


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def refusal(error: RequestError) -> Response:
    """An error as an answer."""
    return JSONResponse(error.body(), error.status, error.headers())


def _as_refusal(error: Exception, place: Callable[[int | None], str]) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InputError):
        return RequestError(400, error.code, str(error), param=place(error.index))
    if isinstance(error, HTTPException):
        return RequestError(error.status_code, "bad_form", f"the form cannot be read: {error.detail}")
    if isinstance(error, ClientDisconnect):
        return RequestError(_CLIENT_GONE, "client_gone", "the client has closed the connection")
    LOG.exception("a request failed", exc_info=error)
    return RequestError(500, "internal_error", "the model failed on this request; the server's log says why")
