"""`zoo serve` under load and in trouble: batches across requests, bad neighbours, full queues, clients that leave."""

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import zoo
from tests import warm
from tests.conftest import PROJECT
from tests.serving.serve_support import Gate, data_url, make_image, raw, serving, until
from zoo.serving import Limits


@pytest.fixture(scope="module")
def model():
    return zoo.load_model("zoo-mini")


@pytest.fixture
def gate(model):
    gate = Gate(*model.towers)
    yield gate
    gate.remove()


def closed(model, served_gate):
    """Closes a new gate once the server has warmed up."""
    served_gate.append(Gate(*model.towers))
    return served_gate[-1]


@pytest.fixture
def gates():
    gates: list[Gate] = []
    yield gates
    for gate in gates:
        gate.remove()


def test_many_clients_get_what_encode_gives(model):
    rng = np.random.default_rng(0)
    words = ["red", "blue", "cat", "dog", "house", "river", "night", "photo", "of", "with", "the"]
    images = [make_image(seed, (30 + seed, 60)) for seed in range(8)]

    def inputs():
        for _ in range(int(rng.integers(1, 6))):
            if rng.random() < 0.25:
                yield images[rng.integers(8)]
            else:
                yield " ".join(rng.choice(words, int(rng.integers(1, 40))))

    requests = [list(inputs()) for _ in range(80)]
    flat = [value for request in requests for value in request]
    expected = iter(model.encode(flat).numpy())
    with serving(model) as served, ThreadPoolExecutor(16) as clients:

        def ask(request):
            return served.embed([v if isinstance(v, str) else {"image": data_url(v)} for v in request])

        answers = list(clients.map(ask, requests))
        assert served.metric("zoo_requests_total", status="200") == len(requests)
        passes = served.metric("zoo_batch_items_count")
    for request, answer in zip(requests, answers, strict=True):
        found = answer.vectors()
        assert len(found) == len(request)
        np.testing.assert_allclose(found, [next(expected) for _ in request], atol=1e-5)
    assert passes < len(requests)


def test_requests_that_wait_share_a_forward_pass(model, gates):
    with serving(model) as served, ThreadPoolExecutor(12) as clients:
        before = served.metric("zoo_batch_items_count")
        gate = closed(model, gates)
        first = clients.submit(served.embed, ["first"])
        assert gate.reached.wait(60)
        rest = [clients.submit(served.embed, [f"text {i}"]) for i in range(10)]
        until(lambda: len(served.batcher._ready) == 10)
        gate.open()
        assert all(answer.result().status == 200 for answer in [first, *rest])
        assert served.metric("zoo_batch_items_count") - before == 2


def test_a_bad_item_costs_only_its_own_request(model, gates):
    with serving(model) as served, ThreadPoolExecutor(12) as clients:
        gate = closed(model, gates)
        first = clients.submit(served.embed, ["first"])
        assert gate.reached.wait(60)
        bad = clients.submit(served.embed, ["fine", {"image": data_url(make_image()[:90])}, ""])
        good = [clients.submit(served.embed, [f"text {i}", {"image": data_url(make_image(i))}]) for i in range(4)]
        until(lambda: served.batcher._unread == 0)
        gate.open()
        assert first.result().status == 200
        assert bad.result().json()["error"]["param"] == "input[1]"
        for i, answer in enumerate(good):
            expected = model.encode([f"text {i}", make_image(i)])
            np.testing.assert_allclose(answer.result().vectors(), expected, atol=1e-5)


def test_a_forward_pass_that_fails_takes_down_one_request(model, gates):
    encoder, texts = model.towers[1].encoder, ["one", "two", "xylophone", "three", "four"]
    tokens = {text: set(encoder.prepare_item(zoo.Item(text=text))) for text in texts}
    fatal = tokens.pop("xylophone") - set().union(*tokens.values())  # [CLS] and [SEP] are in every text

    def fail(_, arguments):
        if fatal & set(arguments[0]["ids"].flatten().tolist()):
            raise RuntimeError("a kernel failed")

    with serving(model) as served, ThreadPoolExecutor(12) as clients:
        gate = closed(model, gates)
        first = clients.submit(served.embed, ["first"])
        assert gate.reached.wait(60)
        answers = [clients.submit(served.embed, [text]) for text in texts]
        until(lambda: len(served.batcher._ready) == len(texts))
        handle = model.towers[1].register_forward_pre_hook(fail)
        gate.open()
        try:
            statuses = [answer.result().status for answer in answers]
        finally:
            handle.remove()
        assert statuses == [200, 200, 500, 200, 200]
        assert answers[2].result().json()["error"] == {
            "message": "the model failed on this request; the server's log says why",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        }
        assert first.result().status == served.embed(["xylophone"]).status == 200


