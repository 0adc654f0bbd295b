"""`zoo serve` as its clients see it: the real OpenAI client and plain HTTP against a real server."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests.serving.serve_support import data_url, form, make_image, serving
from zoo.inputs.item import Item
from zoo.serving import Limits

openai = pytest.importorskip("openai")
TEXTS = ["a red motorbike", "Ein Hund schläft.", "a cat, 猫", "one " * 300]


@pytest.fixture(scope="module")
def model():
    return zoo.load_model("zoo-mini")


@pytest.fixture(scope="module")
def served(model):
    with serving(model) as served:
        yield served


@pytest.fixture(scope="module")
def prompted():
    """A text model with prompts, said to be trained for two cuts."""
    model = zoo.build_model("text-test")
    model.spec = replace(model.spec, dims=(16, 8))
    with serving(model, api_key="secret", cors=["https://page.example"]) as served:
        yield model, served


def client(served, **options):
    return openai.OpenAI(base_url=f"{served.url}/v1", max_retries=0, **{"api_key": "none", **options})


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(expected), atol=1e-5)


def test_the_openai_client_gets_the_vectors_of_encode(served, model):
    with client(served) as api:
        answer = api.embeddings.create(model="zoo-mini", input=TEXTS)
        one = api.embeddings.create(model="zoo-mini", input=TEXTS[0], encoding_format="float", user="me")
        assert [m.id for m in api.models.list()] == ["zoo-mini"]
        assert api.models.retrieve("zoo-mini").model_extra["modalities"] == ["image", "text"]
    close([row.embedding for row in answer.data], model.encode(TEXTS))
    assert [row.index for row in answer.data] == [0, 1, 2, 3]
    close(one.data[0].embedding, model.encode(TEXTS[0]))
    encoder = model.towers[1].encoder
    assert answer.usage.prompt_tokens == sum(encoder.length(encoder.prepare_item(Item(text=t))) for t in TEXTS)


def test_a_task_and_examples_of_it_stand_before_queries():
    model = zoo.build_model("kalm-test")
    with serving(model) as served, client(served) as api:

        def embed(**fields):
            return api.embeddings.create(model="kalm-test", input="a cat", extra_body=fields).data[0].embedding

        close(embed(task="Find pets"), model.encode_query("a cat", task="Find pets"))
        pairs = [["a dog?", "the brown one"]]
        expected = model.encode_query("a cat", task="Find pets", examples=[tuple(pair) for pair in pairs])
        close(embed(task="Find pets", examples=pairs, input_type="query"), expected)
        for fields in ({"input_type": "document"}, {"examples": [["a dog?"]]}, {"examples": "a dog?"}):
            with pytest.raises(openai.BadRequestError, match=r"task|example"):
                embed(task="Find pets", **fields)


def test_the_openai_client_raises_its_own_errors(served):
    with client(served) as api:
        with pytest.raises(openai.BadRequestError) as bad:
            api.embeddings.create(model="zoo-mini", input=["fine", " ", ""])
        with pytest.raises(openai.NotFoundError, match="this server has zoo-mini"):
            api.embeddings.create(model="text-embedding-3-small", input="a")
    assert (bad.value.code, bad.value.param) == ("empty-text", "input[1]")


def test_key_roles_and_cuts(prompted):
    model, served = prompted
    texts = ["a cat", "two dogs on a very long road"]
    with client(served, api_key="wrong") as api, pytest.raises(openai.AuthenticationError):
        api.embeddings.create(model="text-test", input=texts)
    with client(served, api_key="secret") as api:

        def embed(**options):
            found = api.embeddings.create(model="text-test", input=texts, **options)
            return np.array([row.embedding for row in found.data], np.float32)

        close(embed(), model.encode(texts))
        close(embed(extra_body={"input_type": "query"}), model.encode_query(texts))
        close(embed(extra_body={"input_type": "passage"}), model.encode_document(texts))
        close(embed(extra_body={"prompt_name": "query"}), model.encode_query(texts))
        close(embed(extra_body={"prompt": "in other words: "}), model.encode(texts, prompt="in other words: "))
        close(embed(dimensions=8, extra_body={"input_type": "query"}), model.encode_query(texts, dim=8))
        assert not np.allclose(embed(), model.encode_query(texts), atol=1e-3)
        with pytest.raises(openai.BadRequestError, match="16, 8, not 9"):
            embed(dimensions=9)
    assert served.call("GET", "/v1/models").status == 401
    assert served.call("GET", "/metrics").headers["WWW-Authenticate"] == "Bearer"
    assert served.call("GET", "/health").status == 200  # for those who watch over the process


def test_only_the_named_origin_may_call_from_a_browser(prompted, served):
    def preflight(server, origin):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        return server.call("OPTIONS", "/v1/embeddings", None, headers)

    allowed = preflight(prompted[1], "https://page.example")
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert preflight(prompted[1], "https://other.example").status == 403
    assert preflight(served, "https://page.example").headers["Access-Control-Allow-Origin"] is None


PNG = make_image(1)
URL = data_url(PNG)


@pytest.mark.parametrize(
    "item",
    [
        {"image": URL},
        {"image": {"url": URL}},
        {"image": {"data": base64.b64encode(PNG).decode()}},
        {"image_url": URL},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "input_image", "image_url": URL},
        {"content": [{"type": "image_url", "image_url": {"url": URL}}]},
        {"role": "user", "content": [{"type": "image", "image": URL}]},
        {"text": None, "image": URL},
        {"image": data_url(PNG, "application/octet-stream")},
    ],
)
def test_every_spelling_of_an_image(served, model, item):
    close(served.embed([item]).vectors(), model.encode([PNG]))
    close(served.embed(item).vectors(), model.encode([PNG]))


def test_texts_and_images_together_in_their_order(served, model):
    jpeg = make_image(2, kind="JPEG")
    found = served.embed(["a", {"text": "b"}, {"image": URL}, {"type": "text", "text": "c"}, {"image": data_url(jpeg)}])
    close(found.vectors(), model.encode(["a", "b", PNG, "c", jpeg]))
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    close(served.post({"messages": [{"role": "user", "content": parts}]}).vectors(), model.encode(["a\nb"]))


def test_uploads(served, model):
    jpeg = make_image(3, kind="JPEG")
    body, headers = form([("model", "zoo-mini"), ("file", PNG), ("input", "a cat"), ("file", jpeg)])
    answer = served.call("POST", "/v1/embeddings", body, headers)
    close(answer.vectors(), model.encode([PNG, "a cat", jpeg]))
    body, headers = form([("dimensions", str(model.spec.dim)), ("input", "x"), ("encoding_format", "base64")])
    row = served.call("POST", "/v1/embeddings", body, headers).json()["data"][0]["embedding"]
    close(np.frombuffer(base64.b64decode(row), "<f4"), model.encode("x"))


@pytest.mark.parametrize(
    ("parts", "status", "param"),
    [
        ([("input", "a"), ("file", b"no image")], 400, "input[1]"),
        ([("input", "a"), ("photo", PNG)], 400, "photo"),
        ([("model", "zoo-mini")], 400, "input"),
        ([("input", "a"), ("dimensions", "many")], 400, "dimensions"),
        ([("input", "a"), ("model", "x"), ("model", "y")], 400, "model"),
    ],
)
def test_bad_forms(served, parts, status, param):
    body, headers = form(parts)
    answer = served.call("POST", "/v1/embeddings", body, headers)
    assert (answer.status, answer.json()["error"]["param"]) == (status, param)


def test_a_broken_form_is_named(served):
    body, headers = form([("input", "a")])
    for sent in (body[:-12], b"", b"--edge\r\nrubbish"):
        answer = served.call("POST", "/v1/embeddings", sent, headers)
        assert answer.status == 400, sent
        assert answer.json()["error"]["message"]


BAD = [
    (b"{", 400, "invalid_json", None),
    (b"\xff\xfe", 400, "invalid_json", None),
    (b"[" * 100_000, 400, "invalid_json", None),
    (b'{"dimensions": ' + b"9" * 5000 + b', "input": "a"}', 400, "invalid_json", None),
    ([], 400, "invalid_json", None),
    ({}, 400, "missing_input", "input"),
    ({"input": []}, 400, "missing_input", "input"),
    ({"input": None}, 400, "invalid_value", "input"),
    ({"input": 5}, 400, "invalid_value", "input"),
    ({"input": [1, 2, 3]}, 400, "token_ids", "input"),
    ({"input": [[1, 2], [3]]}, 400, "token_ids", "input"),
    ({"input": ["a", ["b"]]}, 400, "invalid_value", "input[1]"),
    ({"input": ["a", None]}, 400, "invalid_value", "input[1]"),
    ({"input": ["a", {}]}, 400, "empty-item", "input[1]"),
    ({"input": ["a", {"role": "user"}]}, 400, "invalid_value", "input[1]"),
    ({"input": ["a", {"content": []}]}, 400, "empty-item", "input[1]"),
    ({"input": [{"photo": URL}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"type": "file"}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"type": ["text"]}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"type": "text"}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"image": "cat.jpg"}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"image": "/etc/passwd"}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"image": "file:///etc/passwd"}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"image": "https://example.com/a.png"}]}, 400, "urls-not-allowed", "input[0]"),
    ({"input": [{"image": "data:image/png,abc"}]}, 400, "invalid-data-url", "input[0]"),
    ({"input": [{"image": "data:image/png;base64,!!"}]}, 400, "invalid-base64", "input[0]"),
    ({"input": [{"image": "data:image/png;base64,é"}]}, 400, "invalid-base64", "input[0]"),
    ({"input": [{"image": {"data": 7}}]}, 400, "invalid-base64", "input[0]"),
    ({"input": ["a", {"image": data_url(PNG[:200])}]}, 400, "corrupt-image", "input[1]"),
    ({"input": [{"image": data_url(b"<html>no</html>")}]}, 400, "not-media", "input[0]"),
    ({"input": [{"image": URL, "image_url": URL}]}, 400, "invalid_value", "input[0]"),
    ({"input": [{"audio": data_url(b"RIFF0000WAVE")}]}, 400, "unsupported-modality", "input[0]"),
    ({"input": ["a\ud800"]}, 400, "invalid-text", "input[0]"),
    ({"input": "a", "messages": []}, 400, "missing_input", "input"),
    ({"messages": "hello"}, 400, "invalid_value", "messages"),
    ({"input": "a", "dimensions": 0}, 400, "invalid_value", "dimensions"),
    ({"input": "a", "dimensions": 3}, 400, "invalid_value", "dimensions"),
    ({"input": "a", "dimensions": True}, 400, "invalid_value", "dimensions"),
    ({"input": "a", "encoding_format": "int8"}, 400, "invalid_value", "encoding_format"),
    ({"input": "a", "encoding_format": [1]}, 400, "invalid_value", "encoding_format"),
    ({"input": "a", "input_type": "title"}, 400, "invalid_value", "input_type"),
    ({"input": "a", "input_type": {}}, 400, "invalid_value", "input_type"),
    ({"input": "a", "prompt": 3}, 400, "invalid_value", "prompt"),
    ({"input": "a", "prompt": "x", "input_type": "query"}, 400, "invalid_value", "prompt"),
    ({"input": "a", "task": "x", "prompt": "y: "}, 400, "invalid_value", "prompt"),
    ({"input": "a", "task": "x" * 5000}, 400, "invalid_value", "task"),
    ({"input": "a", "task": ["x"]}, 400, "invalid_value", "task"),
    ({"input": "a", "task": "find pets"}, 400, "invalid_value", "task"),  # of which this model knows nothing
    ({"input": "a", "examples": [["a", "b"]]}, 400, "invalid_value", "examples"),
    ({"input": "a", "dimension": 4}, 400, "unknown_field", "dimension"),
    ({"input": "a", "model": "zoo-maxi"}, 404, "model_not_found", "model"),
    ({"input": "a", "model": ["zoo-mini"]}, 404, "model_not_found", "model"),
]


@pytest.mark.parametrize(("body", "status", "code", "param"), BAD)
def test_a_bad_request_is_named(served, body, status, code, param):
    answer = served.post(body)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (status, code, param)
    assert error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")


def test_other_content_types_and_routes_are_named(served):
    body = json.dumps({"input": "a"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert served.call("POST", "/v1/embeddings", body, {"Content-Type": kind}).status == 415
    assert served.post({"input": "a"}, **{"Content-Encoding": "gzip"}).status == 415
    assert served.call("GET", "/v1/embeddings").json()["error"]["code"] == "http_error"
    assert served.call("GET", "/v1/nothing").status == 404
    assert served.call("GET", "/v1/models/other").json()["error"]["code"] == "model_not_found"
    assert "/v1/embeddings" in served.call("GET", "/openapi.json").json()["paths"]


def test_small_limits(model):
    limits = Limits(items=3, characters=50, pixels=1000, body_bytes=20_000, queue_items=3)
    with serving(model, limits=limits) as served:
        many = served.embed(["a"] * 4)
        long = served.embed(["a", "b" * 51])
        joined = served.embed([{"content": [{"type": "text", "text": "b" * 30}] * 2}])
        large = served.embed([{"image": data_url(make_image(size=(100, 11)))}])
        heavy = served.embed("c" * 20_000)
        chunks = served.call(
            "POST", "/v1/embeddings", iter([b"{" + b" " * 9_000] * 3), {"Content-Type": "application/json"}
        )
        fine = served.embed(["b" * 50, {"image": data_url(make_image(size=(100, 10)))}, "c"])
        assert served.metric("zoo_refused_total", code="body_too_large") == 2
    codes = [answer.json()["error"]["code"] for answer in (many, long, joined, large, heavy, chunks)]
    assert codes == [
        "too_many_items", "text-too-long", "text-too-long", "image-too-large", "body_too_large", "body_too_large"
    ]  # fmt: skip
    assert (heavy.status, chunks.status, large.json()["error"]["param"]) == (413, 413, "input[0]")
    assert fine.status == 200


def test_health_embeds_and_notices_a_broken_model():
    model = zoo.build_model("text-test")
    with serving(model) as served:
        assert served.call("GET", "/health").json()["status"] == "ok"
        weight = model.towers[0].encoder.backbone.get_input_embeddings().weight
        kept = weight.detach().clone()
        weight.data.copy_(-kept.roll(1, dims=0))
        assert served.call("GET", "/health").status == 503
        weight.data.fill_(float("nan"))
        assert served.call("GET", "/health").json()["reason"] == "NonFiniteEmbeddingError"
        broken = served.embed(["a"])
        assert (broken.status, broken.json()["error"]["code"]) == (400, "non-finite")
        weight.data.copy_(kept)
        assert served.call("GET", "/health").status == 200


def test_metrics_count_what_happened(model):
    with serving(model) as served:
        served.embed(["a cat", {"image": URL}, "a dog"])
        served.embed([""])
        assert served.metric("zoo_requests_total", status="200") == 1
        assert served.metric("zoo_requests_total", status="400") == 1
        assert served.metric("zoo_refused_total", code="empty-text") == 1
        assert served.metric("zoo_items_total", modality="text") == 2
        assert served.metric("zoo_items_total", modality="image") == 1
        assert served.metric("zoo_request_seconds_count") == 2
        assert served.metric("zoo_waiting_items") == 0
        assert served.metric("zoo_tokens_total") >= 4
        assert served.metric("zoo_model", name="zoo-mini") == 1


def many_parts(count, text=""):
    return {"input": {"content": [text] * count}}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (many_parts(1025), "too_many_parts", "input[0]"),
        (many_parts(400_000), "too_many_values", None),
        (many_parts(1000, "b" * 1000), "text-too-long", "input[0]"),
        (b'{"input": [' + b"[]," * 200_000 + b'"\\\\"]}', "too_many_values", None),
        ({"input": "a", "f" * 10_000_000: 1}, "unknown_field", "f" * 60),
        ({"input": ["a", "data:image/png;base64,AAAA"]}, "data-url-as-text", "input[1]"),
        ({"input": "DATA:audio/wav;base64,AAAA"}, "data-url-as-text", "input[0]"),
    ],
)
def test_what_would_take_too_much_or_is_a_slip(served, body, code, param):
    error = served.post(body).json()["error"]
    assert (error["code"], error["param"]) == (code, param)


def test_commas_in_texts_are_no_values(served, model):
    from zoo.serving import protocol

    text = ('{",[\\' * 40_000)[:199_999]
    close(served.embed(text).vectors(), model.encode([text]))
    assert not protocol._more_marks(json.dumps([text]).encode(), 1)
    assert protocol._more_marks(b'{"a": [1, "\\\\", 2]}', 3)


def test_a_prompt_that_nearly_is_a_name(prompted):
    _, served = prompted
    key = {"Authorization": "bearer secret"}  # the scheme's case is free
    near = served.post({"input": "a", "prompt": "querry"}, **key)
    assert (near.status, near.json()["error"]["param"]) == (400, "prompt")
    assert "'query'" in near.json()["error"]["message"]
    name = served.post({"input": "a", "prompt_name": "querry"}, **key)
    assert (name.status, name.json()["error"]["param"]) == (400, "prompt_name")
    for words in ("query:", "Translate:", "Find the same"):
        assert served.post({"input": "a", "prompt": words}, **key).status == 200


def test_keys_and_methods(prompted, served):
    assert prompted[1].call("GET", "/openapi.json").status == prompted[1].call("GET", "/docs").status - 3 == 401
    before = served.call("GET", "/metrics").status
    assert before == 200
    wrong = served.call("GET", "/v1/embeddings")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    head = served.call("HEAD", "/health")
    assert (head.status, head.body) == (200, b"")


def test_a_key_beyond_ascii_and_refused_keys_are_counted():
    with serving(zoo.build_model("text-test"), api_key="schlüssel") as served:
        right = {"Authorization": b"Bearer " + "schlüssel".encode()}
        assert served.call("GET", "/v1/models", None, right).status == 200
        assert served.call("GET", "/v1/models", None, {"Authorization": "Bearer x"}).status == 401
        assert (
            'zoo_refused_total{code="invalid_api_key"} 1.0' in served.call("GET", "/metrics", None, right).body.decode()
        )


def test_an_instruction_belongs_to_its_item():
    model, blue = zoo.build_model("vlm2vec-test"), make_image(3)
    asked = {"text": "in blue", "image": data_url(blue), "instruction": "Find the changed image."}
    with serving(model) as served:
        answer = served.post({"input": [asked, {"text": "in blue", "image": data_url(blue)}]})
        bad = served.post({"input": [{"text": "a", "instruction": 3}]})
    plain = Item(text="in blue", image=blue)
    found = [row["embedding"] for row in answer.json()["data"]]
    close(found, model.encode([replace(plain, instruction=asked["instruction"]), plain]))
    assert np.abs(np.subtract(*found)).max() > 1e-3
    assert bad.status == 400
