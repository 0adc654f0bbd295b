"""/v1/rerank, /v2/rerank and /rerank: one request from its body to the documents in their new order."""

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response

from zoo.errors import InputError
from zoo.inputs.heif import decoding
from zoo.inputs.item import Item
from zoo.serving.batching import Answered
from zoo.serving.engines import Pair, Scoring
from zoo.serving.limits import RequestError
from zoo.serving.rerank_protocol import RerankRequest, Shape, parse_rerank, rerank_answer
from zoo.serving.service import Held, Served, Service

if TYPE_CHECKING:
    from zoo.reranking import Reranker


class Rerank:
    """The endpoint of a reranker, in the shapes of Cohere ("v1", "v2"), Jina ("v1") and text-embeddings-inference ("tei")."""

    def __init__(self, model: "Reranker") -> None:
        self.model = model
        self.served = Served(Scoring(model), [model.spec.name, model.spec.hub_id])

    async def answer(self, service: Service, request: Request, shape: Shape | None = None) -> Response:
        """The whole way of one request; without a shape, the body says which by its field `texts` or `documents`."""

        def parse(body: Any) -> RerankRequest:
            told = shape or ("tei" if isinstance(body, dict) and "texts" in body else "v1")
            return parse_rerank(body, self.served.names, service.limits, told, allow_urls=service.allow_urls)

        with Held(service) as held:
            body = await service.receive(request, held)
            asked = await service.parsed(request, body, parse)
            del body
            query, *documents = await self._fetched(service, asked, held)
            done = await self._scored(service, request, query, documents, asked)
            service.metrics.pairs.inc(len(documents))
            service.metrics.tokens.inc(done.tokens)
            logits = done.results[:, 0].tolist()
            return Response(
                rerank_answer(asked, logits, self.served.names[0], done.tokens), media_type="application/json"
            )

    async def _fetched(self, service: Service, asked: RerankRequest, held: Held) -> list[Item]:
        """The query and the documents."""
        try:
            return await service.fetched([asked.query, *asked.documents], held)
        except InputError as error:
            if not error.index:
                raise _of_query(error) from None
            raise _of_document(error.at(error.index - 1), asked) from None

    async def _scored(
        self, service: Service, request: Request, query: Item, documents: list[Item], asked: RerankRequest
    ) -> Answered:
        assert self.served.batcher is not None
        pairs = [Pair(query, document, asked.whole) for document in documents]
        try:
            return await service.unless_gone(request, self.served.batcher.submit(pairs))
        except InputError as error:
            # Every pair has the query: where that is what cannot be read, no document is to blame.
            if (of_query := await asyncio.to_thread(self._why_unread, service, query)) is not None:
                raise _of_query(of_query) from None
            raise _of_document(error, asked) from None

    def _why_unread(self, service: Service, query: Item) -> InputError | None:
        assert self.served.batcher is not None
        try:
            with decoding(service.heif):
                self.served.batcher.check_sizes(query)
                self.model.prepare(query, Item(text="a"))
        except InputError as error:
            return error
        return None

    def facts(self, began: int) -> dict[str, Any]:
        """A model object as that of an embedder, with the facts that a client needs."""
        spec = self.model.spec
        return {
            "id": spec.name,
            "object": "model",
            "created": began,
            "owned_by": "embedding-zoo",
            "kind": "reranker",
            "modalities": sorted(spec.modalities),
            "languages": list(spec.languages),
            "max_tokens": spec.max_tokens,
            "revision": spec.revision,
        }


def place(index: int | None) -> str:
    """How an error names a document."""
    return "documents" if index is None else f"documents[{index}]"


def _of_document(error: InputError, asked: RerankRequest) -> RequestError:
    """By the name that its field has in the request."""
    field = "texts" if asked.shape == "tei" else "documents"
    at = "" if error.index is None else f"[{error.index}]"
    return RequestError(400, error.code, str(error), param=f"{field}{at}")


def _of_query(error: InputError) -> RequestError:
    error.index = None
    return RequestError(400, error.code, str(error), param="query")
