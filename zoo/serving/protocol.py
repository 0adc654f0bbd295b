"""The wire: JSON and multipart bodies → `EmbeddingRequest`, vectors → the answer's JSON."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, PromptError
from zoo.inputs.item import Item, as_item
from zoo.inputs.region_json import regions_from_json
from zoo.inputs.regions import Mask, Region
from zoo.prompts import arguments_of
from zoo.serving.limits import Limits, RequestError, bad_field
from zoo.serving.urls import Url

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder

ROLES = {
    **dict.fromkeys(("query", "search_query"), "query"),
    **dict.fromkeys(("document", "passage", "search_document"), "document"),
}
FIELDS = ("input", "messages", "model", "dimensions", "encoding_format", "user", "input_type", "prompt", "prompt_name")
FIELDS += ("task", "examples")
MEDIA = ("image", "audio", "video", "document")
_TYPES = {"document": "application/pdf"}  # of a data URL, where it is not called like the modality
_LONGEST = 4096  # characters of a prompt or a task
_MAX_PARTS = 1024  # of one item
_MARKS = 64  # brackets, braces and commas that one item may need
# OpenAI's and vLLM's names of a content part → the modality, and where its value stands.
PARTS = {
    **{name: (name, name) for name in MEDIA},
    **{f"{name}_url": (name, f"{name}_url") for name in MEDIA},
    "input_image": ("image", "image_url"),
    "input_audio": ("audio", "input_audio"),
    "input_file": ("document", "file_data"),
    "file": ("document", "file"),
}


@dataclass(frozen=True)
class EmbeddingRequest:
    """One checked request.

    Attributes:
        items: what to embed; media are bytes, or a `Url` that is still to be fetched.
        prompt: the text put before each text. dimensions: length of the answer's vectors.
        base64: vectors as base64 of little-endian float32 instead of numbers.
        query: whether the items are what is looked for, of which silence is refused.
    """

    items: list[Item]
    prompt: str
    dimensions: int
    base64: bool
    query: bool = False


def read_json(body: bytes, limits: Limits) -> Any:
    """The JSON of a body; raises RequestError where it is none, or holds more values than `limits` allow."""
    most = limits.items * _MARKS + 4 * _MAX_PARTS
    if _more_marks(body, most):
        message = f"the body holds over {most:,} values; send fewer items, as texts (token ids are not accepted)"
        raise RequestError(400, "too_many_values", message)
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise RequestError(400, "invalid_json", f"the body is no JSON: {reason}") from error


def _more_marks(body: bytes, most: int) -> bool:
    """Whether brackets, braces and commas outside strings are over `most`: parsed, 32 MB of `[],[],` take 700 MB."""
    if sum(map(body.count, (b"[", b"{", b","))) <= most:
        return False
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # without escapes, every quote begins or ends a string
    if plain.count(b'"') > 8 * most:
        return True
    outside = b"".join(plain.split(b'"')[::2])
    return sum(map(outside.count, (b"[", b"{", b","))) > most


def parse(
    body: Any, model: "Embedder", names: Sequence[str], limits: Limits, *, allow_urls: bool = False
) -> EmbeddingRequest:
    """Checks the fields of a request and turns `input` into items.

    Args:
        body: the JSON value; of a form, a dictionary whose "input" also holds `bytes`.
        names: what this server's model may be called.

    Raises:
        RequestError: 400 naming the field or the item; 404 for another model's name.
    """
    check_fields(body, FIELDS, names)
    return EmbeddingRequest(
        _items(body, limits, allow_urls),
        _prompt(body, model),
        _dimensions(body, model),
        _is_base64(body),
        _role(body) == "query",
    )


def check_fields(body: Any, known: Sequence[str], names: Sequence[str]) -> None:
    """Raises RequestError for a body that is no object, has a field that is not known, or asks for another model."""
    if not isinstance(body, dict):
        raise RequestError(400, "invalid_json", f"the body must be an object, not {kind_name(body)}")
    for field in body:
        if field not in known:
            near = get_close_matches(field[:60], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise RequestError(400, "unknown_field", f"unknown field {field[:60]!r}; {hint}", param=field[:60])
    name = body.get("model")
    if name is not None and name not in names:
        raise RequestError(404, "model_not_found", f"this server has {names[0]}, not {name!r:.80}", param="model")


def _role(body: Mapping[str, Any]) -> str | None:
    """That of `input_type`; a task without one is a query's."""
    role = body.get("input_type")
    if role is not None and (not isinstance(role, str) or role not in ROLES):
        raise bad_field("input_type", f"must be one of {', '.join(ROLES)}, not {role!r:.40}")
    return ROLES[role] if role is not None else "query" if body.get("task") is not None else None


