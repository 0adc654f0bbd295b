"""The routes: /v1/embeddings over an embedder, /v1/rerank over a reranker, and /v1/models, /health and /metrics over both."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from zoo._version import __version__
from zoo.embedder import Embedder
from zoo.serving import embeddings, reranking
from zoo.serving.doors import SameOrigin
from zoo.serving.limits import Limits, RequestError
from zoo.serving.schema import EMBEDDINGS, RERANK, TEI
from zoo.serving.service import Service, refusal

if TYPE_CHECKING:
    from zoo.reranking import Reranker


def build_app(
    embedder: Embedder | None,
    reranker: "Reranker | None",
    limits: Limits,
    api_key: str | None,
    allow_urls: bool,
    cors: Sequence[str],
    heif: bool,
) -> FastAPI:
    """The application after `zoo.serving.create_app`, which describes the arguments; one model at least is there."""
    vectors = embeddings.Embeddings(embedder) if embedder is not None else None
    scores = reranking.Rerank(reranker) if reranker is not None else None
    there = [one for one in (vectors, scores) if one is not None]
    service = Service([one.served for one in there], limits, allow_urls, heif)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # The pages of /docs would load scripts from elsewhere; /openapi.json stays, after the key.
    title = f"zoo serve {' '.join(one.served.names[0] for one in there)}"
    app = FastAPI(title=title, version=__version__, lifespan=lifespan, openapi_url=None)
    app.state.service = service
    keyed = [Depends(_asking_for(api_key))]
    if cors:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(SameOrigin, origins=cors)

    @app.post("/v1/embeddings", dependencies=keyed, openapi_extra=EMBEDDINGS, include_in_schema=vectors is not None)
    async def embed(request: Request) -> Response:
        if vectors is None:
            raise _not_here("an embedder", service, "zoo serve EMBEDDER --reranker NAME has both")
        return await service.counted(vectors.answer(service, request), embeddings.place)

    async def rerank(request: Request, shape: reranking.Shape | None) -> Response:
        if scores is None:
            raise _not_here("a reranker", service, "start it with --reranker NAME")
        return await service.counted(scores.answer(service, request, shape), reranking.place)

    @app.post("/v1/rerank", dependencies=keyed, openapi_extra=RERANK, include_in_schema=scores is not None)
    async def rerank_v1(request: Request) -> Response:
        return await rerank(request, "v1")

    @app.post("/v2/rerank", dependencies=keyed, openapi_extra=RERANK, include_in_schema=scores is not None)
    async def rerank_v2(request: Request) -> Response:
        return await rerank(request, "v2")

    @app.post("/rerank", dependencies=keyed, openapi_extra=TEI, include_in_schema=scores is not None)
    async def rerank_tei(request: Request) -> Response:
        return await rerank(request, None)

    @app.get("/v1/models", dependencies=keyed)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [one.facts(service.began) for one in there]}

    @app.get("/v1/models/{name:path}", dependencies=keyed)
    async def one_model(name: str) -> dict[str, Any]:
        for one in there:
            if name in one.served.names:
                return one.facts(service.began)
        known = " and ".join(one.served.names[0] for one in there)
        raise RequestError(404, "model_not_found", f"this server has {known}, not {name!r:.80}")

    _add_facts(app, service, keyed)
    return app


def _add_facts(app: FastAPI, service: Service, keyed: Sequence[Any]) -> None:
    """What is the same for all models: the schema, health and metrics, and errors as answers."""

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
        return refusal(error)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        response = refusal(RequestError(error.status_code, "http_error", str(error.detail)))
        response.headers.update(error.headers or {})  # Allow, of a 405
        return response


def _asking_for(api_key: str | None) -> Callable[[Request], Awaitable[None]]:
    async def authorised(request: Request) -> None:  # not a thread's work: FastAPI gives a plain function to one
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Starlette reads headers as latin-1, which gives back the bytes that were sent.
        same = hmac.compare_digest(given.strip().encode("latin-1"), (api_key or "").encode())
        if api_key and not (same and scheme.lower() == "bearer"):
            raise RequestError(401, "invalid_api_key", "a wrong API key, or none: send Authorization: Bearer <key>")

    return authorised


def _not_here(what: str, service: Service, remedy: str) -> RequestError:
    known = " and ".join(model.names[0] for model in service.models)
    return RequestError(404, "model_not_found", f"this server has {known}, and not {what}; {remedy}")
