"""Serve a model over HTTP: embeddings or reranking, for usual clients.

Clients of OpenAI's embeddings API work, and those of Cohere's, Jina's and TEI's rerankers: point their
base URL at the printed address. Texts, and images and PDFs as data URLs
or uploads, are accepted. With --reranker one server has both: /v1/embeddings, and /v1/rerank (Cohere, Jina), /v2/rerank (Cohere) and
/rerank (TEI). GET /v1/models says what the models read, /health asks each something to make sure that it works, /metrics is for
Prometheus.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from zoo.cli._rerank import NAMES, meant, of_reranker, open_reranker
from zoo.cli._shared import (
    DEFAULT_MODEL,
    add_against_option,
    add_backend,
    add_device,
    add_like,
    add_pixels,
    open_model,
    port,
    positive,
)
from zoo.errors import ZooError
from zoo.inputs.heif import check_library

if TYPE_CHECKING:
    from zoo.reranking import Reranker

EXAMPLES = (
    "zoo serve                                     # zoo-mini at http://127.0.0.1:8000/v1",
    "zoo serve siglip2-vit-b16-256 --device cuda --port 9000",
    "ZOO_API_KEY=secret zoo serve --host 0.0.0.0   # other machines may call, with the key",
    "curl http://127.0.0.1:8000/v1/embeddings -H 'Content-Type: application/json' \\\n"
    '      -d \'{"input": ["a red motorbike", {"image": "data:image/jpeg;base64,..."}]}\'',
    "curl http://127.0.0.1:8000/v1/embeddings -F file=@cat.jpg -F input='a cat'",
    "zoo serve qwen3vl-reranker-2b                 # a reranker: /v1/rerank, /v2/rerank, /rerank",
    "zoo serve zoo-mini --reranker qwen3vl-reranker-2b",
    "curl http://127.0.0.1:8000/v1/rerank -H 'Content-Type: application/json' \\\n"
    '      -d \'{"query": "a red motorbike", "documents": ["a boat", "a motorbike"], "top_n": 1}\'',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo serve`."""
    parser.add_argument(
        "model", nargs="?", default=DEFAULT_MODEL, metavar="NAME",
        help=f"an embedder or a reranker: a name of `zoo list`, hf:ORG/REPO, or ./FOLDER (default: {DEFAULT_MODEL})",
    )  # fmt: skip
    parser.add_argument("--reranker", metavar="NAME", help=f"serve this reranker beside an embedder: {NAMES}")
    add_like(parser)
    add_device(parser)
    add_backend(parser)
    add_pixels(parser)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="0 takes any free one (default: 8000)")
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="ask for this key; better in the variable ZOO_API_KEY, since others on the machine can read arguments",
    )
    parser.add_argument(
        "--allow-urls", action="store_true", help="fetch images from https addresses on the open internet"
    )
    parser.add_argument("--heif", action="store_true", help="decode HEIC images, in a process of its own")
    parser.add_argument(
        "--cors", action="append", default=[], metavar="ORIGIN", help="let this web page's scripts call; repeat"
    )
    add_against_option(parser)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-items", type=positive, metavar="N", help="of one request (default: 2048)")
    limits.add_argument("--max-body-mb", type=positive, metavar="MB", help="of one request (default: 32)")
    limits.add_argument("--max-characters", type=positive, metavar="N", help="of one text (default: 200000)")
    limits.add_argument("--max-pixels", type=positive, metavar="N", help="of one image (default: 50 million)")
    limits.add_argument("--max-audio-seconds", type=positive, metavar="S", help="of one item's audio (default: 1800)")
    limits.add_argument("--max-pages", type=positive, metavar="N", help="of one document (default: 50)")
    limits.add_argument("--max-queue", type=positive, metavar="N", help="items that may wait (default: 8192)")
    limits.add_argument("--timeout", type=positive, metavar="S", help="seconds for one request (default: 60)")
    limits.add_argument(
        "--max-wait-ms", type=positive, metavar="MS", help="how long a batch waits for more items (default: 5)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM, and answers what has begun before it ends."""
    from zoo.serving import create_app, run_server
    from zoo.serving.doors import bound_socket, is_loopback

    alone = meant(arguments.model) or of_reranker(arguments.model)
    _check_models(arguments, alone)
    if arguments.heif:
        check_library()
    limits = _limits(arguments)
    api_key = arguments.api_key or os.environ.get("ZOO_API_KEY") or None
    bound_socket(arguments.host, arguments.port).close()  # an error before the model is loaded
    model, reranker = _opened(arguments, alone)
    if arguments.model_backend == "auto":
        from zoo.backends import settle

        settle(model)  # no request waits for it
    options = {"allow_urls": arguments.allow_urls, "cors": arguments.cors, "heif": arguments.heif}
    app = create_app(model, reranker=reranker, limits=limits, api_key=api_key, **options)
    if not is_loopback(arguments.host) and not api_key:
        print("warning: other machines may call this server, without a key; set ZOO_API_KEY", file=sys.stderr)
    both = f" and {reranker.spec.name}" if reranker is not None else ""
    ready = f"{model.spec.name}{both} at {{url}}/v1 ({model.device}; Ctrl-C stops it)"
    run_server(app, host=arguments.host, port=arguments.port, ready=ready)
    return 0


def _check_models(arguments: argparse.Namespace, alone: bool) -> None:
    """Raises ZooError for options that the models do not have; `alone`: the one model is a reranker."""
    if alone and arguments.reranker:
        raise ZooError(f"{arguments.model} is a reranker; give an embedder, or leave --reranker out")
    if alone and arguments.against:
        raise ZooError(f"--against is of an embedder's texts, and {arguments.model} is a reranker; leave it out")
    if alone and arguments.model_backend != "torch":
        raise ZooError(f"--backend is of embedders, and {arguments.model} is a reranker; leave it out")
    if alone and arguments.pixels:
        raise ZooError(f"--pixels is of embedders, and {arguments.model} is a reranker; leave it out")


def _opened(arguments: argparse.Namespace, alone: bool) -> "tuple[Any, Reranker | None]":
    """The model, and the reranker beside it if there is one."""
    from zoo.tables.ignoring import settings_to_ignore

    if alone:
        return open_reranker(arguments.model, arguments.device, arguments.ignore), None
    if not arguments.reranker:
        return open_model(arguments), None
    with settings_to_ignore(arguments.ignore) as settings:  # of either checkpoint
        return open_model(arguments), open_reranker(arguments.reranker, arguments.device, settings)


def _limits(arguments: argparse.Namespace) -> "object":
    from zoo.serving import Limits

    given = {
        "items": arguments.max_items,
        "body_bytes": arguments.max_body_mb and arguments.max_body_mb * 2**20,
        "characters": arguments.max_characters,
        "pixels": arguments.max_pixels,
        "pages": arguments.max_pages,
        "audio_seconds": arguments.max_audio_seconds,
        "queue_items": arguments.max_queue,
        "seconds": arguments.timeout,
        "max_wait": arguments.max_wait_ms and arguments.max_wait_ms / 1000,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.max_body_mb:
        given["pending_bytes"] = max(Limits.pending_bytes, 4 * given["body_bytes"])
    try:
        return Limits(**given)
    except ValueError as error:
        raise ZooError(str(error)) from error
