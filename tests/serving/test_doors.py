"""Who gets in at `zoo serve` and the pages of `zoo demo`, and what is left of a visitor who has gone."""

import asyncio
import http.client
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

import zoo
from tests import warm
from tests.demos.demo_support import colour_model, colour_photos, running
from tests.every import every
from tests.ports import free_port
from tests.serving.serve_support import data_url, form, make_image, serving, until

gr = pytest.importorskip("gradio")

from zoo.demos import search, visitors, widgets  # noqa: E402
from zoo.demos.visitors import COOKIE, EXPIRY  # noqa: E402

from tests.demos.demo_support import folder_images  # noqa: E402
from zoo.serving import doors  # noqa: E402
from zoo.strangers.folders import Place  # noqa: E402
from zoo.strangers.locks import locked  # noqa: E402
from zoo.strangers.made import mark  # noqa: E402

pytestmark = pytest.mark.usefixtures("cache_home")  # where vectors of folders are kept

STRANGE_HOSTS = (
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example:{port}",
    "127.0.0.1.nip.io:{port}",
    "evil.example@localhost:{port}",
    "localhost:{port}@evil.example",
    "localhost:{port}:80",
    "localhost/evil.example",
    "0.0.0.0:{port}",
    "169.254.169.254",
    "192.168.1.5:{port}",
    "[::1",
    "[fe80::1]:{port}",
    "localhost, evil.example",
    "xn--localhost-.example",
    "2130706433:{port}",
    "",
)
JSON = {"Content-Type": "application/json"}
ADDRESS = {"path": "https://a.example/x.jpg", "meta": {"_type": "gradio.FileData"}}
OUR_HOSTS = (
    "localhost:{port}",
    "127.0.0.1:{port}",
    "LOCALHOST.:{port}",
    "127.0.0.1",
    "[::1]:{port}",
    "127.9.9.9:{port}",
)
STRANGE_ORIGINS = (
    "http://evil.example",
    "https://evil.example:{port}",
    "http://localhost.evil.example:{port}",
    "http://localhost:1",
    "http://127.0.0.1",
    "null",
    "file://",
    "http://evil.example@localhost:{port}",
    "http://localhost:{port}/evil",
    "chrome-extension://abcdef",
)
OUR_ORIGINS = ("http://localhost:{port}", "http://127.0.0.1:{port}", "http://[::1]:{port}", "http://LOCALHOST:{port}")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_photos(tmp_path_factory.mktemp("doors") / "photos")


@pytest.fixture(scope="module")
def local(photos):
    page = search.build(colour_model(), folder_images(photos), roots=[photos.parent])
    with running(page) as url:
        yield page, urlsplit(url).port


@pytest.fixture(scope="module")
def shared(photos):
    page = search.build(colour_model(), folder_images(photos), local=False)
    with running(page, local=False) as url:
        yield page, urlsplit(url).port


@pytest.fixture(scope="module")
def server():
    with serving(zoo.load_model("zoo-mini"), cors=["https://page.example"]) as served:
        yield served.port


