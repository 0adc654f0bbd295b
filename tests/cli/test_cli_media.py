"""Pages of results with media: players that begin at the moment, documents at their page, texts; nothing that was not to be shown."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.inputs.audio_files import sndfile, tones
from tests.inputs.pdfs import GREEN, Sheet, pdf
from zoo.bulk import embed_dataset
from zoo.cli import _media, main
from zoo.cli._media import Found, Media, told

pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")
RATE = 16_000


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Moments, pages, an image and a text, embedded."""
    stuff, out = tmp_path_factory.mktemp("stuff"), tmp_path_factory.mktemp("vectors") / "out"
    (stuff / "bell & drum.ogg").write_bytes(sndfile(tones(4.0, RATE), RATE, "OGG"))
    (stuff / "old.aiff").write_bytes(sndfile(tones(3.0, RATE), RATE, "AIFF"))
    (stuff / "silent.wav").write_bytes(sndfile(np.zeros(RATE, np.float32), RATE))
    (stuff / "paper.pdf").write_bytes(pdf([Sheet("one"), Sheet("two", GREEN)]))
    (stuff / "note.txt").write_text("<script>a lighthouse</script>")
    Image.new("RGB", (64, 48), (200, 30, 30)).save(stuff / "photo.png")
    model = zoo.build_model("omni-test").eval()
    embed_dataset(model, stuff, out, per="second", seconds=2.0, progress=False)
    model.save_pretrained(out.parent / "model")
    return out


def page_of(vectors: Path, target: Path, *more: str) -> str:
    model = str(vectors.parent / "model")
    assert main(["search", str(vectors), "a bell", "--model", model, "-k", "99", "--html", str(target), *more]) == 0
    return target.read_text()


def figures(page: str) -> dict[str, str]:
    """Each result by its file and its place: "paper.pdf page: 2", "bell.ogg 0:02–0:04", "photo.png"."""
    found = {}
    for one in re.findall(r"<figure>(.*?)</figure>", page, re.S):
        name, rest = re.search(r"</b> (.*?)<br><small>(.*?)</small>", one).groups()
        place = re.search(r"^\d+:\S+|page: \d", rest)
        found[f"{name} {place[0]}" if place else name] = one
    return found


def test_a_page_plays_moments_shows_pages_and_reads_texts(vectors, tmp_path):
    page = page_of(vectors, tmp_path / "found.html")
    shown = figures(page)
    assert 'src="data:audio/ogg;base64,' in (moment := shown["bell &amp; drum.ogg 0:02–0:04"])
    assert moment.count("#t=2,4") == 1
    assert 'src="data:audio/flac;base64,' in shown["old.aiff 0:01–0:03"], "no browser plays AIFF"
    assert "#t=" not in shown["old.aiff 0:01–0:03"], "it is the moment alone"
    assert "This is silence" in shown["silent.wav 0:00–0:01"]
    assert sum("This is silence" in one for one in shown.values()) == 1
    assert re.search(
        r'<a href="file:///[^"]*/paper.pdf#page=2"><img alt="" src="data:image/jpeg', shown["paper.pdf page: 2"]
    )
    assert "&lt;script&gt;a lighthouse" in shown["note.txt"]
    assert "<script" not in page
    assert "<img" in shown["photo.png"]
    policy = re.search(r'content="(default-src[^"]*)"', page)[1]
    assert policy == "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def test_large_media_are_played_from_where_they_lie(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(_media, "SMALL", 1000)
    page = page_of(vectors, tmp_path / "found.html")
    assert re.search(r'src="file:///[^"]*/bell%20%26%20drum.ogg#t=2,4"', page)
    assert "media-src data: file:;" in page


def test_nothing_of_others_is_played(vectors, tmp_path):
    """A folder that came from elsewhere chooses no file of the user's own."""
    import shutil

    strange = tmp_path / "given"
    shutil.copytree(vectors, strange)
    model = str(vectors.parent / "model")
    asked = ["search", str(strange), "a bell", "--model", model, "-k", "99", "--html", str(tmp_path / "found.html")]
    assert main(asked) == 0
    page = (tmp_path / "found.html").read_text()
    assert not re.search(r"<audio|<img|file:|a lighthouse", page)
    assert page.count("was not made here") == page.count("<figure>")


def test_what_no_page_can_hold_is_said(tmp_path, monkeypatch):
    content = sndfile(tones(1.0, RATE), RATE, "FLAC")
    assert "data:audio/flac" in Media().view(lambda: Found(content, content))
    monkeypatch.setattr(_media, "ROOM", 100)
    assert "too large for this page" in Media().view(lambda: Found(content, content))
    assert "table that held" in Media().view(lambda: Found(None, None))
    (tmp_path / "gone.wav").write_bytes(b"RIFF\x10\0\0\0WAVEjunk")
    assert "gone" in Media().view(lambda: Found(tmp_path / "gone.wav", tmp_path / "gone.wav"))


def test_moments_are_told_as_clocks_do():
    assert told((0.0, 5.0)) == "0:00–0:05"
    assert told((64.5, 3725.0)) == "1:04.5–1:02:05"
    assert told(None) == ""
