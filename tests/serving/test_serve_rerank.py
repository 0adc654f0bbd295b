"""`/v1/rerank`, `/v2/rerank` and `/rerank` as the clients of Cohere, Jina and text-embeddings-inference send and read them.

The bodies are those that cohere 7.3 sends (`raw_base_client.py`, `v2/raw_client.py`: what is not given is left out), that LangChain's
`JinaRerank` sends to api.jina.ai/v1/rerank, and `RerankRequest` of TEI's router/src/http/types.rs.
"""

import threading

import pytest
import torch

import zoo
from tests.serving.serve_support import Gate, data_url, make_image, raw, serving, until
from zoo.cli import main
from zoo.errors import ArgumentError
from zoo.serving import Limits, create_app

pytest.importorskip("fastapi")
NAME = "qwen3vl-reranker-test"
DOCUMENTS = ["a boat on a river", "a red motorbike", "two cats asleep", "fast"]
QUERY = "a red motorbike"


@pytest.fixture(scope="module")
def reranker():
    torch.manual_seed(0)
    return zoo.build_reranker(NAME).eval()


@pytest.fixture(scope="module")
def served(reranker):
    with serving(reranker) as served:
        yield served


@pytest.fixture(scope="module")
def both(reranker):
    """An embedder and a reranker behind one key."""
    with serving(zoo.build_model("text-test"), reranker=reranker, api_key="secret") as served:
        yield served


def ask(served, body, path="/v1/rerank", **headers):
    import json

    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return served.call("POST", path, sent, {"Content-Type": "application/json", **headers})


def expected(reranker, documents=DOCUMENTS, query=QUERY):
    return [(hit.index, hit.score) for hit in reranker.rerank(query, documents, None)]


def ranks(answer, score="relevance_score"):
    assert answer.status == 200, answer.body
    found = answer.json()
    return [(one["index"], one[score]) for one in (found if isinstance(found, list) else found["results"])]


def same(found, wanted):
    assert [index for index, _ in found] == [index for index, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted], abs=1e-5)


@pytest.mark.parametrize(("path", "version"), [("/v1/rerank", "1"), ("/v2/rerank", "2"), ("/rerank", "1")])
def test_cohere(served, reranker, path, version):
    body = {"model": NAME, "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    answer = ask(served, body, path)
    same(ranks(answer), expected(reranker)[:2])
    found = answer.json()
    assert found["meta"]["api_version"] == {"version": version}
    assert found["model"] == NAME
    assert len(found["id"]) == 36
    assert all("document" not in one for one in found["results"])
    body = {"model": NAME, "query": QUERY, "documents": [{"text": text} for text in DOCUMENTS], "rank_fields": ["text"]}
    same(ranks(ask(served, body, path)), expected(reranker))


def test_jina(served, reranker):
    body = {"model": NAME, "query": QUERY, "documents": DOCUMENTS, "top_n": 3, "return_documents": True}
    answer = ask(served, body)
    same(ranks(answer), expected(reranker)[:3])
    assert [one["document"] for one in answer.json()["results"]] == [
        {"text": DOCUMENTS[index]} for index, _ in expected(reranker)[:3]
    ]
    encoder = reranker.encoder
    tokens = sum(encoder.tokens(reranker.prepare(QUERY, text)) for text in DOCUMENTS)
    assert answer.json()["usage"] == {"total_tokens": tokens}


def test_text_embeddings_inference(served, reranker):
    body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": False, "return_text": True, "truncate": True}
    answer = ask(served, body, "/rerank")
    same(ranks(answer, "score"), expected(reranker))
    assert [one["text"] for one in answer.json()] == [DOCUMENTS[index] for index, _ in expected(reranker)]
    logits = ranks(ask(served, {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}, "/rerank"), "score")
    assert torch.tensor([score for _, score in logits]).sigmoid().tolist() == pytest.approx(
        [score for _, score in expected(reranker)], abs=1e-5
    )
    whole = {"query": QUERY, "texts": ["a", "word " * 2000], "truncate": False}
    refused = ask(served, whole, "/rerank")
    assert (refused.status, refused.json()["error"]["code"]) == (400, "text-too-long")
    assert refused.json()["error"]["param"] == "texts[1]"
    assert ask(served, whole | {"truncate": True}, "/rerank").status == 200


def test_a_cross_encoder_gives_scores_from_0_to_1_whatever_it_was_trained_to_give():
    torch.manual_seed(0)
    model = zoo.build_reranker("ms-marco-test").eval()
    assert model.spec.activation == "identity"
    logits = sorted(enumerate(model.score(QUERY, DOCUMENTS).tolist()), key=lambda one: -one[1])
    with serving(model) as served:
        wanted = [(index, torch.tensor(logit).sigmoid().item()) for index, logit in logits]
        same(ranks(ask(served, {"query": QUERY, "documents": DOCUMENTS})), wanted)
        body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True, "truncate": False}
        same(ranks(ask(served, body, "/rerank"), "score"), logits)
        refused = ask(served, {**body, "texts": ["a", "word " * 2000]}, "/rerank").json()["error"]
        assert (refused["code"], refused["param"]) == ("text-too-long", "texts[1]")
        told = ask(served, {"query": {"text": "a", "instruction": "Find."}, "documents": ["b"]}).json()["error"]
        assert told["param"] == "query"
        assert "instruction" in told["message"]
        assert served.call("GET", "/health").status == 200