def ask(port, method, path, body=b"", **headers):
    """(status, body, the cookie that is given); headers as they are, also a Host that no client would send."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        host = headers.pop("Host", f"127.0.0.1:{port}")
        for name, value in {"Host": host, "Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read(), (answer.getheader("Set-Cookie") or "").partition(";")[0]
    finally:
        connection.close()


# Hosts and origins ---------------------------------------------------------------------------------------------


@every("host", STRANGE_HOSTS)
def test_a_local_page_and_server_answer_to_no_other_host(local, server, host):
    for port, path in ((local[1], "/"), (local[1], "/gradio_api/info"), (server, "/v1/models"), (server, "/health")):
        status, body, _ = ask(port, "GET", path, Host=host.format(port=port))
        assert status in (400, 403), (host, path)  # 400: of uvicorn, where it is no Host at all
        assert b"zoo" not in body
        if status == 403:
            assert json.loads(body)["error"]["code"] == "host_refused"


@every("host", OUR_HOSTS)
def test_they_answer_to_all_names_of_this_machine(local, server, host):
    assert ask(local[1], "GET", "/", Host=host.format(port=local[1]))[0] == 200
    assert ask(server, "GET", "/v1/models", Host=host.format(port=server))[0] == 200


def test_two_hosts_or_none_are_refused(local, server):
    for port in (local[1], server):
        assert ask(port, "GET", "/", Host=None)[0] in (400, 403)
        assert ask(port, "GET", "/", host=f"127.0.0.1:{port}", Host="evil.example")[0] in (400, 403)


@every("hosts", [["127.0.0.1:1", "evil.example"], ["127.0.0.1:1", "127.0.0.1:1"], []])
def test_two_hosts_or_none_are_refused_by_ourselves(hosts):
    """uvicorn refuses them before; another server may take the last one for the Host."""
    said, passed = [], []

    async def app(*_):
        passed.append("app")

    async def send(message):
        said.append(message)

    head = [(b"host", host.encode()) for host in hosts]
    scope = {"type": "http", "method": "POST", "scheme": "http", "path": "/", "query_string": b"", "headers": head}
    asyncio.run(doors.LocalHosts(app)(scope, None, send))
    asyncio.run(doors.SameOrigin(app)({**scope, "headers": [*head, (b"origin", b"http://127.0.0.1:1")]}, None, send))
    assert [message["status"] for message in said if "status" in message] == [403, 403]
    assert passed == []


def test_a_page_for_others_answers_to_any_host(shared):
    assert ask(shared[1], "GET", "/", Host="someone-space.hf.space")[0] == 200


def requests_of_pages(port, server):
    """(method, path, body, headers) of what browsers send for another page without asking."""
    upload, kind = form([("files", make_image()), ("input", "a cat")])
    text = {"Content-Type": "text/plain"}
    if port == server:
        body = json.dumps({"input": ["a cat", {"image": data_url(make_image())}]}).encode()
        yield from [("POST", "/v1/embeddings", upload, kind), ("POST", "/v1/embeddings", body, text)]
        yield "GET", "/v1/models", b"", {}
    else:
        body = json.dumps({"data": ["/etc", True]}).encode()
        yield from [("POST", "/gradio_api/upload", upload, kind), ("POST", "/gradio_api/queue/join", body, text)]
        yield "POST", "/gradio_api/call/index_folder", body, text


@every("origin", STRANGE_ORIGINS)
def test_what_another_page_sends_is_refused(local, server, origin):
    before = set(local[0].visitors.root.rglob("*"))
    for port in (local[1], server):
        for method, path, body, headers in requests_of_pages(port, server):
            status, answer, _ = ask(port, method, path, body, Origin=origin.format(port=port), **headers)
            assert status == 403, (origin, path)
            assert json.loads(answer)["error"]["code"] == "origin_refused"
    assert set(local[0].visitors.root.rglob("*")) == before


@every("origin", OUR_ORIGINS)
def test_what_their_own_page_sends_passes(local, server, origin):
    upload, kind = form([("files", make_image())])
    assert ask(local[1], "POST", "/gradio_api/upload", upload, Origin=origin.format(port=local[1]), **kind)[0] == 200
    body = json.dumps({"input": "a cat"}).encode()
    headers = {"Origin": origin.format(port=server), "Content-Type": "application/json"}
    assert ask(server, "POST", "/v1/embeddings", body, **headers)[0] == 200


def test_pages_that_cors_names_may_call(server):
    body = json.dumps({"input": "a cat"}).encode()
    headers = {"Origin": "https://page.example", "Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}
    assert ask(server, "POST", "/v1/embeddings", body, **headers)[0] == 200


def test_what_another_page_embeds_is_refused_and_a_link_is_followed(local):
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert ask(local[1], "GET", "/gradio_api/info", **embedded)[0] == 403
    link = {**embedded, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(local[1], "GET", "/", **link)[0] == 200
    assert ask(local[1], "GET", "/", **{**link, "Sec-Fetch-Dest": "iframe"})[0] == 403, (
        "no page is shown inside another"
    )
    assert ask(local[1], "GET", "/gradio_api/info", **{**embedded, "Sec-Fetch-Site": "same-origin"})[0] == 200


# Visitors ------------------------------------------------------------------------------------------------------


def come(port):
    """The cookie that a visitor gets with the page."""
    status, _, cookie = ask(port, "GET", "/", Accept="text/html")
    assert status == 200
    assert cookie.startswith(f"{COOKIE}=")
    return cookie


def bring(port, data, cookie=None, **headers):
    """(status, path of the upload, or what was said)."""
    body, kind = form([("files", data)])
    status, answer, _ = ask(port, "POST", "/gradio_api/upload", body, Cookie=cookie, **kind, **headers)
    return status, Path(json.loads(answer)[0]) if status == 200 else answer.decode()


class Tab:
    """An open page: the connection that Gradio's script holds."""

    def __init__(self, port, cookie, session):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.request("GET", f"/gradio_api/heartbeat/{session}", headers={"Cookie": cookie})
        self.answer = self.connection.getresponse()

    def close(self):
        self.answer.close()
        self.connection.close()


