"""Fetching by URL: a real TLS server on loopback, and the addresses that must never be asked."""

import ipaddress
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import zoo
from tests.serving.serve_support import make_image, serving
from zoo.errors import FetchError
from zoo.serving.urls import fetch, is_public

PNG = make_image(5)


class Handler(BaseHTTPRequestHandler):
    """/image, /redirect?<where>, and the ways a server can be a nuisance."""

    stop = threading.Event()

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.asked.append(self.path)
        if path == "/redirect":
            self.send_response(302)
            self.send_header("Location", query)
            self.end_headers()
        elif path == "/image":
            self._send(PNG, len(PNG))
        elif path == "/short":
            self._send(PNG[:50], len(PNG))
        elif path == "/claims-much":
            self._send(b"", 10**12)
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            while not self.stop.is_set():
                try:
                    self.wfile.write(b"x" * 65536)
                except OSError:
                    return
        elif path in ("/trickle", "/trickle-headers"):
            if path == "/trickle":
                self.send_response(200)
                self.end_headers()
            while not self.stop.wait(0.02):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
        else:
            self.send_error(404)

    def _send(self, body, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """(address, SSL context that trusts it, list of the paths asked for)"""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificate of the test's server")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*made, "-days", "2", "-keyout", key, "-out", certificate, *names], check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.asked = True, []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_port}", ssl.create_default_context(cafile=certificate), server.asked
    Handler.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


def get(web, path, **options):
    address, context, _ = web
    limits = {"max_bytes": 100_000, "seconds": 30, **options}
    return fetch(address + path, context=context, permitted=lambda ip: ip.is_loopback, **limits)


def test_an_image_and_a_redirect_to_it(web):
    assert get(web, "/image") == get(web, "/redirect?/redirect?/image") == PNG
    assert get(web, f"/redirect?{web[0]}/image", max_bytes=len(PNG)) == PNG


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/nothing", {}, "answered 404"),
        ("/short", {}, "bytes early|IncompleteRead"),
        ("/claims-much", {"max_bytes": 10}, "early|IncompleteRead"),
        ("/endless", {}, "more than 100,000 bytes"),
        ("/image", {"max_bytes": 50}, "more than 50 bytes"),
        ("/trickle", {"seconds": 0.5}, "took too long"),
        ("/trickle-headers", {"seconds": 0.5}, "took too long"),
        ("/redirect?/redirect?/redirect?/redirect?/image", {}, "more than 3 redirects"),
        ("/redirect?http://localhost/image", {}, "only https"),
        ("/redirect?file:///etc/passwd", {}, "only https"),
        ("/redirect?https://169.254.169.254/latest/meta-data", {}, "no public address"),
        ("/redirect?https://10.0.0.1/", {}, "no public address"),
        ("/redirect?https://user:word@localhost/", {}, "user name"),
        ("/redirect?https://[::1", {}, "no URL"),
    ],
)
def test_what_is_not_fetched(web, path, options, message):
    with pytest.raises(FetchError, match=message):
        get(web, path, **options)


def test_a_certificate_must_be_trusted_and_fit_the_name(web):
    address, context, asked = web
    before = len(asked)
    for url, trusted in ((address, ssl.create_default_context()), (address.replace("localhost", "127.0.0.1"), context)):
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            fetch(url, max_bytes=10, seconds=30, context=trusted, permitted=lambda ip: ip.is_loopback)
    assert len(asked) == before