def test_a_full_queue_turns_away_and_takes_again(model, gates):
    with serving(model, limits=Limits(items=4, queue_items=4)) as served, ThreadPoolExecutor(4) as clients:
        gate = closed(model, gates)
        first = clients.submit(served.embed, ["a", "b", "c"])
        assert gate.reached.wait(60)
        refused = served.embed(["d", "e"])
        assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        fits = clients.submit(served.embed, ["f"])
        until(lambda: len(served.batcher._ready) == 1)
        health = clients.submit(served.call, "GET", "/health")  # goes ahead of the queue, and is not refused
        until(lambda: len(served.batcher._ready) == 3)
        gate.open()
        assert first.result().status == fits.result().status == health.result().status == 200
        assert served.embed(["d", "e"]).status == 200


def test_bodies_of_all_requests_together_are_bounded(model, gates):
    limits = Limits(body_bytes=5000, pending_bytes=6000)
    with serving(model, limits=limits) as served, ThreadPoolExecutor(4) as clients:
        gate = closed(model, gates)
        first = clients.submit(served.embed, ["a cat " * 650])
        assert gate.reached.wait(60)
        assert served.embed(["a dog " * 650]).json()["error"]["code"] == "overloaded"
        gate.open()
        assert first.result().status == 200
        until(lambda: served.app.state.service.pending_bytes == 0)
        assert served.embed(["a dog " * 650]).status == 200


def test_a_request_ends_with_its_time_and_leaves_nothing_behind(model, gates):
    with serving(model, limits=Limits(seconds=0.3)) as served:
        gate = closed(model, gates)
        late = served.embed(["a", "b"])
        assert (late.status, late.json()["error"]["code"]) == (504, "timeout")
        slow = raw(
            served,
            "POST /v1/embeddings HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 9\n\n{",
        )
        with slow:
            assert slow.recv(100).startswith(b"HTTP/1.1 504")  # a body that never comes
        assert served.call("GET", "/health").status == 503  # the model's thread is stuck
        gate.open()
        until(lambda: served.batcher._waiting == 0)
        until(
            lambda: served.call("GET", "/health").status == 200
        )  # it asks the model, which has 0.3 s on a busy machine too


def test_a_client_that_hangs_up_is_dropped(model, gates):
    with serving(model) as served, ThreadPoolExecutor(2) as clients:
        gate = closed(model, gates)
        first = clients.submit(served.embed, ["first"])
        assert gate.reached.wait(60)
        body = json.dumps({"input": ["never read"] * 40})
        head = f"POST /v1/embeddings HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {len(body)}\n\n"
        raw(served, head + body).close()
        until(lambda: served.metric("zoo_requests_total", status="499") == 1)
        gate.open()
        assert first.result().status == 200
        until(lambda: served.batcher._waiting == 0)
        assert served.metric("zoo_items_total", modality="text") == 1


def test_more_images_than_are_read_ahead(model, monkeypatch):
    monkeypatch.setattr("zoo.serving.batching._READ_AHEAD", 0.25)  # of a batch: 8 images
    images = [make_image(seed, (9, 9)) for seed in range(4)]
    with serving(model) as served:
        found = served.embed([{"image": data_url(images[i % 4])} for i in range(40)]).vectors()
    np.testing.assert_allclose(found, np.tile(model.encode(images).numpy(), (10, 1)), atol=1e-5)


def test_the_server_leaves_no_thread_behind(model):
    before = set(threading.enumerate())
    with serving(model) as served:
        assert served.embed(["a"]).status == 200
    until(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("zoo-")])


# ------------------------------------------------------------------------------------------------ the command