def test_uploads_lie_in_the_folder_of_their_visitor_which_goes_with_his_last_tab(shared):
    page, port = shared
    mine, other = come(port), come(port)
    assert mine != other
    first, second = Tab(port, mine, "a"), Tab(port, mine, "b")
    paths = [bring(port, make_image(seed), mine)[1] for seed in (1, 2)]
    _, others = bring(port, make_image(1), other)
    folder = page.visitors.owner(paths[0])
    assert folder.is_dir()
    assert {page.visitors.owner(path) for path in paths} == {folder}
    assert page.visitors.owner(others) != folder
    assert mine.partition("=")[2] not in str(paths[0]), "addresses of files are passed on, cookies are not"
    first.close()
    until(lambda: page.visitors._tabs[folder.name] == 1)
    assert all(path.exists() for path in paths)
    second.close()
    until(lambda: not folder.exists())
    assert others.exists()


def test_whoever_is_not_seen_for_long_loses_his_folder(shared):
    page, port = shared
    there = come(port)
    tab = Tab(port, there, "there")
    kept, lost, nameless = (
        bring(port, make_image(), there)[1],
        bring(port, make_image(), come(port))[1],
        bring(port, make_image())[1],
    )
    until(lambda: not page.visitors._coming.total())  # which an answer does not wait for
    page.visitors.sweep(time.monotonic() + EXPIRY - 60)
    assert lost.exists()
    page.visitors.sweep(time.monotonic() + EXPIRY + 60)
    assert kept.exists(), "his tab is open"
    for path in (lost, nameless):
        assert not page.visitors.owner(path).exists()
    tab.close()
    until(lambda: not kept.exists())


def test_what_is_still_coming_keeps_its_folder_and_counts(shared, monkeypatch):
    them, later = shared[0].visitors, time.monotonic() + EXPIRY + 60
    folder, other = them.folder(), them.folder()
    monkeypatch.setattr(visitors, "PER_VISITOR", 50_000)
    monkeypatch.setattr(visitors, "IN_ALL", visitors._size(them.root) + 40_000)
    with them.room(folder.name, 30_000):
        them.sweep(later)
        assert folder.exists()
        assert not other.exists()
        for name, message in ((folder.name, "one visitor may upload"), (other.name, "try again later")):
            with pytest.raises(visitors.QuotaError, match=message), them.room(name, 30_000):
                pass
    with them.room(folder.name, 30_000):  # the room of before is given back
        pass
    them.sweep(later + 60)
    assert not folder.exists()


def test_where_uploads_go_is_told_for_as_long_as_one_comes(tmp_path):
    place = visitors._Place(tmp_path)
    with place.of("his"):
        assert str(place) == str(tmp_path / "his")
    assert Path(place) == tmp_path


@every("cookie", ["../../etc", "..", "/etc/passwd", "a" * 32 + "/..", "local", "", "A" * 32, "'; rm -rf /", "x" * 9000])
def test_a_made_up_cookie_leads_nowhere(shared, cookie):
    page, port = shared
    status, path = bring(port, make_image(), f"{COOKIE}={cookie}")
    assert status in (200, 400, 431)
    if status == 200:
        assert path.parents[2] == page.visitors.root
        assert len(page.visitors.owner(path).name) == 32


def test_a_visitor_and_all_of_them_may_bring_so_much(shared, monkeypatch):
    port = shared[1]
    mine, other = come(port), come(port)
    monkeypatch.setattr(visitors, "PER_VISITOR", 50_000)
    assert bring(port, b"x" * 30_000, mine)[0] == 200
    status, said = bring(port, b"y" * 30_000, mine)
    assert (status, said) == (413, "one visitor may upload 0 MB; reload the page to begin anew")
    assert bring(port, b"y" * 30_000, other)[0] == 200
    monkeypatch.setattr(visitors, "IN_ALL", 1000)
    status, said = bring(port, b"z" * 2000, come(port))
    assert status == 413
    assert "try again later" in said
    endless = {
        "Content-Length": None,
        "Transfer-Encoding": "chunked",
        "Content-Type": "multipart/form-data; boundary=x",
    }
    for length in (None, "5"):
        endless["Content-Length"] = length
        assert ask(port, "POST", "/gradio_api/upload", b"1\r\nx\r\n0\r\n\r\n", Cookie=mine, **endless)[0] == 411


