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


@every("name", ["X-Gradio-Server", "Cookie", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Direct-Url"])
def test_no_visitor_chooses_what_others_get(url, name):
    before = plain(url, "/config")[2]
    for made_up in ("https://evil.example", "https"):
        query = f"/config?a={name}{made_up[-3:]}"
        plain(url, query, **{name: made_up})
        assert plain(url, query)[2] == before


def test_two_headers_of_one_name_are_not_one():
    seen = []

    async def app(scope, receive, send):
        seen.append([value for name, value in scope["headers"] if name == b"host"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": seen[-1][0]})

    cached = caching.Cached(app)
    for hosts in ([b"evil", b"good"], [b"good"]):
        scope = {"type": "http", "scheme": "http", "method": "GET", "path": "/", "query_string": b""}

        async def send(message):
            pass

        asyncio.run(cached(scope | {"headers": [(b"host", host) for host in hosts]}, None, send))
    assert seen == [[b"evil", b"good"], [b"good"]]


def test_made_up_queries_drive_out_the_oldest(monkeypatch):
    monkeypatch.setattr(caching, "_MOST", 3 * (caching._LEAST + 10))
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["query_string"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 10})

    async def send(message):
        pass

    cached = caching.Cached(app)
    for query in (b"", b"a=1", b"a=2", b"a=3", b"a=3", b""):
        scope = {"type": "http", "scheme": "http", "method": "GET", "path": "/", "query_string": query, "headers": []}
        asyncio.run(cached(scope, None, send))
    assert asked == [b"", b"a=1", b"a=2", b"a=3", b""]


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

        scope = {"type": "http", "scheme": "http", "method": method, "path": path, "query_string": query}
        scope["headers"] = list(headers)
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
