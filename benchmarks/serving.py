"""`zoo serve` under load: 32 clients send 2,000 requests of images and texts, against `encode` of the same items offline."""

import base64
import http.client
import io
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zoo import Embedder

CLIENTS, REQUESTS = 32, 2_000
TEXTS = 8  # of a text request; every fourth request is one


def make_images(count: int = 64) -> list[bytes]:
    """JPEG files of 640x480, no two alike."""
    from PIL import Image

    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        small = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def requests(files: list[bytes], count: int) -> tuple[list[bytes], list[Any]]:
    """The bodies of the requests, and the same items for `encode`."""
    urls = ["data:image/jpeg;base64," + base64.b64encode(file).decode() for file in files]
    bodies: list[bytes] = []
    items: list[Any] = []
    for number in range(count):
        if number % 4 == 3:
            inputs: list[Any] = [f"a red motorbike number {number} in front of house {k}" for k in range(TEXTS)]
            items += inputs
        else:
            inputs = [{"image": urls[number % len(files)]}]
            items.append(files[number % len(files)])
        bodies.append(json.dumps({"input": inputs, "encoding_format": "base64"}).encode())
    return bodies, items


def offline(model: "Embedder", items: list[Any]) -> float:
    """Items per second of one call of `encode`, after a short one."""
    model.encode(items[:64], progress=False)
    started = time.perf_counter()
    model.encode(items, progress=False)
    return len(items) / (time.perf_counter() - started)


def measure(title: str, name: str, count: int, clients: int = CLIENTS) -> None:
    """Prints requests/s, items/s, their share of offline, latencies and failures of one model."""
    import zoo

    bodies, items = requests(make_images(), count)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    model = zoo.load_model(name, device="cpu")
    before = offline(model, items)
    command = [sys.executable, "-m", "zoo", "serve", name, "--device", "cpu", "--port", str(port), "--timeout", "600"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    own = threading.local()

    def send(body: bytes) -> tuple[float, bool]:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        started = time.perf_counter()
        try:
            own.connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
            answer = own.connection.getresponse()
            good = answer.status == 200 and answer.read().count(b'"embedding":') > 0
        except OSError:
            own.connection.close()
            good = False
        return time.perf_counter() - started, good

    try:
        _wait_for(port, server)
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(send, bodies[:64]))
            started = time.perf_counter()
            outcomes = list(pool.map(send, bodies))
            seconds = time.perf_counter() - started
    finally:
        server.terminate()
        server.wait()
    after = offline(model, items)
    waits = np.sort([wait for wait, _ in outcomes])
    p50, p95, p99 = (1000 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.95, 0.99))
    print(f"{title}: {clients} clients, {count:,} requests ({len(items):,} items), all on this machine")
    print(f"  failures          {sum(not good for _, good in outcomes)}")
    print(f"  requests/s        {count / seconds:,.1f}")
    print(f"  items/s           {len(items) / seconds:,.1f}")
    print(f"  offline items/s   {before:,.1f} before, {after:,.1f} after")
    print(f"  share of offline  {len(items) / seconds / max(before, after):.2f} (of the better of the two)")
    print(f"  latency ms        p50 {p50:,.0f}   p95 {p95:,.0f}   p99 {p99:,.0f}", flush=True)


def main() -> None:
    """zoo-mini, where a request costs as much as an image; and a ViT-B/32 with random weights, where the model costs."""
    import zoo

    measure("zoo-mini", "zoo-mini", REQUESTS)
    with tempfile.TemporaryDirectory() as folder:
        zoo.build_model("clip-vit-b32-openai").save_pretrained(folder)
        measure("ViT-B/32, random weights", folder, 400)


def _wait_for(port: int, server: subprocess.Popen) -> None:
    while server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise RuntimeError(f"the server ended with {server.returncode} before it answered")


if __name__ == "__main__":
    main()