def test_a_request_that_brings_no_file_is_short(shared, monkeypatch):
    monkeypatch.setattr(visitors, "PER_CALL", 100)
    for words, expected in (("a cat" * 100, 413), ("a cat", 200)):
        body = json.dumps({"data": [words, 3]}).encode()
        assert ask(shared[1], "POST", "/gradio_api/call/search_by_text", body, **JSON)[0] == expected


@every(
    "path", ["process_recording", "component_server", "deep_link?session_hash=a", "stream/a", "proxy=http://a.example"]
)
def test_routes_that_no_page_uses_are_closed(shared, path):
    for method in ("GET", "POST"):
        status, said, _ = ask(shared[1], method, f"/gradio_api/{path}")
        assert (status, said) == (404, b"this page has no such address")


@every("value", [ADDRESS, [{"a": ADDRESS}]])
@every("action", ["search_by_image", "search_by_text"])
def test_pages_fetch_nothing(shared, monkeypatch, value, action):
    from gradio import processing_utils

    fetched = []

    async def fetch(url):
        fetched.append(url)
        raise OSError

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", fetch)
    call = f"/gradio_api/call/{action}"
    event = json.loads(ask(shared[1], "POST", call, json.dumps({"data": [value, 3]}).encode(), **JSON)[1])["event_id"]
    assert b"Send it as an uploaded file." in ask(shared[1], "GET", f"{call}/{event}")[1]
    assert not fetched


def test_what_is_shown_of_uploads_lies_with_them(photos):
    handlers = search.Search(search.Models(colour_model()), page_gallery(photos), photos.parent / "work", local=False)
    folder = handlers.visitors.folder("0" * 32)
    mine = folder / "mine.png"
    Image.new("RGB", (30, 30), (0, 255, 255)).save(mine)
    own, _ = handlers.index_files([str(mine)], False)
    found, _ = handlers.by_text("red", 9, own)
    drawn, _, _ = handlers.draw_map("PCA", own)
    assert {handlers.visitors.owner(Path(path)) for path in (found[0][0], drawn, own.files[0].path)} == {folder}
    again, report = handlers.index_files([str(mine)], True, own)
    assert "1 was there already" in report
    assert len(again) == 1
    assert handlers.draw_map("PCA", own)[0] == drawn, "the same map is kept once"
    assert list(handlers.visitors.root.iterdir()) == [folder], "whether a cookie is sent or not"


def test_what_is_made_of_uploads_counts_too(photos, monkeypatch):
    handlers = search.Search(search.Models(colour_model()), page_gallery(photos), photos.parent / "work", local=False)
    mine = handlers.visitors.folder() / "mine.png"
    Image.new("RGB", (30, 30), (0, 255, 255)).save(mine)
    own, _ = handlers.index_files([str(mine)], True)
    monkeypatch.setattr(visitors, "PER_VISITOR", 10)
    for action in (lambda: handlers.index_files([str(mine)], False, own), lambda: handlers.draw_map("PCA", own)):
        with pytest.raises(gr.Error, match="one visitor may upload 0 MB"):
            action()
    handlers.draw_map("PCA")  # of the gallery that is nobody's
    handlers.by_text("red", 9, own)


def page_gallery(photos):
    from zoo.demos.gallery import embed_files

    return embed_files(colour_model(), folder_images(photos))


def test_on_a_local_page_the_one_user_keeps_his_uploads(local):
    page, port = local
    status, path = bring(port, make_image())
    tab = Tab(port, f"{COOKIE}={'0' * 32}", "user")
    tab.close()
    page.visitors.sweep(time.monotonic() + 10 * EXPIRY)
    assert status == 200
    assert path.exists()
    assert page.visitors.owner(path).name == "local"
    assert not ask(port, "GET", "/", Accept="text/html")[2], "one user needs no cookie"


def test_a_cookie_in_a_frame_of_another_site_is_partitioned(shared):
    connection = http.client.HTTPConnection("127.0.0.1", shared[1], timeout=60)
    connection.request("GET", "/", headers={"Accept": "text/html", "X-Forwarded-Proto": "https"})
    given = connection.getresponse().getheader("Set-Cookie")
    connection.close()
    assert {"HttpOnly", "Secure", "SameSite=None", "Partitioned"} <= set(given.split("; "))