def test_images_in_query_and_documents(served, reranker):
    images = [make_image(seed) for seed in (1, 2)]
    documents = [{"image": data_url(one)} for one in images]
    wanted = expected(reranker, [zoo.Item(image=one) for one in images] + ["a boat"])
    same(ranks(ask(served, {"query": QUERY, "documents": [*documents, "a boat"]})), wanted)
    query = {"text": "like this", "image": data_url(images[0]), "instruction": "Find the same."}
    asked = zoo.Item(text="like this", image=images[0], instruction="Find the same.")
    same(ranks(ask(served, {"query": query, "documents": DOCUMENTS})), expected(reranker, query=asked))


def test_an_embedder_and_a_reranker_in_one_server(both, reranker):
    key = {"Authorization": "Bearer secret"}
    body = {"query": QUERY, "documents": DOCUMENTS}
    same(ranks(ask(both, body, **key)), expected(reranker))
    assert both.post({"input": QUERY}, **key).vectors().shape == (1, zoo.get_spec("text-test").dim)
    listed = both.call("GET", "/v1/models", None, key).json()["data"]
    assert [(one["id"], one.get("kind")) for one in listed] == [("text-test", None), (NAME, "reranker")]
    assert both.call("GET", f"/v1/models/{NAME}", None, key).json()["modalities"] == ["image", "text", "video"]
    assert both.call("GET", "/v1/models/other", None, key).status == 404
    assert ask(both, body).status == 401
    health = both.call("GET", "/health").json()
    assert (health["model"], health["reranker"]) == ("text-test", NAME)
    schema = both.call("GET", "/openapi.json", None, key).json()["paths"]
    assert {"/v1/embeddings", "/v1/rerank", "/v2/rerank", "/rerank"} <= set(schema)


def test_a_model_that_is_not_there_is_told(served):
    answer = served.post({"input": "a"})
    assert answer.status == 404
    assert "not an embedder" in answer.json()["error"]["message"]
    with serving(zoo.build_model("text-test")) as embedder:
        answer = ask(embedder, {"query": "a", "documents": ["b"]})
        assert answer.status == 404
        assert "--reranker NAME" in answer.json()["error"]["message"]
        assert "/v1/rerank" not in embedder.call("GET", "/openapi.json").json()["paths"]