def _prompt(body: Mapping[str, Any], model: "Embedder") -> str:
    role, prompt, name = _role(body), body.get("prompt"), body.get("prompt_name")
    if body.get("task") is not None or body.get("examples") is not None:
        return _task(body, model, role or "query")
    if len(given := [field for field in ("input_type", "prompt", "prompt_name") if body.get(field) is not None]) > 1:
        raise bad_field(given[-1], f"pass either {' or '.join(given)}, not both")
    if role is not None:
        return model.prompt_text(**model.for_role(role))  # type: ignore[arg-type]
    if prompt is not None and (not isinstance(prompt, str) or len(prompt) > _LONGEST):
        raise bad_field("prompt", f"must be up to {_LONGEST:,} characters of text")
    try:
        return model.prompt_text(prompt, name)
    except PromptError as error:
        raise bad_field("prompt" if name is None else "prompt_name", str(error)) from error


def _task(body: Mapping[str, Any], model: "Embedder", role: Any) -> str:
    """The prompt of `task` and `examples`."""
    task, examples = body.get("task"), body.get("examples")
    if given := [field for field in ("prompt", "prompt_name") if body.get(field) is not None]:
        raise bad_field(given[0], f"pass either task or {given[0]}, not both")
    if isinstance(task, str) and len(task) > _LONGEST:
        raise bad_field("task", f"must be up to {_LONGEST:,} characters of text")
    try:
        return arguments_of(model.spec, role, None, None, task, examples)["prompt"]
    except PromptError as error:
        raise bad_field("task" if examples is None else "examples", str(error)) from error


def _dimensions(body: Mapping[str, Any], model: "Embedder") -> int:
    spec, dimensions = model.spec, body.get("dimensions")
    if dimensions is None:
        return spec.dim
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions not in (spec.dim, *spec.dims):
        # A client never sees the warning that `encode(dim=...)` gives, so a cut that loses accuracy is refused.
        allowed = ", ".join(str(dim) for dim in sorted({spec.dim, *spec.dims}, reverse=True))
        raise bad_field("dimensions", f"{spec.name} was trained for {allowed}, not {dimensions!r:.40}")
    return dimensions


def _is_base64(body: Mapping[str, Any]) -> bool:
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise bad_field("encoding_format", f"must be float or base64, not {form!r:.40}")
    return form == "base64"


def _items(body: Mapping[str, Any], limits: Limits, allow_urls: bool) -> list[Item]:
    if ("input" in body) == ("messages" in body):
        raise bad_field("input", "pass what to embed as input (or one conversation as messages)", "missing_input")
    if "messages" in body:
        return [parse_item({"content": _contents(body["messages"])}, "messages", limits, allow_urls)]
    values = body["input"]
    if isinstance(values, str | dict):
        return [parse_item(values, "input[0]", limits, allow_urls)]
    if not isinstance(values, list):
        raise bad_field("input", f"must be a text, an object or a list of them, not {kind_name(values)}")
    if not values:
        raise bad_field("input", "is an empty list; pass at least one item", "missing_input")
    if _is_token(values[0]) or (isinstance(values[0], list) and values[0] and _is_token(values[0][0])):
        raise bad_field(
            "input",
            "token ids are not accepted, since each model has its own tokenizer; send the texts "
            "(LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)",
            "token_ids",
        )
    if len(values) > limits.items:
        raise bad_field("input", f"{len(values)} items; at most {limits.items} in one request", "too_many_items")
    return [parse_item(value, f"input[{i}]", limits, allow_urls) for i, value in enumerate(values)]


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _contents(messages: Any) -> list[Any]:
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise bad_field("messages", 'must be a list such as [{"role": "user", "content": [...]}]')
    contents = [message.get("content") for message in messages]
    return [part for content in contents for part in (content if isinstance(content, list) else [content])]