def start(*arguments, **environment):
    import os

    command = [sys.executable, "-m", "zoo", "serve", "--port", "0", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": PROJECT}
    return warm.Popen(command, env={**os.environ, **environment}, **options)


def test_the_command_answers_what_has_begun_before_it_ends():
    process = start(ZOO_API_KEY="secret")
    try:
        line = process.stdout.readline()
        assert line.startswith("zoo-mini at http://127.0.0.1:"), process.stderr.read()
        port = int(line.split(":")[2].split("/")[0])
        served = type("Address", (), {"port": port})
        body = '{"input": "a cat"}'
        head = "POST /v1/embeddings HTTP/1.1\nHost: localhost\nAuthorization: Bearer secret\nContent-Type: application/json\n"
        with raw(served, f"{head}Content-Length: {len(body)}\nExpect: 100-continue\n\n") as sock:
            assert sock.recv(100).startswith(b"HTTP/1.1 100")  # the server now reads this request
            process.send_signal(signal.SIGTERM)
            until(lambda: _refuses(port))
            sock.sendall(body.encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")
    finally:
        process.kill()
        process.wait()


def _refuses(port):
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_command_names_what_is_wrong(capsys):
    import socket

    from zoo.cli import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # Before the model is loaded: there is none.
        assert main(["serve", "./none", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen at 127.0.0.1:" in capsys.readouterr().err
    assert main(["serve", "--max-items", "9000"]) == 2
    assert "must fit into the queue" in capsys.readouterr().err
    assert main(["serve", "zoo-minni"]) == 2
    assert "zoo-mini" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["serve", "--port", "65536"])


def test_a_missing_package_names_the_extra():
    code = (
        "import sys; sys.modules['fastapi'] = None\nfrom zoo.cli import main; sys.exit(main(['serve', '--port', '0']))"
    )
    done = warm.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2
    assert 'pip install "embedding-zoo[serve]"' in done.stderr


# ------------------------------------------------------------------------------------------------ what is left behind


def test_what_is_cancelled_leaves_the_queues_at_once(model, gates):
    with serving(model, limits=Limits(seconds=0.5)) as served, ThreadPoolExecutor(2) as clients:
        gate = closed(model, gates)
        first = clients.submit(served.embed, ["first"])
        assert gate.reached.wait(60)
        url = data_url(make_image())
        assert served.embed([{"image": url}] * 300 + ["text"] * 20).status == 504
        first.result()
        batcher = served.batcher
        until(lambda: batcher._waiting <= 1)  # the one that the model's thread is at
        assert not batcher._ready
        assert not batcher._jobs
        gate.open()
        until(lambda: batcher._waiting == 0 and batcher._unread == 0)


def test_a_lone_text_does_not_wait_for_all_images_of_another_request(model, gates):
    with serving(model, limits=Limits(seconds=600)) as served, ThreadPoolExecutor(2) as clients:
        gate = closed(model, gates)
        many = clients.submit(served.embed, [{"image": data_url(make_image())}] * 300)
        assert gate.reached.wait(60)
        lone = clients.submit(served.embed, ["a text"])
        until(lambda: served.batcher._waiting == 301)
        gate.open()
        assert lone.result().status == 200
        assert not many.done()
        assert served.batcher._unread
        assert many.result().status == 200


def test_no_other_decoder_sees_an_image(model, monkeypatch):
    from PIL import EpsImagePlugin

    opened = []
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", lambda self: opened.append(self))
    with serving(model) as served:
        answer = served.embed([{"image": data_url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" * 9)}])
    assert (answer.status, opened) == (400, [])


def test_a_client_that_hangs_up_while_it_sends_is_no_failure(model, caplog):
    head = "POST /v1/embeddings HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 90\n\n{"
    with serving(model) as served:
        raw(served, head).close()
        until(lambda: served.metric("zoo_requests_total", status="499") == 1)
        assert served.metric("zoo_refused_total", code="client_gone") == 1
    assert not caplog.records


def test_silent_connections_are_closed_and_too_many_requests_are_told(model, gates):
    with serving(model, limits=Limits(seconds=2, requests=1)) as served:
        with raw(served, "") as silent, raw(served, "GET /health HTTP/1.1\nHost:") as half:
            assert silent.recv(10) == half.recv(10) == b""
        head = "POST /v1/embeddings HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 90\n\n{"
        with raw(served, head):
            until(lambda: served.app.state.service.pending_requests == 1)
            refused = served.embed(["a"])
            assert served.call("GET", "/health").status == 200
        assert (refused.status, refused.json()["error"]["code"], refused.headers["Retry-After"]) == (
            503,
            "overloaded",
            "1",
        )
        assert served.metric("zoo_refused_total", code="overloaded") == 1