BAD = [
    ({"documents": ["a"]}, 400, "missing_query", "query"),
    ({"query": 5, "documents": ["a"]}, 400, "invalid_value", "query"),
    ({"query": "a"}, 400, "missing_documents", "documents"),
    ({"query": "a", "documents": []}, 400, "missing_documents", "documents"),
    ({"query": "a", "documents": "b"}, 400, "missing_documents", "documents"),
    ({"query": "a", "documents": ["b", 5]}, 400, "invalid_value", "documents[1]"),
    ({"query": "a", "documents": ["b", " "]}, 400, "empty-text", "documents[1]"),
    ({"query": " ", "documents": ["b", "c"]}, 400, "empty-text", "query"),
    ({"query": {"image": data_url(b"no image")}, "documents": ["b"]}, 400, "not-media", "query"),
    ({"query": "a", "documents": ["b", {"image": data_url(b"no image")}]}, 400, "not-media", "documents[1]"),
    ({"query": "a", "documents": [{"title": "b"}]}, 400, "invalid_value", "documents[0]"),
    ({"query": "a", "documents": ["b"], "top_n": 0}, 400, "invalid_value", "top_n"),
    ({"query": "a", "documents": ["b"], "top_n": True}, 400, "invalid_value", "top_n"),
    ({"query": "a", "documents": ["b"], "return_documents": "yes"}, 400, "invalid_value", "return_documents"),
    ({"query": "a", "documents": ["b"], "top_k": 1}, 400, "unknown_field", "top_k"),
    ({"query": "a", "documents": ["b"], "max_chunks_per_doc": 3}, 400, "unsupported_field", "max_chunks_per_doc"),
    ({"query": "a", "documents": ["b"], "max_tokens_per_doc": 3}, 400, "unsupported_field", "max_tokens_per_doc"),
    ({"query": "a", "documents": ["b"], "rank_fields": ["title"]}, 400, "unsupported_field", "rank_fields"),
    ({"query": "a", "documents": ["b"], "priority": 3}, 400, "unsupported_field", "priority"),
    ({"query": "a", "documents": ["b"], "model": "rerank-v3.5"}, 404, "model_not_found", "model"),
    ({"query": "a", "documents": [{"image": "https://example.com/a.png"}]}, 400, "urls-not-allowed", "documents[0]"),
    ({"query": "a", "documents": [{"audio": data_url(b"x", "audio/wav")}]}, 400, "unsupported-modality", "documents[0]"),
    ([], 400, "invalid_json", None),
    (b"{", 400, "invalid_json", None),
]  # fmt: skip
BAD_TEI = [
    ({"query": "a", "texts": [{"text": "b"}]}, 400, "invalid_value", "texts[0]"),
    ({"query": {"text": "a"}, "texts": ["b"]}, 400, "invalid_value", "query"),
    ({"query": "a", "texts": ["b"], "truncation_direction": "left"}, 400, "invalid_value", "truncation_direction"),
    ({"query": "a", "texts": ["b"], "raw_scores": 1}, 400, "invalid_value", "raw_scores"),
    ({"query": "a", "texts": ["b"], "top_n": 1}, 400, "unknown_field", "top_n"),
]


@pytest.mark.parametrize(("path", "cases"), [("/v1/rerank", BAD), ("/rerank", BAD_TEI)])
def test_a_bad_request_is_named(served, path, cases):
    for body, status, code, param in cases:
        answer = ask(served, body, path)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["param"]) == (status, code, param), (body, error)
        assert error["message"]


def test_limits_forms_and_what_is_said_of_null(reranker):
    with serving(reranker, limits=Limits(items=2, body_bytes=2000)) as small:
        body = {"query": QUERY, "documents": ["a", "b"], "top_n": None, "rank_fields": None, "return_documents": None}
        assert ask(small, body).status == 200
        assert ask(small, {"query": QUERY, "documents": ["a"] * 3}).json()["error"]["code"] == "too_many_items"
        assert ask(small, {"query": QUERY, "documents": ["a" * 3000]}).status == 413
        form = small.call("POST", "/v1/rerank", b"--x--", {"Content-Type": "multipart/form-data; boundary=x"})
        assert (form.status, form.json()["error"]["code"]) == (415, "unsupported_type")


