"""The routes: /v1/embeddings, /v1/models, /health and /metrics over one model."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import torch
from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from zoo._version import __version__
from zoo.embedder import Embedder
from zoo.errors import FetchError, InputError
from zoo.inputs.apart import ImagesApart
from zoo.inputs.heif import refused
from zoo.inputs.item import Item
from zoo.serving.batching import Batcher, Embedded
from zoo.serving.doors import SameOrigin
from zoo.serving.limits import Limits, RequestError
from zoo.serving.metrics import Metrics
from zoo.serving.protocol import MEDIA, EmbeddingRequest, answer, form_body, parse, read_json, with_media
from zoo.serving.urls import Url, fetch, in_thread
from zoo.similarity import cut
from zoo.strangers.confined import SECONDS

LOG = logging.getLogger("zoo.serving")
_SMALL_BODY = 2**16  # bytes that are parsed at once, without a thread
_CLIENT_GONE = 499
_DRIFT = 0.14  # of a probe's vector, as a share of its norm; of unit vectors a cosine of 0.99
_FETCHES = 8  # at the same time; each may hold body_bytes that are counted once they are there


class Service:
    """One model with its batcher and counters: what the routes call."""

    def __init__(self, model: Embedder, limits: Limits, allow_urls: bool, heif: bool) -> None:
        self.model, self.limits, self.allow_urls = model, limits, allow_urls
        # A hang must leave time for the answer that names it.
        seconds = min(SECONDS, limits.seconds / 2)
        self.heif = ImagesApart(max_pixels=limits.pixels, seconds=seconds) if heif else refused
        self.names = [name for name in (model.spec.name, model.spec.hub_id) if name]
        self.metrics = Metrics(model.spec.name)
        self.began = int(time.time())
        self.pending_bytes = self.pending_requests = 0
        self.reads = _probes(model)
        self.batcher: Batcher | None = None
        self._probe: asyncio.Future[Embedded] | None = None
        self.fetching = asyncio.Semaphore(_FETCHES)

    async def start(self) -> None:
        """Starts the model's thread and embeds the probes, which also warms it up."""
        self.batcher = Batcher(self.model, self.limits, self.metrics, self.heif)
        self.expected = (await asyncio.wrap_future(self.batcher.probe(self.reads))).vectors

    async def stop(self) -> None:
        """Answers what was taken, then ends the threads."""
        if self.batcher:
            await asyncio.to_thread(self.batcher.close, self.limits.seconds)
        if isinstance(self.heif, ImagesApart):
            self.heif.close()

    # -------------------------------------------------------------------------------------------- embeddings

    async def embeddings(self, request: Request) -> Response:
        """The whole way of one request, within its time."""
        if self.pending_requests >= self.limits.requests:
            raise RequestError(503, "overloaded", "too many requests at once", retry_after=1)
        self.pending_requests += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self._embeddings(request)
        except TimeoutError:
            raise RequestError(
                504, "timeout", f"no answer within {self.limits.seconds:g} s; send fewer items", retry_after=1
            ) from None
        finally:
            self.pending_requests -= 1

    async def _embeddings(self, request: Request) -> Response:
        held = _Held(self)
        try:
            body = await self._receive(request, held)
            embedding_request = await self._parse(request, body)
            del body
            items = await self._fetched(embedding_request.items, held)
            done = await self._unless_gone(request, items, embedding_request)
            return await self._answer(embedding_request, items, done)
        finally:
            held.release()

    async def _receive(self, request: Request, held: "_Held") -> bytes:
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

    async def _parse(self, request: Request, body: bytes) -> EmbeddingRequest:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        options = (self.model, self.names, self.limits)
        if kind == "multipart/form-data":
            return parse(form_body(await self._form(request, body)), *options, allow_urls=self.allow_urls)
        # Where text/plain were read as JSON, any web page could send it here without asking the browser for leave.
        if kind != "application/json":
            raise RequestError(
                415, "unsupported_type", f"Content-Type {kind[:60]!r}; send application/json or multipart/form-data"
            )

        def read() -> EmbeddingRequest:
            return parse(read_json(body, self.limits), *options, allow_urls=self.allow_urls)

        return read() if len(body) <= _SMALL_BODY else await asyncio.to_thread(read)

    async def _form(self, request: Request, body: bytes) -> list[tuple[str, str | bytes]]:
        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        limit = self.limits.items + 16
        form = Request(request.scope, replay).form(
            max_files=limit, max_fields=limit, max_part_size=self.limits.body_bytes
        )
        async with form as parts:
            return [(name, part if isinstance(part, str) else await part.read()) for name, part in parts.multi_items()]

    async def _fetched(self, items: list[Item], held: "_Held") -> list[Item]:
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

    async def _unless_gone(self, request: Request, items: list[Item], asked: EmbeddingRequest) -> Embedded:
        """The result; where the client hangs up first, its items are dropped."""
        assert self.batcher is not None
        done = asyncio.wrap_future(self.batcher.submit(items, asked.prompt, query=asked.query))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise RequestError(_CLIENT_GONE, "client_gone", "the client has closed the connection")
            return await done
        finally:
            done.cancel()
            gone.cancel()

    async def _answer(self, request: EmbeddingRequest, items: list[Item], done: Embedded) -> Response:
        vectors = done.vectors
        if request.dimensions < vectors.shape[1]:
            # Whole vectors come from the batcher, so requests of any length share its batches; each is cut here.
            vectors = cut(vectors, request.dimensions, self.model.spec.similarity)
        usage = {"prompt_tokens": done.tokens, "total_tokens": done.tokens}
        arguments = (vectors, request, self.names[0], usage, done.silent)
        large = vectors.numel() > _SMALL_BODY
        body = await asyncio.to_thread(answer, *arguments) if large else answer(*arguments)
        for item in items:
            self.metrics.items.labels("+".join(sorted(item.modalities))).inc()
        self.metrics.tokens.inc(done.tokens)
        return Response(body, media_type="application/json")

    # -------------------------------------------------------------------------------------------- facts and health

    def facts(self) -> dict[str, Any]:
        """OpenAI's model object, with the facts that a client needs to use the model well."""
        spec = self.model.spec
        known = {"id": spec.name, "object": "model", "created": self.began, "owned_by": "embedding-zoo"}
        return {
            **known,
            "dim": spec.dim,
            "dims": list(spec.dims),
            "similarity": spec.similarity,
            "modalities": sorted(spec.modalities),
            "prompts": dict(spec.prompts),
            "languages": list(spec.languages),
            "max_tokens": spec.max_tokens,
            "revision": spec.revision,
        }

    async def health(self) -> Response:
        """200 where the model's thread embeds the probes, within its time, as it did at the start; else 503."""
        assert self.batcher is not None
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self.limits.seconds):
                # One probe at a time answers everybody who asks meanwhile.
                if self._probe is None or self._probe.done():
                    self._probe = asyncio.wrap_future(self.batcher.probe(self.reads))
                vectors = (await asyncio.shield(self._probe)).vectors
        except Exception as error:
            return JSONResponse({"status": "failing", "reason": type(error).__name__}, 503)
        seconds = round(time.perf_counter() - start, 4)
        if not bool((vectors - self.expected).norm(dim=-1).le(_DRIFT * self.expected.norm(dim=-1)).all()):
            return JSONResponse({"status": "failing", "reason": "the probes' vectors have changed"}, 503)
        return JSONResponse({"status": "ok", "model": self.names[0], "seconds": seconds, "version": __version__})