WAITING = """
import sys, tempfile
tempfile.tempdir, model, photos, port = sys.argv[1:]
import zoo.demos
from zoo.demos import serve, visitors
page = zoo.demos.launch(model, photos, port=int(port), samples=False, block=False)
(page.visitors.root / "kept").mkdir()
serve._end_in_order()
print(visitors.private_folder(), flush=True)
page.block_thread()
"""
BEGINNING = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from zoo.demos.visitors import private_folder
print(private_folder())
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_of_a_page_that_is_stopped(photos, tmp_path, ending):
    zoo.build_model("mini-test").save_pretrained(tmp_path / "model")
    place = tmp_path / "temporary"
    place.mkdir()
    command = [sys.executable, "-c", WAITING, place, tmp_path / "model", photos, free_port()]
    with warm.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout.readline, "")
        folder = Path(next(line for line in lines if "zoo-demo-" in line).strip())
        assert list(folder.glob("uploads/*/kept"))
        process.send_signal(ending)
        process.wait(60)
    if ending == signal.SIGKILL:  # nobody can tidy then; the next page does
        assert folder.exists()
        warm.run([sys.executable, "-c", BEGINNING, str(place)], check=True, capture_output=True)
    assert not folder.exists()
    assert not list(place.glob("zoo-demo-*"))


def test_a_page_that_begins_is_not_taken_for_an_abandoned_one(tmp_path, monkeypatch):
    others, locked = [], visitors.locked

    def slow(place, **options):
        if not others:  # a second page begins before the first one holds its lock
            place.path.touch()
            others.append(None)
            others[0] = visitors.private_folder.__wrapped__()
        return locked(place, **options)

    monkeypatch.setattr(visitors, "locked", slow)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = visitors.private_folder.__wrapped__()
    for folder in (first, others[0]):
        assert folder.stat().st_mode & 0o077 == 0, "removed, and made again by the lock, for all to read"


def test_folders_of_others_are_left_alone(tmp_path):
    for name in ("zoo-demo-alive", "zoo-demo-unlocked", "zoo-demo-linked", "zoo-demo-dead", "kept"):
        (tmp_path / name).mkdir()
        mark(tmp_path / name)
    (tmp_path / "zoo-demo-anybodys").mkdir()
    for name in ("kept", "zoo-demo-dead", "zoo-demo-anybodys"):
        (tmp_path / name / ".lock").write_text("content")
    (tmp_path / "zoo-demo-link").symlink_to(tmp_path / "kept")
    (tmp_path / "zoo-demo-linked" / ".lock").symlink_to(tmp_path / "kept" / ".lock")
    before = {path.name for path in tmp_path.iterdir()}
    with locked(Place(tmp_path / "zoo-demo-alive") / ".lock"):
        visitors._remove_abandoned(tmp_path / "zoo-demo-ours")
    assert {path.name for path in tmp_path.iterdir()} == before - {"zoo-demo-dead"}
    assert (tmp_path / "kept" / ".lock").read_text() == "content", "a lock that is a link is neither taken nor emptied"


# Numbers -------------------------------------------------------------------------------------------------------


@every("value", [float("nan"), float("inf"), -float("inf"), -1, 10**400, None, "x", [], True])
def test_a_field_for_a_number_answers_anything_else_in_words(photos, value):
    fields = [widgets.how_many(), widgets.how_many(50, 10, "Passages"), widgets.slider("Share", 0, 1)]
    for field in fields:
        with pytest.raises(gr.Error, match=r"give a number from"):
            field.preprocess(value)
    handlers = search.Search(search.Models(colour_model()), page_gallery(photos), photos.parent / "work")
    red = str(photos / "red.png")
    for call in (
        lambda: handlers.by_text("red", value),
        lambda: handlers.by_image(red, value),
        lambda: handlers.by_both(red, "blue", "", value),
        lambda: handlers.by_both(red, "blue", "", 0.5, value),
        lambda: handlers.classify(red, "red, blue", value),
    ):
        with pytest.raises(gr.Error, match="give a number from"):
            call()


def test_zero_results_and_a_zero_temperature_are_answered_in_words(local):
    for name, data in (("search_by_text", ["red", 0]), ("classify_image", [None, "a, b", 0])):
        sent = json.dumps({"data": data}).encode()
        _, event, _ = ask(local[1], "POST", f"/gradio_api/call/{name}", sent, Content_Type="application/json")
        _, answer, _ = ask(local[1], "GET", f"/gradio_api/call/{name}/{json.loads(event)['event_id']}")
        assert b"give a number from" in answer, answer


def test_every_slider_of_the_pages_is_of_the_kind_that_answers():
    pages = [search.build(colour_model()), zoo.demos.text.build(zoo.build_model("text-test"))]
    sliders = [block for page in pages for block in page.blocks.values() if isinstance(block, gr.Slider | gr.Number)]
    assert len(sliders) >= 6
    for block in sliders:
        with pytest.raises(gr.Error, match="give a number from"):
            block.preprocess(float("nan"))
