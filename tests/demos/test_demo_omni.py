"""The page of recordings, clips, images and documents: what it answers, and what a visitor does in a real browser."""

import io
import math
import re
import shutil
import wave
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.demos.demo_support import COLOURS, ColourImages, colour_model, colour_photos, running
from zoo.embedder import Embedder, Tower
from zoo.heads import Identity
from zoo.inputs.audio import load_audio
from zoo.inputs.document import load_pages
from zoo.inputs.item import Item
from zoo.inputs.kinds import kind_of
from zoo.inputs.video import load_video
from zoo.pooling import Cls
from zoo.spec import Calibration

gr = pytest.importorskip("gradio")

from zoo.demos import omni  # noqa: E402
from zoo.demos.asked import ask, input_of, kinds_of  # noqa: E402
from zoo.demos.gallery import GalleryFile, embed_files  # noqa: E402
from zoo.demos.made import made_media  # noqa: E402
from zoo.demos.media import MediaSearch  # noqa: E402
from zoo.demos.moments import Moments  # noqa: E402
from zoo.demos.papers import PAPERS, Sheet, written  # noqa: E402
from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium  # noqa: E402
from zoo.demos.stored import sample_gallery  # noqa: E402
from zoo.demos.visitors import Visitors, visitors_way  # noqa: E402

from tests.demos.browser_support import (  # noqa: E402
    browser,  # noqa: F401
    colour_shown,
    expect,
    holds,
    is_colour,
    needs_chromium,
    window_of,
)

pytestmark = pytest.mark.usefixtures("cache_home")  # where clips and vectors of what comes with the page are kept
PATIENT = {"timeout": 60_000}  # milliseconds: each step embeds something, on a machine that may be busy
TONES = {name: 200.0 * 2**place for place, name in enumerate(("red", "green", "blue", "yellow"))}  # Hz


class ColourClips(ColourImages):
    """The colours of a clip's middle frame."""

    modalities = frozenset({"video"})

    def prepare_item(self, item: Item) -> torch.Tensor:
        return super().prepare_item(Item(image=load_video(item.video, frames=3).frames[1]))


class ColourTones(ColourImages):
    """A tone's colour, by its pitch."""

    modalities = frozenset({"audio"})
    rate = 8000

    def prepare_item(self, item: Item) -> torch.Tensor:
        samples = load_audio(item.audio, rate=self.rate).samples
        peak = np.abs(np.fft.rfft(samples)).argmax() * self.rate / len(samples)
        name = min(TONES, key=lambda name: abs(math.log(max(peak, 1) / TONES[name])))
        return torch.tensor([*(float(name == one) for one in COLOURS), 0.05])


def model_of(*encoders: type) -> Embedder:
    """The colour model with towers for clips and tones beside."""
    base = colour_model()
    towers = [*base.towers, *(Tower(encoder(), Cls(), Identity()) for encoder in encoders)]
    reads = frozenset().union(*(encoder.modalities for encoder in encoders))
    return Embedder(replace(base.spec, modalities=base.spec.modalities | reads), towers)


def only(model: Embedder, kind: str) -> Embedder:
    """The model with its tower of one kind alone."""
    towers = [tower for tower in model.towers if tower.encoder.modalities == {kind}]
    return Embedder(replace(model.spec, modalities=frozenset({kind})), towers)


