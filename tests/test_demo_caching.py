"""What all visitors fetch alike is made once, and is the same as without."""

import asyncio
import http.client
from urllib.parse import urlsplit

import pytest

from tests.demo_support import colour_model, colour_photos, running
from tests.every import every

gr = pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

from zoo.demos import caching, search  # noqa: E402
from zoo.demos.gallery import folder_pictures  # noqa: E402


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    photos = colour_photos(tmp_path_factory.mktemp("caching"))
    with running(search.build(colour_model(), folder_pictures(photos))) as address:
        yield address


def plain(url, path, **headers):
    """(status, headers, body) as they are sent."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@every("path", ["/", "/config", "/theme.css", "/gradio_api/info"])
def test_the_second_visitor_gets_what_the_first_got(url, path):
    import brotli

    first, second, other = (plain(url, path, **{"Accept-Encoding": coding}) for coding in ("br", "br", "identity"))
    assert first[0] == second[0] == other[0] == 200
    assert first[2] == second[2]
    assert first[1]["content-encoding"] == "br"
    assert brotli.decompress(first[2]) == other[2]
    assert "content-encoding" not in other[1]
    assert int(other[1]["content-length"]) == len(other[2])


def test_each_name_of_this_machine_gets_its_own_addresses(url):
    port = urlsplit(url).port
    one, other = (httpx.get(f"http://{name}:{port}/config").json()["root"] for name in ("127.0.0.1", "localhost"))
    assert "127.0.0.1" in one
    assert "localhost" in other


def test_only_answers_that_are_the_same_for_all_are_kept():
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        status = 404 if "gone" in scope["path"] else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/css")]})
        await send({"type": "http.response.body", "body": b"x" * 2000, "more_body": True})
        await send({"type": "http.response.body", "body": b"y"})

    cached = caching.Cached(app)

    def get(path, *headers, method="GET", query=b""):
        sent = []

        async def send(message):
            sent.append(message)
            if "headers" in message:  # as compressing middlewares do
                assert (b"content-length", b"0") not in message["headers"]
                message["headers"].append((b"content-length", b"0"))

        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": list(headers)}
        asyncio.run(cached(scope, None, send))
        return b"".join(message.get("body", b"") for message in sent)

    for path in ("/", "/assets/a.js", "/static/b.css"):
        assert get(path) == get(path) == b"x" * 2000 + b"y"
        assert asked.count(path) == 1
    for path in ("/gradio_api/file=/x.jpg", "/gradio_api/queue/data", "/original/1", "/assets/gone.js", "/configs"):
        get(path), get(path)
        assert asked.count(path) == 2, path
    (
        get("/", (b"range", b"bytes=0-1")),
        get("/", (b"if-none-match", b"x")),
        get("/", method="HEAD"),
        get("/", query=b"a=1"),
    )
    assert asked.count("/") == 5
    get("/", (b"host", b"other")), get("/", (b"accept-encoding", b"br"))
    assert asked.count("/") == 7