def parse_item(value: Any, where: str, limits: Limits, allow_urls: bool) -> Item:
    """A text, {"text": …, "image": …}, {"type": …} or {"content": [parts]} as one item; `instruction` and `regions` beside any key."""
    if isinstance(value, bytes):
        try:
            return as_item(value)
        except InputError as error:
            raise bad_field(where, str(error), error.code) from error
    instruction = None
    if isinstance(value, dict) and value.get("instruction") is not None:
        instruction = _text(value["instruction"], where, limits)
    regions = _regions(value["regions"], where, limits) if isinstance(value, dict) and "regions" in value else ()
    if isinstance(value, dict):
        value = {key: content for key, content in value.items() if key not in ("instruction", "regions")}
    found: dict[str, Any] = {}
    texts: list[str] = []
    characters = -1  # the texts are joined by one line break each
    parts = (
        value["content"] if isinstance(value, dict) and {"content"} <= set(value) <= {"content", "role"} else [value]
    )
    parts = parts if isinstance(parts, list) else [parts]
    if len(parts) > _MAX_PARTS:
        raise bad_field(where, f"{len(parts):,} parts; at most {_MAX_PARTS:,} in one item", "too_many_parts")
    for part in parts:
        for modality, content in _part(part, where):
            if modality == "text":
                texts.append(_text(content, where, limits))
                characters += 1 + len(texts[-1])
                if characters > limits.characters:
                    message = f"a text of over {limits.characters:,} characters; split it"
                    raise bad_field(where, message, "text-too-long")
            elif modality in found:
                raise bad_field(where, f"two of {modality} in one item; pass them as two items")
            else:
                found[modality] = _media(content, where, modality, allow_urls)
    if texts:
        found["text"] = "\n".join(texts)
    if not found:
        raise bad_field(where, "has neither text, image, audio, video nor document", "empty-item")
    if regions and "image" not in found:
        raise bad_field(where, "has regions, and no image that they are of", "invalid-region")
    return Item(**found, instruction=instruction, regions=regions)


def _regions(value: Any, where: str, limits: Limits) -> tuple[Region, ...]:
    """Regions as `zoo.inputs.region_json` writes them, all of one item; a mask as COCO's run lengths, since no file is opened."""
    several = value if isinstance(value, list) else [value]
    if len(several) > limits.regions and not all(isinstance(one, int | float) for one in several):
        raise bad_field(where, f"{len(several):,} regions; at most {limits.regions:,} in one item", "too-many-regions")
    if isinstance(value, str):
        raise bad_field(where, 'its regions must be a list such as [{"box": [x0, y0, x1, y1]}]', "invalid-region")
    try:
        regions = regions_from_json(value)
    except InputError as error:
        raise bad_field(where, str(error), error.code) from error
    for mask in (region.pixels for region in regions if isinstance(region, Mask)):
        if mask.height * mask.width > limits.pixels:
            message = f"a mask of {mask.width}x{mask.height} pixels; at most {limits.pixels:,}, as of an image"
            raise bad_field(where, message, "image-too-large")
    return regions


def _part(part: Any, where: str) -> list[tuple[str, Any]]:
    """(modality, value) of a content part."""
    if isinstance(part, str):
        start = part[:20].lower()
        if modality := next((name for name in MEDIA if start.startswith(f"data:{_type(name)}")), None):
            message = f'a data URL would be embedded as text; pass {{"{modality}": "data:{_type(modality)}…"}}'
            raise bad_field(where, message, "data-url-as-text")
        return [("text", part)]
    if not isinstance(part, dict):
        raise bad_field(where, f"must be a text or an object, not {kind_name(part)}")
    kind = part.get("type")
    if kind is None:
        if unknown := set(part) - {"text", *MEDIA, *PARTS}:
            raise bad_field(
                where, f"unknown key {min(unknown)!r:.40}; known are text, {', '.join(MEDIA)}, instruction, regions"
            )
        return [
            ("text" if key == "text" else PARTS[key][0], content)
            for key, content in part.items()
            if content is not None
        ]
    if kind in ("text", "input_text"):
        return [("text", part.get("text"))]
    if not isinstance(kind, str) or kind not in PARTS:
        raise bad_field(where, f"unknown type {kind!r:.40}; known are text, {', '.join(PARTS)}")
    modality, key = PARTS[kind]
    return [(modality, part.get(key))]


