"""Folders of one's own on the page of recordings, clips, images and documents: every kind, what is kept, refused and served."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio")

import gradio as gr
import httpx
from gradio_client import Client
from zoo.demos import omni, serve
from zoo.demos.asked import input_of
from zoo.demos.media import MediaSearch
from zoo.demos.visitors import Visitors

from tests.demos.demo_support import COLOURS, PATIENT, running
from tests.demos.test_demo_omni import ColourClips, ColourTones, clip, labels, model_of, tone, words
from zoo.embedder import Embedder
from zoo.errors import ZooError
from zoo.registry import build_model

pytestmark = pytest.mark.usefixtures("cache_home")  # where vectors of folders are kept


@pytest.fixture(scope="module")
def model() -> Embedder:
    return model_of(ColourClips, ColourTones)


@pytest.fixture
def stuff(tmp_path) -> Path:
    """A folder of every kind, with what cannot be read, and links that lead out of it."""
    folder, outside = tmp_path / "stuff", tmp_path / "outside"
    for one in (folder / "deep", outside):
        one.mkdir(parents=True)
    Image.new("RGB", (32, 24), COLOURS["red"]).save(folder / "red.png")
    Image.new("RGB", (32, 24), COLOURS["blue"]).save(folder / "deep" / "blue.pdf")
    Image.new("RGB", (32, 24), COLOURS["green"]).save(outside / "secret.png")
    clip(folder / "red.mp4", "red")
    tone(folder / "blue.wav", "blue")
    shutil.copy(tone(outside / "yellow.wav", "yellow"), folder / "called.jpg")  # by what it holds, not by its name
    (folder / "broken.mp4").write_bytes((folder / "red.mp4").read_bytes()[:200])
    (folder / "notes.txt").write_text("nothing that the page shows")
    (folder / "stray.png").symlink_to(outside / "secret.png")
    (folder / "away").symlink_to(outside)
    return folder


def page_of(model, tmp_path, *, local=True, start=None) -> MediaSearch:
    return MediaSearch(model, start, Visitors(local=local), tmp_path / "page", roots=[tmp_path])


def test_a_folder_of_every_kind_is_added_and_bad_files_are_named(model, stuff, tmp_path):
    search, steps = page_of(model, tmp_path), []
    told = lambda step, unit: steps.append(step)  # noqa: E731
    own, said = search.add_folder(str(stuff), True, None, told)
    assert "5 of 7 files were added (1 image, 1 video, 2 recordings, 1 PDF); 5 are there now." in said
    assert "`broken.mp4`: That video is damaged" in said
    assert "`stray.png`: The link leads out of the folder." in said
    assert steps[-1][0] == steps[-1][1] > 0
    assert {image.caption for image in own.files} == {
        "red.png",
        "deep/blue.pdf",
        "red.mp4",
        "blue.wav",
        "called.jpg",
    }
    assert set(labels(words(search, "blue", top_k=2, own=own))) == {"deep/blue.pdf", "blue.wav"}
    assert labels(words(search, "yellow", "audio", 1, own=own)) == ["called.jpg"]


def test_the_next_time_nothing_is_embedded_again(model, stuff, tmp_path, monkeypatch):
    search = page_of(model, tmp_path)
    search.add_folder(str(stuff))
    monkeypatch.setattr(ColourTones, "prepare_item", lambda *_: pytest.fail("embedded again"))
    monkeypatch.setattr(ColourClips, "prepare_item", lambda *_: pytest.fail("embedded again"))
    own, said = search.add_folder(str(stuff))
    assert "5 of 7" in said
    assert len(own) == 5


def test_a_folder_that_was_embedded_before_opens_with_its_vectors(model, stuff, tmp_path):
    from zoo.bulk import embed_dataset

    stored = build_model("omni-test").eval()
    embed_dataset(stored, stuff, tmp_path / "vectors", max_bad=None, progress=False)
    search = page_of(stored, tmp_path)
    own, said = search.add_folder(str(tmp_path / "vectors"))
    assert "5 of 6 files were added (1 image, 1 video, 2 recordings, 1 PDF)" in said
    assert "`notes.txt`: The page shows no text." in said
    for image, vector in zip(own.files, own.vectors, strict=True):
        assert float(vector @ stored.encode_document(input_of(stored, image.path), progress=False)) > 0.999
    with pytest.raises(gr.Error, match="were made differently"):
        page_of(model, tmp_path).add_folder(str(tmp_path / "vectors"))


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("", "Type the path"),
        ("/etc", "outside the folders"),
        ("{}/gone", "There is no folder"),
        ("{}", "No files found"),
    ],
)
def test_what_is_no_folder_to_add_is_said(model, tmp_path, folder, said):
    with pytest.raises(gr.Error, match=said):
        page_of(model, tmp_path).add_folder(folder.format(tmp_path))


def test_a_link_out_of_the_roots_is_no_way_out(model, stuff, tmp_path):
    search = MediaSearch(model, None, Visitors(local=True), tmp_path / "page", roots=[stuff])
    with pytest.raises(gr.Error, match="outside the folders"):
        search.add_folder(str(stuff / "away"))


def sent(url: str, files: list) -> str:
    """What the page answers to a search that no browser sent."""
    data = {"data": [{"text": "red" if not files else "", "files": files}, "all", 1]}
    event = httpx.post(f"{url}gradio_api/call/search", json=data).json()["event_id"]
    with httpx.stream("GET", f"{url}gradio_api/call/search/{event}", timeout=60) as stream:
        return "".join(stream.iter_text())


def test_a_shared_page_opens_no_folder_and_serves_what_it_shows_alone(model, stuff, tmp_path):
    shared = page_of(model, tmp_path, local=False)
    with pytest.raises(gr.Error, match="cannot be indexed on a shared page"):
        shared.add_folder(str(stuff))
    gallery = serve.gallery_of(model, [stuff], samples=False, kinds=["image", "video", "audio", "document"])
    page = omni.build(model, gallery, local=False, samples=False, roots=[tmp_path])
    with running(page, local=False) as url:
        client = Client(url, verbose=False, httpx_kwargs=PATIENT, download_files=False)
        names = {one["api_name"] for one in client.config["dependencies"]}
        assert "search" in names
        assert "add_folder" not in names
        found = client.predict({"text": "blue", "files": []}, "audio", 1, api_name="/search")
        row = found["rows"][0]
        assert row["label"] == "blue.wav"
        answer = httpx.get(url.rstrip("/") + row["file"])
        assert answer.content == (stuff / "blue.wav").read_bytes()
        assert answer.headers["content-type"] in ("audio/x-wav", "audio/wav")
        ranged = httpx.get(url.rstrip("/") + row["file"], headers={"Range": "bytes=10-19"})
        assert (ranged.status_code, len(ranged.content)) == (206, 10), "a player may begin anywhere"
        assert "link" not in client.predict({"text": "red", "files": []}, "image", 1, api_name="/search")["rows"][0]
        assert "event: complete" in sent(url, [])
        for forged in (str(stuff / "blue.wav"), "http://127.0.0.1:9/a.wav"):  # of this machine, and to be fetched
            answer = sent(url, [{"path": forged, "meta": {"_type": "gradio.FileData"}}])
            assert "event: error" in answer, forged
            assert "event: complete" not in answer, forged
        for path in (stuff / "blue.wav", stuff / "notes.txt", tmp_path / "outside" / "secret.png"):
            assert httpx.get(f"{url}gradio_api/file={path}").status_code == 403


def test_a_local_page_links_to_what_it_shows(model, stuff, tmp_path):
    search = page_of(model, tmp_path)
    own, _ = search.add_folder(str(stuff))
    rows = {row["label"]: row for row in search.browse(own)["rows"]}
    assert rows["red.png"]["file"].startswith("gradio_api/file=")
    assert all(rows[name][key].startswith("/original/") for name, key in (("red.png", "link"), ("red.mp4", "file")))
    assert len(search.originals._paths) == 5


def test_the_command_opens_folders_of_every_kind(stuff, tmp_path, capsys):
    stored = tmp_path / "model"
    build_model("omni-test").save_pretrained(stored)
    page = serve.launch(stored, stuff, samples=False, block=False)
    try:
        rows = Client(page.local_url, verbose=False, httpx_kwargs=PATIENT).predict(
            {"text": "blue", "files": []}, "all", 40, api_name="/search"
        )["rows"]
        assert {row["label"] for row in rows} == {"red.png", "deep/blue.pdf", "red.mp4", "blue.wav", "called.jpg"}
        assert "left out: broken.mp4" in capsys.readouterr().err
    finally:
        page.close(verbose=False)
    with pytest.raises(ZooError, match="No files found"):
        (tmp_path / "empty").mkdir()
        serve.launch(stored, tmp_path / "empty", block=False)
