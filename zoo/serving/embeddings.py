"""/v1/embeddings: one request from its body to its vectors."""

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from zoo.embedder import Embedder
from zoo.inputs.item import Item
from zoo.serving.batching import Answered
from zoo.serving.engines import Embedding
from zoo.serving.protocol import EmbeddingRequest, answer, parse
from zoo.serving.service import SMALL_BODY, Held, Served, Service
from zoo.similarity import cut


class Embeddings:
    """The endpoint of an embedder."""

    def __init__(self, model: Embedder) -> None:
        self.model = model
        self.served = Served(Embedding(model), [model.spec.name, model.spec.hub_id])

    async def answer(self, service: Service, request: Request) -> Response:
        """The whole way of one request."""
        options = (self.model, self.served.names, service.limits)
        assert self.served.batcher is not None
        with Held(service) as held:
            body = await service.receive(request, held)
            asked = await service.parsed(
                request, body, lambda value: parse(value, *options, allow_urls=service.allow_urls), forms=True
            )
            del body
            items = await service.fetched(asked.items, held)
            done = self.served.batcher.submit(items, asked.prompt, query=asked.query)
            return await self._answer(service, asked, items, await service.unless_gone(request, done))

    async def _answer(self, service: Service, request: EmbeddingRequest, items: list[Item], done: Answered) -> Response:
        vectors = done.results
        if request.dimensions < vectors.shape[1]:
            # Whole vectors come from the batcher, so requests of any length share its batches; each is cut here.
            vectors = cut(vectors, request.dimensions, self.model.spec.similarity)
        usage = {"prompt_tokens": done.tokens, "total_tokens": done.tokens}
        arguments = (vectors, request, self.served.names[0], usage, done.silent)
        large = vectors.numel() > SMALL_BODY
        body = await asyncio.to_thread(answer, *arguments) if large else answer(*arguments)
        for item in items:
            service.metrics.items.labels("+".join(sorted(item.modalities))).inc()
        service.metrics.tokens.inc(done.tokens)
        return Response(body, media_type="application/json")

    def facts(self, began: int) -> dict[str, Any]:
        """OpenAI's model object, with the facts that a client needs to use the model well."""
        spec = self.model.spec
        known = {"id": spec.name, "object": "model", "created": began, "owned_by": "embedding-zoo"}
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


def place(index: int | None) -> str:
    """How an error names an item."""
    return "input" if index is None else f"input[{index}]"