def test_requests_share_batches_and_a_client_that_hangs_up_is_dropped(reranker):
    with serving(reranker) as served_:
        gate, answers = Gate(reranker.encoder), []

        def send(documents):
            answers.append(ask(served_, {"query": QUERY, "documents": documents}))

        first = threading.Thread(target=send, args=(["a"],))
        more = [threading.Thread(target=send, args=(DOCUMENTS,)) for _ in range(2)]
        try:
            first.start()
            assert gate.reached.wait(60)
            body = b'{"query":"a","documents":["bb"]}'
            head = f"POST /v1/rerank HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {len(body)}\n\n"
            gone = raw(served_, head)
            gone.sendall(body)
            until(lambda: len(served_.batcher._ready) == 1)
            gone.close()
            until(lambda: len(served_.batcher._ready) == 0)
            for thread in more:
                thread.start()
            until(lambda: len(served_.batcher._ready) == 2 * len(DOCUMENTS))
        finally:
            gate.remove()
            for thread in (first, *more):
                thread.join(60)
        assert [answer.status for answer in answers] == [200] * 3
        assert served_.metric("zoo_pairs_total") == 1 + 2 * len(DOCUMENTS)
        assert served_.metric("zoo_batch_items_sum") >= 1 + 2 * len(DOCUMENTS)
        assert served_.metric("zoo_waiting_items") == 0


def test_health_notices_a_broken_reranker():
    torch.manual_seed(0)
    reranker = zoo.build_reranker(NAME).eval()
    with serving(reranker) as broken:
        assert broken.call("GET", "/health").json()["status"] == "ok"
        with torch.no_grad():
            reranker.answer.fill_(float("nan"))
        assert broken.call("GET", "/health").status == 503
        assert ask(broken, {"query": "a", "documents": ["b"]}).json()["error"]["code"] == "non-finite"


def test_two_rerankers_and_other_objects_are_refused(reranker):
    with pytest.raises(ArgumentError, match="at most"):
        create_app(reranker, reranker=reranker)
    with pytest.raises(ArgumentError, match=r"load_reranker"):
        create_app(zoo.build_model("text-test"), reranker="qwen")


def test_the_cohere_client(both, reranker):
    cohere = pytest.importorskip("cohere")
    for client in (cohere.Client, cohere.ClientV2):
        with client("secret", base_url=both.url) as api:
            found = api.rerank(model=NAME, query=QUERY, documents=DOCUMENTS, top_n=2)
            same([(one.index, one.relevance_score) for one in found.results], expected(reranker)[:2])
            with pytest.raises(cohere.BadRequestError):
                api.rerank(model=NAME, query=" ", documents=DOCUMENTS)


def test_the_command_serves_a_reranker_alone_or_beside_an_embedder(reranker, tmp_path, monkeypatch, capsys):
    folder = reranker.save_pretrained(tmp_path / "judge")
    embedder = zoo.build_model("text-test").save_pretrained(tmp_path / "model")
    apps = []
    monkeypatch.setattr("zoo.serving.run_server", lambda app, **_: apps.append(app))
    assert main(["serve", str(folder), "--port", "0"]) == 0
    assert main(["serve", str(embedder), "--reranker", str(folder), "--port", "0"]) == 0
    assert [[model.names[0] for model in app.state.service.models] for app in apps] == [[NAME], ["text-test", NAME]]
    for options, words in (
        ((str(folder), "--reranker", str(folder)), "is a reranker; give an embedder"),
        ((str(folder), "--against", "regions"), "--against is of an embedder"),
        ((str(embedder), "--reranker", str(embedder)), ""),
    ):
        assert main(["serve", *options, "--port", "0"]) == 2
        assert words in capsys.readouterr().err
    assert len(apps) == 2