class _Held:
    """What one request holds of the pending bytes, until it is answered."""

    def __init__(self, service: Service) -> None:
        self.service, self.size = service, 0

    def take(self, size: int) -> None:
        """Counts bytes that are in memory now; raises RequestError where all requests together hold too many."""
        if self.service.pending_bytes + size > self.service.limits.pending_bytes:
            raise RequestError(503, "overloaded", "too many large requests at once", retry_after=1)
        self.service.pending_bytes += size
        self.size += size

    def release(self) -> None:
        """Gives back all of it."""
        self.service.pending_bytes -= self.size
        self.size = 0


def _probes(model: Embedder) -> list[tuple[int, Any]]:
    """(tower, read) of a small text and a small image: one for each tower that reads either alone."""
    samples = (Item(text="health"), Item(image=torch.arange(3 * 64 * 64).reshape(3, 64, 64).to(torch.uint8)))
    reads: dict[int, Any] = {}
    for position, tower in enumerate(model.towers):
        for sample in samples:
            if position not in reads and sample.modalities <= tower.encoder.modalities:
                reads[position] = tower.encoder.prepare_item(sample)
    return list(reads.items())


def _urls(item: Item) -> list[Url]:
    return [value for name in MEDIA if isinstance(value := getattr(item, name), Url)]


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build_app(
    model: Embedder, limits: Limits, api_key: str | None, allow_urls: bool, cors: Sequence[str], heif: bool
) -> FastAPI:
    """The application after `zoo.serving.create_app`, which describes the arguments."""
    service = Service(model, limits, allow_urls, heif)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    def authorised(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Starlette reads headers as latin-1, which gives back the bytes that were sent.
        same = hmac.compare_digest(given.strip().encode("latin-1"), (api_key or "").encode())
        if api_key and not (same and scheme.lower() == "bearer"):
            raise RequestError(401, "invalid_api_key", "a wrong API key, or none: send Authorization: Bearer <key>")

    # The pages of /docs would load scripts from elsewhere; /openapi.json stays, after the key.
    app = FastAPI(title=f"zoo serve {model.spec.name}", version=__version__, lifespan=lifespan, openapi_url=None)
    app.state.service = service
    keyed = [Depends(authorised)]
    if cors:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(SameOrigin, origins=cors)

    @app.post("/v1/embeddings", dependencies=keyed, openapi_extra=_SCHEMA)
    async def embeddings(request: Request) -> Response:
        return await _counted(service, service.embeddings(request))

    @app.get("/v1/models", dependencies=keyed)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.facts()]}

    @app.get("/v1/models/{name:path}", dependencies=keyed)
    async def one_model(name: str) -> dict[str, Any]:
        if name not in service.names:
            raise RequestError(404, "model_not_found", f"this server has {service.names[0]}, not {name!r:.80}")
        return service.facts()

    @app.get("/openapi.json", dependencies=keyed, include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> Response:
        return await service.health()

    @app.get("/metrics", dependencies=keyed)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> Response:
        service.metrics.refused.labels(error.code).inc()
        return _refusal(error)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        response = _refusal(RequestError(error.status_code, "http_error", str(error.detail)))
        response.headers.update(error.headers or {})  # Allow, of a 405
        return response

    return app


def _refusal(error: RequestError) -> Response:
    return JSONResponse(error.body(), error.status, error.headers())


async def _counted(service: Service, work: Awaitable[Response]) -> Response:
    """The answer, whatever happens, with its counters."""
    start = time.perf_counter()
    try:
        response = await work
    except Exception as raised:
        error = _as_refusal(raised)
        service.metrics.refused.labels(error.code).inc()
        response = _refusal(error)
    service.metrics.requests.labels(response.status_code).inc()
    service.metrics.seconds.observe(time.perf_counter() - start)
    return response


def _as_refusal(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InputError):
        return RequestError.of_input(error)
    if isinstance(error, HTTPException):
        return RequestError(error.status_code, "bad_form", f"the form cannot be read: {error.detail}")
    if isinstance(error, ClientDisconnect):
        return RequestError(_CLIENT_GONE, "client_gone", "the client has closed the connection")
    LOG.exception("a request failed", exc_info=error)
    return RequestError(500, "internal_error", "the model failed on this request; the server's log says why")


_ITEM = {
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "description": 'One item: {"text": …}, {"image": "data:image/…;base64,…"}, {"audio": …}, {"document": "data:application/pdf;base64,…"}, or {"content": [OpenAI content '
            'parts]}; beside an image "regions": [{"box": [x0, y0, x1, y1]}, {"point": [x, y]}, {"polygon": [[x, y], …]}, {"mask": '
            '{"size": [height, width], "counts": …}}], which are together one region, in pixels of the upright image; the first '
            'three also with "unit": "relative".',
        },
    ]
}
_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["input"],
                    "properties": {
                        "input": {"oneOf": [*_ITEM["oneOf"], {"type": "array", "items": _ITEM}]},
                        "model": {"type": "string"},
                        "dimensions": {"type": "integer"},
                        "encoding_format": {"enum": ["float", "base64"], "default": "float"},
                        "input_type": {"enum": ["query", "document"]},
                        "prompt": {"type": "string"},
                        "prompt_name": {"type": "string"},
                        "user": {"type": "string"},
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "input": {"type": "array", "items": {"type": "string"}},
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            },
        },
    }
}