def tone(path: Path, *names: str, seconds: float = 0.5) -> Path:
    """A WAV of one tone after the other; of none, of silence."""
    times = np.arange(int(seconds * 16_000)) / 16_000
    samples = np.concatenate([np.sin(2 * math.pi * TONES.get(name, 0) * times) for name in names or ("silence",)])
    with wave.open(str(path), "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(16_000)
        audio.writeframes((samples * 20_000).astype(np.int16).tobytes())
    return path


def clip(path: Path, *names: str) -> Path:
    """An MP4 of colours, half a second each."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for name in names:
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), COLOURS[name], np.uint8), format="rgb24")
            for _ in range(4):
                frame.pts = None
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path.write_bytes(file.getvalue())
    return path


@pytest.fixture(scope="module")
def model() -> Embedder:
    return model_of(ColourClips, ColourTones)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """A photo, a clip and a tone of each colour."""
    folder = tmp_path_factory.mktemp("files")
    photos = colour_photos(folder / "photos")
    some = [photos / f"{name}.png" for name in ("red", "blue")]
    return [
        *some,
        *(
            made(folder / f"{name}.{kind}", name)
            for made, kind in ((clip, "mp4"), (tone, "wav"))
            for name in ("red", "blue")
        ),
    ]


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> dict[str, Path]:
    """A file of each kind that has parts, whose last is blue."""
    folder = tmp_path_factory.mktemp("long")
    pages = [Image.new("RGB", (80, 100), COLOURS[name]) for name in ("red", "green", "blue")]
    pages[0].save(folder / "pages.pdf", save_all=True, append_images=pages[1:])
    return {
        "video": clip(folder / "scenes.mp4", "red", "red", "green", "blue"),
        "audio": tone(folder / "tones.wav", "red", "green", "blue", seconds=1.5),
        "document": folder / "pages.pdf",
    }


@pytest.fixture(scope="module")
def search(model, files, tmp_path_factory) -> MediaSearch:
    images = [GalleryFile(path, path.name) for path in files]
    start = embed_files(model, images, read=lambda path: input_of(model, path))
    return MediaSearch(model, start, Visitors(local=True), tmp_path_factory.mktemp("page"))


def labels(found) -> list[str]:
    return [row["label"] for row in found["rows"]]


def words(search, text, *how, files=(), **more):
    return search.search({"text": text, "files": list(files)}, *how, **more)[0]


def test_words_find_every_kind(search):
    found = words(search, "blue", top_k=3)
    assert set(labels(found)) == {"blue.png", "blue.mp4", "blue.wav"}
    assert {row["kind"] for row in found["rows"]} == {"image", "video", "audio"}
    assert found["title"] == "Most like “blue”"
    assert labels(words(search, "red", "audio", 1)) == ["red.wav"]


@pytest.mark.parametrize(
    ("kind", "said"), [("png", "an image"), ("mp4", "a video of 0.5 s"), ("wav", "a recording of 0.5 s")]
)
def test_a_file_finds_what_is_like_it_in_every_kind_and_is_told_back(search, files, kind, said):
    query = next(path for path in files if path.name == f"red.{kind}")
    found, asked = search.search({"text": "", "files": [str(query)]}, "all", 3)
    assert set(labels(found)) == {"red.png", "red.mp4", "red.wav"}
    assert found["title"] == f"You asked with {said}"
    both = words(search, "red", "all", 1, files=[str(query)])
    assert (both["title"], labels(both)[0][:3]) == (f"You asked with {said} and “red”", "red")
    assert labels(search.again("video", 1, None, asked)[0]) == ["red.mp4"], "the same question, of another kind"
    assert asked.over.is_set()
    assert search.again("video")[0] == search.browse(kind="video")


def test_more_like_one_of_the_results(search):
    first = search.browse(kind="audio")["rows"].index(
        next(row for row in search.browse(kind="audio")["rows"] if row["label"] == "blue.wav")
    )
    found, asked = search.like(first, "audio")
    assert found["title"] == "You asked with “blue.wav”"
    assert set(labels(found)[:3]) == {"blue.png", "blue.mp4", "blue.wav"}
    again, _ = search.like(labels(found).index("red.mp4"), "all", 8, None, asked)
    assert set(labels(again)[:3]) == {"red.png", "red.mp4", "red.wav"}
    assert asked.over.is_set()
    for number in (-1, 6, "0", 1.5):
        with pytest.raises(gr.Error, match="not shown any more"):
            search.like(number)


def test_what_is_missing_is_said(search, files, tmp_path):
    for call in (lambda: words(search, "  "), lambda: search.search(None), lambda: search.add([])):
        with pytest.raises(gr.Error, match=r"first"):
            call()
    with pytest.raises(gr.Error, match="There are no PDFs among the files"):
        words(search, "red", "document")
    with pytest.raises(gr.Error, match="several files"):
        search.search({"text": "", "files": [str(path) for path in files[:2]]})
    hears = MediaSearch(only(search.model, "audio"), None, search.visitors, tmp_path)
    with pytest.raises(gr.Error, match=r"reads no text\. Ask with a file, of recordings"):
        words(hears, "red")
    with pytest.raises(gr.Error, match="Add a file first, of recordings"):
        words(hears, "")
    nothing = MediaSearch(search.model, None, search.visitors, tmp_path)
    assert nothing.browse()["title"] == "Nothing here yet"
    with pytest.raises(gr.Error, match="nothing to search yet"):
        words(nothing, "red")
    text = tmp_path / "a.wav"
    text.write_text("no audio")
    with pytest.raises(gr.Error, match="not"):
        search.search({"text": "", "files": [str(text)]})


def test_a_silent_recording_is_refused(search, tmp_path):
    with pytest.raises(gr.Error, match="silence"):
        search.search({"text": "", "files": [str(tone(tmp_path / "silence.wav"))]})


def test_kinds_are_compared_by_what_was_measured_and_what_does_not_fit_is_said(search, files, tmp_path):
    assert "nobody has measured" in words(search, "red")["note"]
    low, high = Calibration(0.0, 1.0, 0.5), Calibration(0.9, 0.01, 0.95)
    try:
        search.model.calibration.update({"text>image": high, "text>video": low, "text>audio": low})
        found = words(search, "red", top_k=9)
        assert "calibrated" in found["note"]
        assert found["rows"][0]["kind"] == "image", "far above its wrong answers"
        assert found["rows"][-1]["kind"] == "image", "far below them"
        assert {row["label"] for row in found["rows"] if row.get("weak")} == {"blue.png", "blue.mp4", "blue.wav"}
        nothing = words(search, "purple", top_k=9)
        assert "nothing clearly fits" in nothing["title"]
        assert all(row["weak"] for row in nothing["rows"])
    finally:
        search.model.calibration.clear()
    alone = MediaSearch(search.model, None, search.visitors, tmp_path)
    own, _ = alone.add([str(files[-1]), str(files[-2])])
    assert "All that is here are recordings" in words(alone, "red", own=own)["note"]


def test_the_moment_or_page_that_fits_is_found_and_shown(search, long, model, tmp_path):
    looked = Moments(model, lambda path: tmp_path)
    blue, red = ask(model, "blue", None), ask(model, "red", None)
    for kind, begins in (("video", 1.5), ("audio", 3.0)):
        image = GalleryFile(long[kind], kind)
        assert looked.of(image, blue)["start"] >= begins, kind
        assert looked.of(image, red)["start"] < begins, kind
    pages = looked.of(GalleryFile(long["document"], "pages"), blue)
    assert (pages["page"], pages["pages"], len(pages["parts"]), pages["parts"][2]) == (3, 3, 3, 1.0)
    for moment in (pages, looked.of(GalleryFile(long["video"], "video"), blue)):
        with Image.open(moment["image"]) as shown:
            assert is_colour(shown.convert("RGB").resize((1, 1)).getpixel((0, 0)), "blue")


def test_moments_are_bounded_kept_and_follow_the_results(search, long, model, tmp_path, monkeypatch):
    calls = []
    embed = type(model).encode_track
    monkeypatch.setattr(type(model), "encode_track", lambda *given, **more: calls.append(1) or embed(*given, **more))
    own, _ = search.add([str(path) for path in long.values()], keep=False)
    _, asked = search.search({"text": "blue"}, "all", 8, own)
    told = list(search.explained("all", 8, own, asked))
    assert [len([row for row in one["rows"] if "moment" in row]) for one in told] == [0, 1, 2, 3, 3]
    assert [one["late"] for one in told] == [True] * 4 + ["all"]
    assert {row["kind"] for row in told[-1]["rows"] if "image" in row["moment"]} == {"video", "document"}
    before = len(calls)
    list(search.explained("all", 8, own, asked))
    assert len(calls) == before == 2, "a file is looked through once"
    monkeypatch.setattr("zoo.demos.moments.PATIENCE", -1.0)
    fresh = Moments(model, lambda path: tmp_path)
    assert fresh.of(GalleryFile(long["video"], ""), asked, 0.0) is None, "no time is left"
    assert list(search.explained()) == [{"late": True}]
    _, later = search.search({"text": "red"}, "all", 8, own, asked)
    assert len(list(search.explained("all", 8, own, asked))) == 1, "something else was asked meanwhile"
    assert not later.over.is_set()


def test_what_is_made_of_an_upload_goes_with_its_visitor(model, long, tmp_path):
    visitors = Visitors(local=False)
    page, token = MediaSearch(model, None, visitors, tmp_path), "0123456789abcdef" * 2
    folder = visitors.folder(token)
    own, _ = page.add([str(shutil.copy(long[kind], folder)) for kind in ("video", "document")])
    _, asked = page.search({"text": "blue"}, "all", 8, own)
    rows = list(page.explained("all", 8, own, asked))[-1]["rows"]
    for row in rows:
        assert all(str(folder) in address for address in (row["file"], row["moment"]["image"])), row["label"]
        assert "link" not in row
    with visitors.present(visitors.name(token)):
        pass
    assert not folder.exists()
    assert page.browse(own)["rows"][0]["kind"] == "", "what is gone is told, and breaks nothing"


def test_good_files_are_added_and_bad_ones_named(search, tmp_path):
    broken, empty = tmp_path / "broken.wav", tmp_path / "empty.mp4"
    broken.write_bytes(tone(tmp_path / "whole.wav", "green").read_bytes()[:30])
    empty.write_bytes(b"")
    own, said = search.add([str(tone(tmp_path / "green.wav", "green")), str(broken), str(empty)])
    assert "1 of 3 files were added (1 recording); 7 are there now" in said
    assert "broken.wav" in said
    assert "empty.mp4" in said
    assert labels(words(search, "green", top_k=1, own=own)) == ["green.wav"]
    assert len(search.browse()["rows"]) == 6, "nobody else sees it"
    alone, _ = search.add([str(tmp_path / "green.wav")], keep=False)
    assert len(alone) == 1
    with pytest.raises(gr.Error, match="None of the 1 files could be embedded"):
        search.add([str(broken)])


def test_a_model_is_given_what_it_reads_of_a_file(model, files):
    hears, watches = only(model, "audio"), only(model, "video")
    video = next(path for path in files if path.suffix == ".mp4")
    assert kinds_of(hears) == ["audio"]
    assert input_of(hears, video).modalities == {"audio"}, "its audio track"
    assert input_of(watches, video).modalities == {"video"}
    with pytest.raises(ValueError, match="one of the recordings"):
        input_of(watches, next(path for path in files if path.suffix == ".wav"))


def test_what_is_there_at_first_comes_with_the_zoo_or_is_made_by_program(tmp_path):
    made = made_media({"audio", "video", "document"}, tmp_path)
    kinds = Counter(kind_of(one.path) for one in made)
    assert kinds == {"audio": 13, "video": 12, "document": 4}
    assert all(one.path.is_relative_to(tmp_path) for one in made), "the page serves nothing else"
    (tmp_path / "again").mkdir()
    again = made_media({"audio", "video", "document"}, tmp_path / "again")
    assert [one.path.read_bytes() for one in again] == [one.path.read_bytes() for one in made]
    clips = [one.path for one in made if one.path.suffix == ".mp4"]
    assert load_video(clips[4], frames=48).total == 48, "three scenes"
    assert len(made_media({"audio"}, tmp_path)) == 13


def test_pdfs_made_by_program_have_a_text_layer_and_images(tmp_path):
    red = tmp_path / "red.png"
    Image.new("RGB", (60, 40), COLOURS["red"]).save(red)
    content = written([Sheet("A (red) thing", "One line.", "red.png"), Sheet("Nothing", "No image.")], {"red.png": red})
    first, second = load_pages(content, max_side=400)
    assert first.text.split() == ["A", "(red)", "thing", "One", "line."]
    assert "No image." in second.text
    assert any(is_colour(tuple(pixel), "red") for pixel in first.pixels[200])
    assert not any(is_colour(tuple(pixel), "red") for pixel in second.pixels[200])
    assert all(sheet.text.isascii() and sheet.title.isascii() for sheets in PAPERS.values() for sheet in sheets)


def test_what_comes_with_the_page_is_embedded_at_the_first_start_alone(model, files, monkeypatch):
    images = [GalleryFile(path, path.name) for path in files]
    read = lambda path: input_of(model, path)  # noqa: E731
    first = sample_gallery(model, images, read)
    assert first.embedded == 6
    again = sample_gallery(model, images, read)
    assert again.embedded == 0
    torch.testing.assert_close(again.vectors, first.vectors)
    assert sample_gallery(model, images[:3], read).embedded == 3, "of other files"
    assert sample_gallery(colour_model("others"), images[:2]).embedded == 2, "of another model"
    assert sample_gallery(colour_model("others"), images[:2]).embedded == 0
    monkeypatch.setattr("zoo.demos.stored._cache", lambda: files[0])  # no folder: nothing can be kept
    assert len(sample_gallery(model, images, read)) == 6


@needs_chromium
@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_a_visitor_searches_plays_and_adds(model, files, long, tmp_path, browser, width):  # noqa: F811
    hostile = tone(tmp_path / "<img src=x onerror=alert(1)>.wav", "yellow")
    start = [GalleryFile(path, path.name) for path in files if path.suffix == ".png"]
    with running(omni.build(model, start)) as url:
        page = window_of(browser, width).new_page()
        page.goto(url)
        expect(page.locator("#found li")).to_have_count(2 + 13 + 12 + 4, **PATIENT)
        page.wait_for_function("document.querySelector('#found img').naturalWidth > 0")
        assert page.locator("#found li").nth(3).locator("img").count() == 1, "a page of a PDF"
        holds(page, "omni-first", page.locator("#title"))

        page.locator("#ask textarea").fill("red")
        page.get_by_role("button", name="Submit").click()
        expect(page.locator("#found .head")).to_contain_text("Most like “red”", **PATIENT)
        expect(page.locator("#found li .name").first).to_have_text("red.png", **PATIENT)
        # A file is looked for when it is there, though the words of before still stand in the box.
        page.locator("#ask input[type=file]").set_input_files(str(next(p for p in files if p.name == "blue.wav")))
        expect(page.locator("#found .head")).to_contain_text("You asked with a recording of 0.5 s", **PATIENT)
        expect(page.locator("#found li", has_text="blue.png")).to_be_visible(**PATIENT)
        expect(page.locator("#ask textarea")).to_have_value("")

        page.get_by_text("of your own").click()
        page.locator("#add input[type=file]").set_input_files([str(hostile), *map(str, long.values())])
        page.get_by_label("Keep what is there now").uncheck()
        page.get_by_role("button", name="Add them").click()
        expect(page.locator("#report")).to_contain_text("4 of 4 files were added", **PATIENT)
        expect(page.locator("#found li")).to_have_count(4, **PATIENT)
        page.locator("#ask textarea").fill("blue")
        page.locator("#ask textarea").press("Enter")
        video, pdf, heard = (
            page.locator("#found li", has_text=long[kind].name) for kind in ("video", "document", "audio")
        )
        # What fits best follows, and the players begin there.
        expect(pdf.locator(".why")).to_contain_text("page 3 of 3", **PATIENT)
        expect(pdf.locator("a")).to_have_attribute("href", re.compile(r"pages\.pdf#page=3$"))
        expect(video.locator("video")).to_have_attribute("src", re.compile(r"#t=1\.\d+$"), **PATIENT)
        expect(heard.locator("audio")).to_have_attribute("src", re.compile(r"#t=3(\.5)?$"), **PATIENT)
        assert is_colour(colour_shown(page, pdf.locator("img")), "blue")
        assert page.locator("#found img[src=x]").count() == 0, "a file's name is no HTML"
        player = heard.locator("audio")
        player.evaluate("(one) => one.addEventListener('playing', () => { one.dataset.from = one.currentTime; })")
        heard.get_by_role("button", name="Play from 0:03").click()
        expect(player).to_have_attribute("data-from", re.compile(r"^[34]"))
        assert player.evaluate("(one) => one.duration") == pytest.approx(4.5, abs=0.05)
        video.scroll_into_view_if_needed()
        holds(page, "omni-found", video)
        video.get_by_role("button", name="More like this").click()
        expect(page.locator("#found .head")).to_contain_text("You asked with “scenes.mp4”", **PATIENT)
        # Whose the samples are stands below as long as the page opens with them.
        expect(page.locator("#sources")).to_contain_text("Where the sample images and recordings come from")


@pytest.mark.parametrize("local", [True, False])
def test_heic_of_visitors_is_decoded_as_on_every_page(model, search, tmp_path, monkeypatch, local):
    phone = tmp_path / "phone.heic"
    phone.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    made = MediaSearch(model, search.start, search.visitors, tmp_path, visitors_way(local=local, heif=False))
    decoded = []
    monkeypatch.setattr("zoo.inputs.image.open_image", lambda *given: decoded.append(given) or 1 / 0)
    monkeypatch.setattr("zoo.inputs.image.largest_size", lambda data: (8, 8))
    for call in (lambda: made.search({"text": "", "files": [str(phone)]}), lambda: made.add([str(phone)])):
        with pytest.raises(gr.Error):
            call()
    assert bool(decoded) == local, "no decoder of this process sees what others send"


@needs_chromium
@pytest.mark.slow
def test_a_recording_is_looked_for_at_once(model, browser):  # noqa: F811
    flags = [*CHROMIUM_FLAGS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with running(omni.build(model)) as url:
        heard = browser.browser_type.launch(executable_path=find_chromium(), args=flags)  # it beeps
        page = heard.new_context(permissions=["microphone"]).new_page()
        page.goto(url)
        expect(page.locator("#found .head")).to_have_text("Nothing asked yet", **PATIENT)
        page.get_by_role("button", name="Record audio").click()
        page.get_by_role("button", name="Start recording").click()
        # What is recorded has a length: the device beeps once a second.
        page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 1500))")
        page.get_by_role("button", name="Stop recording").click()
        expect(page.locator("#found .head")).to_contain_text("You asked with a recording of", **PATIENT)
        heard.close()
