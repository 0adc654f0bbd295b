"""An HTTP server for an embedder (OpenAI's API), a reranker (Cohere's, Jina's and TEI's) or both: requests are checked, batched, counted.

`create_app` makes the ASGI application, `run_server` runs it with uvicorn. Read limits.py (what is refused), protocol.py and
rerank_protocol.py (the wire), engines.py and batching.py (many requests, one model), service.py (what all requests share),
embeddings.py and reranking.py (one request of each), app.py (the routes).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.arguments import checked, flag, optional, text, texts, whole, wrong
from zoo.arguments import model as a_model
from zoo.errors import ArgumentError, MissingPackageError
from zoo.inputs.heif import check_library
from zoo.serving.limits import Limits, RequestError
from zoo.spec import need_one_vector

if TYPE_CHECKING:
    from fastapi import FastAPI

    from zoo.embedder import Embedder
    from zoo.reranking import Reranker

__all__ = ["Limits", "RequestError", "create_app", "run_server"]


def _a_reranker(name: str, value: Any) -> Any:
    if not (hasattr(value, "logits") and hasattr(value, "prepare")):
        raise wrong(name, value, "a reranker", f'write {name}=zoo.load_reranker("…")')
    return value


def _a_model(name: str, value: Any) -> Any:
    return _a_reranker(name, value) if hasattr(value, "logits") else a_model(name, value)


@checked(model=_a_model, reranker=optional(_a_reranker), api_key=optional(text), allow_urls=flag, cors=texts, heif=flag)
def create_app(
    model: "Embedder | Reranker",
    *,
    reranker: "Reranker | None" = None,
    limits: Limits | None = None,
    api_key: str | None = None,
    allow_urls: bool = False,
    cors: Sequence[str] = (),
    heif: bool = False,
) -> "FastAPI":
    """The ASGI application that serves one model, or an embedder and a reranker.

    Args:
        model: for /v1/embeddings an embedder, for /v1/rerank a reranker. reranker: for /v1/rerank, beside an embedder.
        limits: what one request and all of them together may take; by default `Limits()`.
        api_key: asked for as `Authorization: Bearer <key>` by everything but /health.
        allow_urls: fetch images from https addresses (see `zoo.serving.urls`).
        cors: origins of web pages that may call from a browser; what other pages send is refused (status 403).
        heif: decode HEIC images, in a process of its own (see `zoo.inputs.apart`); without it they are refused by name.

    Raises:
        MissingPackageError: FastAPI or a package beside it is not installed. TokenVectorsError: a model of late interaction.
        ArgumentError: two rerankers. ZooError: `heif` without pillow-heif, or with one whose libheif has known faults.
    """
    if heif:
        check_library()
    alone = hasattr(model, "logits")
    if alone and reranker is not None:
        raise ArgumentError(
            "model is a reranker, and reranker another; one server has an embedder and a reranker at most"
        )
    if not alone:
        need_one_vector(model.spec, "an embeddings server")
    try:
        from zoo.serving.app import build_app
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    embedder, reranker = (None, model) if alone else (model, reranker)
    return build_app(embedder, reranker, limits or Limits(), api_key, allow_urls, cors, heif)


@checked(host=text, port=whole(0), ready=text)
def run_server(app: "FastAPI", *, host: str = "127.0.0.1", port: int = 8000, ready: str = "{url}") -> None:
    """Serves until SIGINT or SIGTERM; requests that have begun are answered first.

    At an address of this machine alone, as by default, it answers only what is asked of localhost or such an address.

    Args:
        port: 0 takes any free one. ready: printed once the server answers; "{url}" stands for its address.

    Raises:
        MissingPackageError: uvicorn is not installed. ZooError: the port is taken or may not be used.
    """
    try:
        from zoo.serving.running import run
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    run(app, host, port, ready)


def _missing(error: ModuleNotFoundError) -> MissingPackageError:
    """The error that names the extra; a missing module of the zoo itself is raised again as it is."""
    if error.name and error.name.split(".")[0] == "zoo":
        raise error
    return MissingPackageError(f'the server needs {error.name}: pip install "embedding-zoo[serve]"', name=error.name)