def test_loopback_is_refused_before_it_is_asked(web):
    address, context, asked = web
    before = len(asked)
    with pytest.raises(FetchError, match="localhost is no public address"):
        fetch(f"{address}/image", max_bytes=10**6, seconds=30, context=context)
    assert len(asked) == before


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com/a.png", "only https"),
        ("ftp://example.com/a.png", "only https"),
        ("https:///a.png", "only https"),
        ("https://2130706433/", "no public address"),  # 127.0.0.1 as one number
        ("https://127.1/", "no public address"),
        ("https://0x7f.0.0.1/", "no public address"),
        ("https://[::ffff:127.0.0.1]/", "no public address"),
        ("https://[fe80::1%25lo]/", "no public address|cannot be resolved|no URL"),
        ("https://192.168.0.1:8443/", "no public address"),
        ("https://example.com:99999/", "no URL"),
        ("https://exa mple.com/", "no URL"),
        ("https://example.com/\r\nHost: other", "no URL|cannot be resolved"),
        ("https://" + "a" * 300 + ".example/", "cannot be resolved"),
    ],
)
def test_addresses_that_are_refused(url, message):
    with pytest.raises(FetchError, match=message):
        fetch(url, max_bytes=10, seconds=30)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True), ("8.8.8.8", True), ("2606:4700:4700::1111", True),
        ("0.0.0.0", False), ("10.1.2.3", False), ("100.64.0.1", False), ("127.0.0.1", False),
        ("169.254.169.254", False), ("172.16.0.1", False), ("192.168.1.1", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("::", False), ("::1", False), ("::ffff:10.0.0.1", False), ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("2001::1", False), ("fc00::1", False),
        ("fe80::1", False), ("fec0::1", False), ("ff02::1", False), ("2001:db8::1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address, public):
    assert is_public(ipaddress.ip_address(address)) is public


def test_the_server_fetches_only_where_it_is_allowed(web, monkeypatch):
    from zoo.serving import service

    # Only the addresses that are permitted are changed: everything else of the way is the real one.
    def loopback(url, **limits):
        return fetch(url, context=web[1], permitted=lambda ip: ip.is_loopback, **limits)

    model = zoo.load_model("zoo-mini")
    with serving(model, allow_urls=True) as served:
        refused = served.embed(["a", {"image": f"{web[0]}/image"}])
        assert (refused.status, refused.json()["error"]["code"]) == (400, "url-not-fetched")
        assert refused.json()["error"]["param"] == "input[1]"
        monkeypatch.setattr(service, "fetch", loopback)
        url = f"{web[0]}/image"
        found = served.embed([{"image": url}, "a", {"type": "image_url", "image_url": {"url": url}}])
        assert abs(model.encode([PNG, "a", PNG]).numpy() - found.vectors()).max() < 1e-5
        assert served.embed([{"image": f"{web[0]}/nothing"}]).json()["error"]["param"] == "input[0]"


def test_the_time_limit_holds_for_the_name_the_handshake_and_connections_made_too_late(web, monkeypatch):
    import socket

    from zoo.serving import urls

    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers the handshake
        url = f"https://localhost:{silent.getsockname()[1]}/"
        with pytest.raises(FetchError, match="took too long"):
            fetch(url, max_bytes=10, seconds=0.3, context=web[1], permitted=lambda ip: ip.is_loopback)
    parts, begun, asked = urls._checked(f"{web[0]}/image"), threading.Event(), len(web[2])
    late = urls._Pinned(parts, "127.0.0.1", urls.time.monotonic() + 60, web[1])
    late.abort()  # before there is a socket
    with pytest.raises(TimeoutError):
        late.connect()
    late.close()
    held, real = threading.Event(), socket.getaddrinfo

    def slow(*arguments, **options):
        begun.set()
        assert held.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        with pytest.raises(FetchError, match="took too long"):
            get(web, "/image", seconds=0.1)
        assert begun.is_set()
        assert all(t.daemon for t in threading.enumerate() if t.name == "zoo-fetch")
    finally:
        held.set()
    assert len(web[2]) == asked


def test_what_is_fetched_counts_as_pending(web, monkeypatch):
    from zoo.serving import Limits, service

    def loopback(url, **limits):
        return fetch(url, context=web[1], permitted=lambda ip: ip.is_loopback, **limits)

    monkeypatch.setattr(service, "fetch", loopback)
    with serving(zoo.load_model("zoo-mini"), allow_urls=True, limits=Limits(pending_bytes=300)) as served:
        answer = served.embed([{"image": f"{web[0]}/image"}])
        assert len(PNG) + 100 > 300
        assert (answer.status, answer.json()["error"]["code"]) == (503, "overloaded")
        assert served.app.state.service.pending_bytes == 0
