"""What all visitors fetch alike is made once, and is the same as without."""

import asyncio
import http.client
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.demos.demo_support import colour_model, colour_photos, running
from tests.every import every

gr = pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

from zoo.demos import caching, search  # noqa: E402

from tests.demos.demo_support import folder_images  # noqa: E402


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    photos = colour_photos(tmp_path_factory.mktemp("caching"))
    with running(search.build(colour_model(), folder_images(photos))) as address:
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


async def ignore(message):
    pass


def wanted(path="/", *headers):
    return {"type": "http", "scheme": "http", "method": "GET", "path": path, "query_string": b"", "headers": [*headers]}


def test_those_who_come_at_once_share_one_answer_though_the_first_goes():
    asked, answers = [], []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        assert (await receive())["more_body"] is False
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/css")]})
        await send({"type": "http.response.body", "body": b"x" * 5000})

    async def keep(message):
        answers.append(message.get("body", b""))

    async def visit():
        cached = caching.Cached(app)
        visitors = [asyncio.create_task(cached(wanted(), None, keep)) for _ in range(8)]
        other = asyncio.create_task(cached(wanted("/", (b"host", b"other")), None, ignore))
        await asyncio.sleep(0.01)
        visitors[0].cancel()
        await asyncio.gather(*visitors[1:], other)
        assert not cached._coming

    asyncio.run(visit())
    assert len(asked) == 2  # another Host is another question
    assert b"".join(answers) == 7 * 5000 * b"x"


def test_an_answer_that_fails_fails_for_those_who_wait_and_is_not_kept():
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        await asyncio.sleep(0.01)
        raise OSError("gone")

    async def visit():
        cached = caching.Cached(app)
        for _ in range(2):
            together = [cached(wanted(), None, ignore) for _ in range(3)]
            failed = await asyncio.gather(*together, return_exceptions=True)
            assert [str(error) for error in failed] == ["gone"] * 3
        assert (cached._coming, cached._kept, cached._size) == ({}, {}, 0)

    asyncio.run(visit())
    assert len(asked) == 2


def test_what_was_asked_for_last_stays(monkeypatch):
    monkeypatch.setattr(caching, "_MOST", 2 * (caching._LEAST + 10))
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 10})

    async def visit():
        cached = caching.Cached(app)
        for path in ("/assets/page", "/assets/1", "/assets/page", "/assets/2", "/assets/page", "/assets/1"):
            await cached(wanted(path), None, ignore)
        assert cached._size == 2 * (caching._LEAST + 10)

    asyncio.run(visit())
    assert asked == ["/assets/page", "/assets/1", "/assets/2", "/assets/1"]


def test_thumbnails_of_the_gallery_are_kept_and_no_other_file(monkeypatch):
    asked, name = [], "0123456789abcdef01234567.jpg"

    async def app(scope, receive, send):
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def visit(path, thumbnails=Path("/private/p.1/images")):
        asked.clear()
        cached = caching.Cached(app, thumbnails)
        for _ in range(2):
            await cached(wanted(path), None, ignore)
        return len(asked)

    file = "/gradio_api/file="
    assert asyncio.run(visit(f"{file}/private/p.1/images/{name}")) == 1
    for other in (
        f"{file}/private/p.1/images/../uploads/{name}",
        f"{file}/private/p.1/images/a/{name}",
        f"{file}/private/p.1/uploads/{name}",
        f"{file}/private/px1/images/{name}",
        f"{file}/private/p.1/images/{name}/x",
        f"{file}/private/p.1/images/{name[1:]}",
        f"{file}/private/p.1/images/{name}\n",
    ):
        assert asyncio.run(visit(other)) == 2, other
    assert asyncio.run(visit(f"{file}/private/p.1/images/{name}", None)) == 2


def test_a_kept_thumbnail_is_the_file(url):
    address = re.search(r"/gradio_api/file=[^\"]+\.jpg", httpx.get(f"{url}config").text)[0]
    first, second = plain(url, address), plain(url, address)
    file = Path(address.partition("=")[2])
    assert first[2] == second[2] == file.read_bytes()
    assert first[1]["content-type"] == "image/jpeg"
    assert first[1]["content-length"] == str(len(first[2]))
    file.rename(file.with_suffix(".gone"))
    try:
        assert plain(url, address)[2] == first[2], "the second visitor costs no look at the disk"
    finally:
        file.with_suffix(".gone").rename(file)


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
