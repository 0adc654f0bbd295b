"""The wire of reranking: the bodies of Cohere's, Jina's and TEI's clients → `RerankRequest`, logits → the answers they read.

Cohere: docs.cohere.com/reference/rerank (v2) and /v1/reference/rerank; Jina: api.jina.ai/redoc, /v1/rerank; TEI: `RerankRequest` and `Rank` of
huggingface/text-embeddings-inference, router/src/http/types.rs.
"""

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zoo.inputs.item import Item
from zoo.serving.limits import Limits, bad_field
from zoo.serving.protocol import check_fields, kind_name, parse_item

Shape = Literal["v1", "v2", "tei"]
# What Cohere's and Jina's clients send. Those without a meaning here are named when they are refused.
FIELDS = ("model", "query", "documents", "top_n", "return_documents")
UNFOLLOWED = {
    "rank_fields": 'the text of a document is what is read; send {"text": …}',
    "max_chunks_per_doc": "a document is read in one piece, as far as the model reads; split it",
    "max_tokens_per_doc": "a document is read as far as the model reads; cut it",
    "priority": "requests are answered in their order",
}
TEI_FIELDS = ("model", "query", "texts", "raw_scores", "return_text", "truncate", "truncation_direction")
# Values that say what happens anyway.
_USUAL = {"rank_fields": ["text"], "priority": 0}


@dataclass(frozen=True)
class RerankRequest:
    """One checked request.

    Attributes:
        query, documents: what is scored; media are bytes, or a `Url` that is still to be fetched.
        given: the documents as they were sent. top_n: how many are answered with. returned: whether with the documents.
        raw: logits in place of scores from 0 to 1. whole: what would be cut is refused. shape: of the answer.
    """

    query: Item
    documents: list[Item]
    given: list[Any]
    top_n: int
    returned: bool
    raw: bool
    whole: bool
    shape: Shape


def parse_rerank(
    body: Any, names: Sequence[str], limits: Limits, shape: Shape, *, allow_urls: bool = False
) -> RerankRequest:
    """Checks the fields of a request and turns query and documents into items.

    Raises:
        RequestError: 400 naming the field or the document; 404 for another model's name.
    """
    tei = shape == "tei"
    known = TEI_FIELDS if tei else (*FIELDS, *UNFOLLOWED)
    check_fields(body, known, names)
    body = {field: value for field, value in body.items() if value is not None}
    for field, remedy in UNFOLLOWED.items():
        if field in body and body[field] != _USUAL.get(field):
            raise bad_field(field, f"is not followed: {remedy}", "unsupported_field")
    direction = body.get("truncation_direction", "right")
    if not isinstance(direction, str) or direction.lower() != "right":
        raise bad_field("truncation_direction", f"{direction!r:.40} is not followed: texts are cut at their end")
    name = "texts" if tei else "documents"
    given = _documents(body, name, limits, only_texts=tei)
    return RerankRequest(
        query=_query(body, limits, allow_urls, only_text=tei),
        documents=[parse_item(value, f"{name}[{i}]", limits, allow_urls) for i, value in enumerate(given)],
        given=given,
        top_n=_top_n(body, len(given)),
        returned=_flag(body, "return_text" if tei else "return_documents"),
        raw=_flag(body, "raw_scores"),
        whole="truncate" in body and not _flag(body, "truncate"),
        shape=shape,
    )


def _query(body: Mapping[str, Any], limits: Limits, allow_urls: bool, *, only_text: bool) -> Item:
    query = body.get("query")
    if query is None:
        raise bad_field("query", "pass what the documents should answer", "missing_query")
    if not isinstance(query, str) and (only_text or not isinstance(query, dict)):
        raise bad_field("query", f"must be a text{'' if only_text else ' or an object'}, not {kind_name(query)}")
    return parse_item(query, "query", limits, allow_urls)


def _documents(body: Mapping[str, Any], name: str, limits: Limits, *, only_texts: bool) -> list[Any]:
    given = body.get(name)
    if not isinstance(given, list) or not given:
        raise bad_field(name, "must be a list of at least one document", "missing_documents")
    if len(given) > limits.items:
        raise bad_field(name, f"{len(given)} documents; at most {limits.items} in one request", "too_many_items")
    if (
        only_texts
        and (odd := next((i for i, value in enumerate(given) if not isinstance(value, str)), None)) is not None
    ):
        raise bad_field(f"{name}[{odd}]", f"must be a text, not {kind_name(given[odd])}; /v1/rerank takes objects")
    return given


def _top_n(body: Mapping[str, Any], count: int) -> int:
    top_n = body.get("top_n", count)
    if isinstance(top_n, bool) or not isinstance(top_n, int) or top_n < 1:
        raise bad_field("top_n", f"must be a whole number from 1 on, not {top_n!r:.40}")
    return min(top_n, count)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise bad_field(name, f"must be true or false, not {value!r:.40}")
    return value


def rerank_answer(request: RerankRequest, logits: Sequence[float], model: str, tokens: int) -> bytes:
    """The best `top_n` as JSON, best first; equal ones in the order of the documents."""
    order = sorted(range(len(logits)), key=lambda index: -logits[index])[: request.top_n]
    scores = [float(f"{logits[index] if request.raw else sigmoid(logits[index]):.9g}") for index in order]
    if request.shape == "tei":
        ranks = [
            {"index": index, "score": score, **({"text": request.given[index]} if request.returned else {})}
            for index, score in zip(order, scores, strict=True)
        ]
        return json.dumps(ranks, ensure_ascii=False).encode()
    results = [
        {
            "index": index,
            "relevance_score": score,
            **({"document": _shown(request.given[index])} if request.returned else {}),
        }
        for index, score in zip(order, scores, strict=True)
    ]
    facts = {
        "id": str(uuid.uuid4()),
        "model": model,
        "results": results,
        "meta": {"api_version": {"version": request.shape[1:]}, "tokens": {"input_tokens": tokens}},
        "usage": {"total_tokens": tokens},
    }
    return json.dumps(facts, ensure_ascii=False).encode()


def _shown(given: Any) -> Any:
    """A document as Cohere and Jina give it back: a text as an object."""
    return {"text": given} if isinstance(given, str) else given


def sigmoid(logit: float) -> float:
    """From 0 to 1, without overflow; text-embeddings-inference makes its scores so, whatever the model was trained with."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