def _type(modality: str) -> str:
    """How the type of a data URL of a medium begins."""
    return _TYPES.get(modality, f"{modality}/")


def _text(text: Any, where: str, limits: Limits) -> str:
    if not isinstance(text, str):
        raise bad_field(where, f"its text must be a string, not {kind_name(text)}")
    if len(text) > limits.characters:
        raise bad_field(
            where, f"a text of {len(text):,} characters; at most {limits.characters:,}: split it", "text-too-long"
        )
    return text


def _media(value: Any, where: str, modality: str, allow_urls: bool) -> "bytes | Url":
    """The bytes of a data URL or of {"data": base64}; or an https address, where those are allowed."""
    if isinstance(value, dict) and "data" in value:
        return _decoded(value["data"], where)
    if isinstance(value, dict):
        value = value.get("url", value.get("file_data"))
    example = f'"data:{_type(modality)}{"…" * (modality not in _TYPES)};base64,…"'
    if not isinstance(value, str):
        raise bad_field(where, f"its {modality} must be a data URL ({example})")
    if value[:5].lower() == "data:":
        head, comma, data = value.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise bad_field(where, f"its data URL must be {example}", "invalid-data-url")
        return _decoded(data, where)
    if value[:8].lower().startswith(("https://", "http://")):
        if not allow_urls:
            raise bad_field(
                where, "this server fetches no URLs; send the bytes as a data URL or as an upload", "urls-not-allowed"
            )
        return Url(value)
    raise bad_field(where, f"its {modality} must be a data URL ({example}), not {value!r:.40}")


def _decoded(data: Any, where: str) -> bytes:
    try:
        # validate: without it letters that are no base64 are passed over, and other bytes would be embedded.
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise bad_field(where, f"its base64 cannot be read: {error}", "invalid-base64") from error


def kind_name(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def form_body(parts: Sequence[tuple[str, str | bytes]]) -> dict[str, Any]:
    """The parts of a multipart form, in their order, as the object that `parse` reads.

    `input` (a text, repeatable) and `file` (an image, audio, video or PDF, repeatable) are the items.

    Raises:
        RequestError: a file under another name, a field twice, or a number that is none.
    """
    body: dict[str, Any] = {"input": []}
    for name, value in parts:
        if isinstance(value, bytes) or name == "input":
            if name not in ("input", "file"):
                raise bad_field(name[:60], "files are read from the parts named file")
            body["input"].append(value)
        elif name in body:
            raise bad_field(name[:60], "is given twice")
        else:
            body[name] = value
    if "dimensions" in body:
        digits = body["dimensions"]
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
            raise bad_field("dimensions", f"must be a whole number, not {digits!r:.40}")
        body["dimensions"] = int(digits)
    return body


def with_media(items: Sequence[Item], fetched: Mapping[Url, bytes]) -> list[Item]:
    """The items, each `Url` replaced by its bytes."""
    urls = [{name: getattr(item, name) for name in MEDIA if isinstance(getattr(item, name), Url)} for item in items]
    return [
        replace(item, **{k: fetched[v] for k, v in found.items()}) if found else item
        for item, found in zip(items, urls, strict=True)
    ]


def answer(
    vectors: "Tensor", request: EmbeddingRequest, model: str, usage: Mapping[str, int], silent: Sequence[int] = ()
) -> bytes:
    """OpenAI's list of embeddings as JSON; `vectors` `(n, dimensions)` float32. What is silence is said in `warnings`."""
    # Little-endian, whatever this machine is: OpenAI's clients read base64 so.
    rows = vectors.numpy().astype("<f4")
    if request.base64:
        shown = [f'"{base64.b64encode(row.tobytes()).decode()}"' for row in rows]
    else:
        # Nine digits give back every float32 exactly, in half the time and length of Python's own repr.
        shown = ["[" + ",".join(map("%.9g".__mod__, row)) + "]" for row in rows.tolist()]
    data = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{vector}}}' for index, vector in enumerate(shown)
    )
    warnings = [f"input[{index}] is silence: its vector says nothing" for index in silent]
    said = f'"warnings":{json.dumps(warnings)},' if warnings else ""
    end = f'{said}"model":{json.dumps(model)},"usage":{json.dumps(dict(usage))}'
    return f'{{"object":"list","data":[{data}],{end}}}'.encode()
