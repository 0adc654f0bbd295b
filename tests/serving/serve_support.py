"""A real server on a free loopback port for the tests of serving, and a plain HTTP client for it."""

import base64
import contextlib
import http.client
import io
import json
import socket
import threading
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from zoo.serving import create_app
from zoo.serving.doors import bound_socket
from zoo.serving.running import server_of


class Answer(NamedTuple):
    """Status, headers and body of one answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def vectors(self) -> np.ndarray:
        assert self.status == 200, self.body
        return np.array([row["embedding"] for row in self.json()["data"]], np.float32)


class Served:
    """A server at `port`; `batcher` is that of its first model."""

    def __init__(self, app: Any, port: int) -> None:
        self.app, self.port, self.url = app, port, f"http://127.0.0.1:{port}"

    @property
    def batcher(self) -> Any:
        return self.app.state.service.models[0].batcher

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, body: Any, **headers: str) -> Answer:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", "/v1/embeddings", sent, {"Content-Type": "application/json", **headers})

    def embed(self, given: Any, **fields: Any) -> Answer:
        return self.post({"input": given, **fields})

    def metric(self, name: str, /, **labels: str) -> float:
        from prometheus_client.parser import text_string_to_metric_families

        families = text_string_to_metric_families(self.call("GET", "/metrics").body.decode())
        samples = [s for family in families for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())


@contextlib.contextmanager
def serving(model: Any, **options: Any):
    """A running server for the model; ends with it, all its threads joined."""
    app = create_app(model, **options)
    sock = bound_socket("127.0.0.1", 0)
    server = server_of(app)
    ready = threading.Event()
    startup = server.startup

    async def announced(sockets: Any = None) -> None:
        await startup(sockets)
        ready.set()

    server.startup = announced
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="server")
    thread.start()
    try:
        assert ready.wait(60)
        assert server.started
        yield Served(app, sock.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(60)
        sock.close()
        assert not thread.is_alive()


class Gate:
    """Holds the model's thread before a forward pass, until it is opened."""

    def __init__(self, *towers: Any) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        self._handles = [tower.register_forward_pre_hook(self._wait) for tower in towers]

    def _wait(self, *_: Any) -> None:
        self.reached.set()
        assert self._open.wait(60)

    def open(self) -> None:
        self._open.set()

    def remove(self) -> None:
        self.open()
        for handle in self._handles:
            handle.remove()


def until(condition: Any) -> None:
    """Waits for what another thread is about to do; fails after a minute."""
    tick = threading.Event()
    for _ in range(12_000):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError("it did not happen within a minute")


def make_image(seed: int = 0, size: tuple[int, int] = (48, 40), kind: str = "PNG") -> bytes:
    """An image of coloured blocks as the bytes of a file."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(out, kind)
    return out.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def raw(served: Served, head: str) -> socket.socket:
    """A connection on which a request has begun."""
    sock = socket.create_connection(("127.0.0.1", served.port), timeout=60)
    sock.sendall(head.replace("\n", "\r\n").encode())
    return sock


def form(parts: list[tuple[str, str | bytes]]) -> tuple[bytes, dict[str, str]]:
    """A multipart body and its headers; bytes are sent as files."""
    out = io.BytesIO()
    for name, value in parts:
        filename = '; filename="upload"' if isinstance(value, bytes) else ""
        out.write(f'--edge\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode())
        out.write(value if isinstance(value, bytes) else value.encode())
        out.write(b"\r\n")
    out.write(b"--edge--\r\n")
    return out.getvalue(), {"Content-Type": "multipart/form-data; boundary=edge"}
