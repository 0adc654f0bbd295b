"""`zoo serve` under load: 32 clients send 2,000 requests of pictures and texts, against `encode` of the same items offline."""

import base64
import io
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

CLIENTS, REQUESTS = 32, 2_000
TEXTS = 8  # of a text request; every fourth request is one


def pictures(count: int = 64) -> list[bytes]:
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


def requests(files: list[bytes], count: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """The bodies of the requests, and the same items for `encode`."""
    urls = ["data:image/jpeg;base64," + base64.b64encode(file).decode() for file in files]
    bodies: list[dict[str, Any]] = []
    items: list[Any] = []
    for number in range(count):
        if number % 4 == 3:
            texts = [f"a red motorbike number {number} in front of house {k}" for k in range(TEXTS)]
            bodies.append({"model": "zoo-mini", "input": texts, "encoding_format": "base64"})
            items += texts
        else:
            place = number % len(files)
            bodies.append({"model": "zoo-mini", "input": [{"image": urls[place]}], "encoding_format": "base64"})
            items.append(files[place])
    return bodies, items


def offline(items: list[Any]) -> float:
    """Items per second of one call of `encode`, after a short one."""
    import zoo

    model = zoo.load_model("zoo-mini", device="cpu")
    model.encode(items[:64], progress=False)
    started = time.perf_counter()
    model.encode(items, progress=False)
    return len(items) / (time.perf_counter() - started)


def main(clients: int = CLIENTS, count: int = REQUESTS) -> None:
    """Prints requests/s, items/s, their share of offline, latencies and failures."""
    import httpx

    bodies, items = requests(pictures(), count)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = offline(items)
    command = [sys.executable, "-m", "zoo", "serve", "zoo-mini", "--device", "cpu", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    try:
        with httpx.Client(base_url=url, timeout=120, limits=limits, trust_env=False) as client:
            _wait_for(client, server)

            def send(body: dict[str, Any]) -> tuple[float, bool]:
                started = time.perf_counter()
                try:
                    answer = client.post("/v1/embeddings", json=body)
                    good = answer.status_code == 200 and len(answer.json()["data"]) == len(body["input"])
                except (httpx.HTTPError, ValueError, KeyError):
                    good = False
                return time.perf_counter() - started, good

            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(send, bodies[:64]))
                started = time.perf_counter()
                outcomes = list(pool.map(send, bodies))
                seconds = time.perf_counter() - started
    finally:
        server.terminate()
        server.wait()
    after = offline(items)
    reference = (before + after) / 2
    waits = np.sort([wait for wait, _ in outcomes])
    failures = sum(not good for _, good in outcomes)
    p50, p95, p99 = (1000 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.95, 0.99))
    print(f"{clients} clients, {count:,} requests ({len(items):,} items), clients and server on the same machine")
    print(f"failures          {failures}")
    print(f"requests/s        {count / seconds:,.1f}")
    print(f"items/s           {len(items) / seconds:,.1f}")
    print(f"offline items/s   {before:,.1f} before, {after:,.1f} after")
    print(f"share of offline  {len(items) / seconds / reference:.2f}")
    print(f"latency ms        p50 {p50:,.0f}   p95 {p95:,.0f}   p99 {p99:,.0f}")


def _wait_for(client: Any, server: subprocess.Popen) -> None:
    import httpx

    while server.poll() is None:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the server ended with {server.returncode} before it answered")


if __name__ == "__main__":
    main()
