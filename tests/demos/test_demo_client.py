"""The search page over HTTP: its API as programs see it, and what it refuses to serve."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.demos.demo_support import COLOURS, PATIENT, colour_model, colour_photos, running

pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402
from zoo.demos import search, serve, text  # noqa: E402
from zoo.demos.visitors import private_folder  # noqa: E402

from tests.demos.demo_support import folder_images  # noqa: E402
from zoo import build_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("cache_home")  # where vectors of folders are kept


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_photos(tmp_path_factory.mktemp("client") / "photos")


@pytest.fixture(scope="module")
def uploads():
    return private_folder() / "uploads"


@pytest.fixture(scope="module")
def local(photos, uploads):
    page = search.build(colour_model(), folder_images(photos), roots=[photos.parent])
    with running(page) as url:
        yield url


@pytest.fixture(scope="module")
def shared(photos, uploads):
    page = search.build(colour_model(), folder_images(photos), local=False)
    with running(page, local=False) as url:
        yield url


@pytest.fixture
def client(local, tmp_path):
    return Client(local, verbose=False, httpx_kwargs=PATIENT, download_files=str(tmp_path))


def first(found):
    return found[0]["caption"], Path(found[0]["image"])


def test_api_names_and_parameters_are_pinned(local, shared, tmp_path):
    def endpoints(url):
        api = Client(url, verbose=False, httpx_kwargs=PATIENT).view_api(return_format="dict", print_info=False)
        assert not api["unnamed_endpoints"]
        return {
            name: [parameter["parameter_name"] for parameter in facts["parameters"]]
            for name, facts in api["named_endpoints"].items()
        }

    expected = {
        "/search_by_text": ["query", "top_k"],
        "/search_by_both": ["image", "text", "instruction", "share", "top_k"],
        "/search_by_image": ["image", "top_k"],
        "/search_by_file": ["file", "top_k"],
        "/search_by_region": ["image", "marks", "labels", "top_k"],
        "/classify_image": ["image", "labels", "temperature"],
        "/draw_map": ["method"],
        "/index_files": ["files", "keep"],
        "/index_folder": ["folder", "keep"],
        "/choose_model": ["name", "download"],
    }
    assert endpoints(local) == expected
    del expected["/index_folder"]
    assert endpoints(shared) == expected


def test_every_endpoint_says_what_it_does(local):
    described = httpx.get(f"{local}gradio_api/info").json()["named_endpoints"]
    for name, facts in described.items():
        assert len(facts["description"].split()) >= 5, name


def test_words_find_the_right_image(client):
    found, scores = client.predict("a red thing", 2, api_name="/search_by_text")
    caption, path = first(found)
    assert caption == "red.png"
    assert len(found) == 2
    with Image.open(path) as image:
        assert max(abs(a - b) for a, b in zip(image.getpixel((9, 9)), COLOURS["red"], strict=True)) < 12
    assert scores["rows"][0]["label"] == "red.png"
    assert scores["rows"][0]["cosine"] > 0.99


def test_an_image_finds_its_like_and_its_label(client, photos):
    image = handle_file(photos / "purple.png")
    found, _ = client.predict(image, 1, api_name="/search_by_image")
    assert first(found)[0] == "purple.png"
    scores = client.predict(image, "green, purple", 0.05, api_name="/classify_image")
    assert scores["rows"][0]["label"] == "purple"


def test_map_is_an_image(client):
    path, note = client.predict("PCA", api_name="/draw_map")
    with Image.open(path) as image:
        assert image.size == (1200, 720)
    assert note.startswith("PCA")


@pytest.mark.parametrize("query", ["", "  "])
def test_empty_query_is_a_friendly_error(client, query):
    with pytest.raises(AppError, match="Type a few words"):
        client.predict(query, 5, api_name="/search_by_text")


def test_a_bad_upload_is_a_friendly_error(client, tmp_path):
    for name, data, words in [("x.jpg", b"<html>", "not an image"), ("y.jpg", b"\xff\xd8\xff\xe0cut", "damaged")]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AppError, match=words) as caught:
            client.predict(handle_file(tmp_path / name), 5, api_name="/search_by_image")
        assert str(tmp_path) not in str(caught.value)
        assert "gradio" not in str(caught.value)


def test_out_of_range_numbers_are_refused(client, photos):
    with pytest.raises(AppError):
        client.predict("red", 10**9, api_name="/search_by_text")
    with pytest.raises(AppError):
        client.predict(handle_file(photos / "red.png"), "a, b", 0, api_name="/classify_image")


def test_files_and_folders_are_indexed_and_stay_for_the_next_page(photos, uploads, tmp_path):
    cyan = tmp_path / "cyan.png"
    Image.new("RGB", (20, 20), (0, 255, 255)).save(cyan)
    with running(search.build(colour_model(), folder_images(photos), roots=[tmp_path])) as url:
        mine = Client(url, verbose=False, httpx_kwargs=PATIENT)
        report = mine.predict([handle_file(cyan)], True, api_name="/index_files")
        assert f"{len(COLOURS) + 1} images are searchable" in report
        report = mine.predict(str(tmp_path), False, api_name="/index_folder")
        assert "1 image is searchable" in report
        found, _ = Client(url, verbose=False, httpx_kwargs=PATIENT).predict("red", 9, api_name="/search_by_text")
        assert [hit["caption"] for hit in found] == ["cyan.png"]


def test_a_folder_outside_the_roots_is_refused(client):
    with pytest.raises(AppError, match="outside the folders"):
        client.predict("/usr/share", True, api_name="/index_folder")


def test_visitors_of_a_shared_page_do_not_see_each_others_images(shared, tmp_path):
    one, other = (
        Client(shared, verbose=False, httpx_kwargs=PATIENT, download_files=str(tmp_path / name)) for name in "ab"
    )
    Image.new("RGB", (20, 20), (250, 40, 40)).save(tmp_path / "holiday.png")
    one.predict([handle_file(tmp_path / "holiday.png")], False, api_name="/index_files")
    assert [hit["caption"] for hit in one.predict("red", 9, api_name="/search_by_text")[0]] == ["holiday.png"]
    seen = [hit["caption"] for hit in other.predict("red", 20, api_name="/search_by_text")[0]]
    assert len(seen) == len(COLOURS)
    assert "holiday.png" not in seen


def test_model_can_only_be_one_that_is_offered(client):
    with pytest.raises(AppError):
        client.predict("hf:someone/something", api_name="/choose_model")


def status_of(url, path):
    return httpx.get(f"{url}gradio_api/file={path}").status_code


def test_nothing_but_thumbnails_is_served(local, shared, photos, uploads):
    (uploads.parent / "secret.txt").write_text("secret")
    own_files = [search.__file__, photos / "red.png", uploads.parent / "secret.txt", Path.home()]
    system_files = ["/etc/passwd", "/proc/self/environ", Path(os.getcwd(), "pyproject.toml")]
    addresses = ["http://127.0.0.1:1/x.png", "http://169.254.169.254/latest/meta-data"]
    for url in (local, shared):
        for path in [*own_files, *system_files, *addresses]:
            assert status_of(url, path) == 403, path


def test_a_served_thumbnail_is_reachable_and_its_neighbours_are_not(local):
    client = Client(local, verbose=False, httpx_kwargs=PATIENT, download_files=False)
    found, _ = client.predict("red", 1, api_name="/search_by_text")
    path = found[0]["image"]["path"]
    assert status_of(local, path) == 200
    assert status_of(local, Path(path).parent) == 403
    # Encoded, because the HTTP client would tidy the dots away before they are sent.
    assert status_of(local, f"{Path(path).parent}/" + "%2e%2e/" * 8 + "etc/passwd") == 403


def test_originals_are_served_where_they_were_shown_and_nowhere_else(local, shared, photos):
    client = Client(local, verbose=False, httpx_kwargs=PATIENT, download_files=False)
    _, scores = client.predict("red", 1, api_name="/search_by_text")
    row = scores["rows"][0]
    answer = httpx.get(local.rstrip("/") + row["link"])
    assert answer.content == (photos / "red.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for place in ("0" * 32, "..%2f..%2fetc%2fpasswd", "", row["link"].rpartition("/")[2][:-1]):
        assert httpx.get(f"{local}original/{place}").status_code in (404, 405), place
    assert httpx.get(shared.rstrip("/") + row["link"]).status_code == 404


def test_a_file_of_the_server_cannot_be_passed_off_as_an_upload(local, photos):
    forged = {"path": str(photos / "red.png"), "meta": {"_type": "gradio.FileData"}}
    event = httpx.post(f"{local}gradio_api/call/search_by_image", json={"data": [forged, 3]}).json()["event_id"]
    with httpx.stream("GET", f"{local}gradio_api/call/search_by_image/{event}", timeout=20) as stream:
        answer = "".join(stream.iter_text())
    assert "event: error" in answer
    assert "event: complete" not in answer


def test_an_oversize_upload_is_refused(local):
    limit = 20 * 1024 * 1024
    big = {"files": ("big.jpg", b"\xff\xd8\xff" + b"0" * limit, "image/jpeg")}
    assert httpx.post(f"{local}gradio_api/upload", files=big, timeout=60).status_code == 413


def test_upload_names_cannot_leave_their_folder(local, uploads):
    answer = httpx.post(f"{local}gradio_api/upload", files={"files": ("../../evil.png", b"x", "image/png")})
    stored = Path(answer.json()[0]).resolve()
    assert stored.is_relative_to(uploads.resolve())
    assert stored.name == "evil.png"


@pytest.mark.slow
def test_many_clients_at_once_all_get_their_images(local, tmp_path):
    def ask(number):
        mine = Client(local, verbose=False, httpx_kwargs=PATIENT, download_files=str(tmp_path / str(number)))
        answers = []
        for colour in list(COLOURS)[number : number + 3]:
            found, _ = mine.predict(colour, 3, api_name="/search_by_text")
            with Image.open(found[0]["image"]) as image:
                image.load()  # a cut-off download raises
            answers.append(found[0]["caption"] == f"{colour}.png")
        return answers

    with ThreadPoolExecutor(6) as pool:
        assert all(all(answers) for answers in pool.map(ask, range(6)))


def test_telemetry_history_and_monitoring_are_off(local):
    config = httpx.get(f"{local}config").json()
    assert config["analytics_enabled"] is False
    assert httpx.get(f"{local}monitoring").status_code in (403, 404)
    options = serve.page_options(text.build(build_model("text-test")))
    assert options["run_history"] is False
    assert options["enable_monitoring"] is False
    assert options["max_file_size"] == "20mb"
    assert serve.page_options(text.build(build_model("text-test")), local=False)["show_error"] is False
