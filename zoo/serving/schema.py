"""What /openapi.json says of the bodies of requests."""

from typing import Any

ITEM = {
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
EMBEDDINGS = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["input"],
                    "properties": {
                        "input": {"oneOf": [*ITEM["oneOf"], {"type": "array", "items": ITEM}]},
                        "model": {"type": "string"},
                        "dimensions": {"type": "integer"},
                        "encoding_format": {"enum": ["float", "base64"], "default": "float"},
                        "input_type": {"enum": ["query", "document"]},
                        "prompt": {"type": "string"},
                        "prompt_name": {"type": "string"},
                        "task": {"type": "string"},
                        "examples": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
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

_RERANKED = {**ITEM, "description": 'A text, or an object such as {"text": …} or {"image": "data:image/…;base64,…"}.'}


def _json(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


RERANK = _json(
    ["query", "documents"],
    {
        "model": {"type": "string"},
        "query": _RERANKED,
        "documents": {"type": "array", "items": _RERANKED},
        "top_n": {"type": "integer", "minimum": 1},
        "return_documents": {"type": "boolean", "default": False},
    },
)
TEI = _json(
    ["query", "texts"],
    {
        "query": {"type": "string"},
        "texts": {"type": "array", "items": {"type": "string"}},
        "raw_scores": {"type": "boolean", "default": False},
        "return_text": {"type": "boolean", "default": False},
        "truncate": {"type": "boolean"},
    },
)
