"""The page of recordings, clips, images and documents: what it answers, and what a visitor does in a real browser."""

import io
import math
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.demos.demo_support import COLOURS, ColourPictures, colour_model, colour_photos, running
from zoo.embedder import Embedder, Tower
from zoo.heads import Identity
from zoo.inputs.audio import load_audio
from zoo.inputs.item import Item
from zoo.inputs.video import load_video
from zoo.pooling import Cls
from zoo.registry import build_model

gr = pytest.importorskip("gradio")

from zoo.demos import omni  # noqa: E402
from zoo.demos.gallery import Picture, embed_pictures  # noqa: E402
from zoo.demos.made import made_media  # noqa: E402
from zoo.demos.media import MediaSearch, input_of, kinds_of  # noqa: E402
from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium  # noqa: E402
from zoo.demos.visitors import Visitors, visitors_way  # noqa: E402

from tests.demos.browser_support import browser, expect, holds, needs_chromium, window_of  # noqa: E402, F401

PATIENT = {"timeout": 60_000}  # milliseconds: each step embeds something, on a machine that may be busy
TONES = {name: 200.0 * 2**place for place, name in enumerate(("red", "green", "blue", "yellow"))}  # Hz


class ColourClips(ColourPictures):
    """The colours of a clip's middle frame."""

    reads = frozenset({"video"})

    def read(self, item: Item) -> torch.Tensor:
        return super().read(Item(image=load_video(item.video, frames=3).frames[1]))


class ColourTones(ColourPictures):
    """A tone's colour, by its pitch."""

    reads = frozenset({"audio"})

    def read(self, item: Item) -> torch.Tensor:
        samples = load_audio(item.audio, rate=8000).samples
        peak = np.abs(np.fft.rfft(samples)).argmax() * 8000 / len(samples)
        name = min(TONES, key=lambda name: abs(math.log(max(peak, 1) / TONES[name])))
        return torch.tensor([*(float(name == one) for one in COLOURS), 0.05])


def model_of(*encoders: type) -> Embedder:
    """The colour model with towers for clips and tones beside."""
    base = colour_model()
    towers = [*base.towers, *(Tower(encoder(), Cls(), Identity()) for encoder in encoders)]
    reads = frozenset().union(*(encoder.reads for encoder in encoders))
    return Embedder(replace(base.spec, modalities=base.spec.modalities | reads), towers)


def tone(path: Path, name: str) -> Path:
    """A WAV of half a second."""
    samples = np.sin(2 * math.pi * TONES[name] * np.arange(8000) / 16_000)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes((samples * 20_000).astype(np.int16).tobytes())
    return path


def clip(path: Path, name: str) -> Path:
    """An MP4 of one colour."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
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
def search(model, files, tmp_path_factory) -> MediaSearch:
    pictures = [Picture(path, path.name) for path in files]
    start = embed_pictures(model, pictures, read=lambda path: input_of(model, path))
    return MediaSearch(model, start, Visitors(local=True), tmp_path_factory.mktemp("page"))


def labels(found) -> list[str]:
    return [row["label"] for row in found["rows"]]


def test_words_find_every_kind(search):
    found = search.by_text("blue", top_k=3)
    assert set(labels(found)) == {"blue.png", "blue.mp4", "blue.wav"}
    assert {row["kind"] for row in found["rows"]} == {"image", "video", "audio"}
    assert labels(search.by_text("red", kind="audio", top_k=1)) == ["red.wav"]


@pytest.mark.parametrize("kind", ["png", "mp4", "wav"])
def test_a_file_finds_what_is_like_it_in_every_kind(search, files, kind):
    query = next(path for path in files if path.name == f"red.{kind}")
    found = search.by_file(str(query), top_k=3)
    assert set(labels(found)) == {"red.png", "red.mp4", "red.wav"}


def test_what_is_missing_is_said(search, tmp_path):
    for call in (lambda: search.by_text("  "), lambda: search.by_file(None), lambda: search.add([])):
        with pytest.raises(gr.Error, match=r"first"):
            call()
    with pytest.raises(gr.Error, match="There are no PDFs among the files"):
        search.by_text("red", kind="document")
    nothing = MediaSearch(search.model, None, search.visitors, tmp_path)
    assert nothing.browse()["title"] == "Nothing here yet"
    with pytest.raises(gr.Error, match="nothing to search yet"):
        nothing.by_text("red")
    text = tmp_path / "a.wav"
    text.write_text("no sound")
    with pytest.raises(gr.Error, match="not"):
        search.by_file(str(text))


def test_good_files_are_added_and_bad_ones_named(search, tmp_path):
    broken, empty = tmp_path / "broken.wav", tmp_path / "empty.mp4"
    broken.write_bytes(tone(tmp_path / "whole.wav", "green").read_bytes()[:30])
    empty.write_bytes(b"")
    own, said = search.add([str(tone(tmp_path / "green.wav", "green")), str(broken), str(empty)])
    assert "1 of 3 files were added; 7 are there now" in said
    assert "broken.wav" in said
    assert "empty.mp4" in said
    assert labels(search.by_text("green", top_k=1, own=own)) == ["green.wav"]
    assert len(search.browse()["rows"]) == 6, "nobody else sees it"
    alone, _ = search.add([str(tmp_path / "green.wav")], keep=False)
    assert len(alone) == 1
    with pytest.raises(gr.Error, match="None of the 1 files could be embedded"):
        search.add([str(broken)])


def test_a_model_is_given_what_it_reads_of_a_file(files):
    hears, watches = build_model("clap-test"), build_model("xclip-test")
    video = next(path for path in files if path.suffix == ".mp4")
    assert kinds_of(hears) == ["video", "audio"] or kinds_of(hears) == ["audio"]
    assert input_of(hears, video).modalities == {"audio"}, "its sound track"
    assert input_of(watches, video).modalities == {"video"}
    with pytest.raises(ValueError, match="one of the recordings"):
        input_of(watches, next(path for path in files if path.suffix == ".wav"))


def test_what_is_there_at_first_is_made_by_program(tmp_path):
    made = made_media({"audio", "video"}, tmp_path)
    kinds = [one.path.suffix for one in made]
    assert kinds.count(".wav") == 6
    assert kinds.count(".mp4") == 3
    again = made_media({"audio"}, tmp_path / "again") if (tmp_path / "again").mkdir() is None else []
    assert [one.path.read_bytes() for one in again] == [
        one.path.read_bytes() for one in made if one.path.suffix == ".wav"
    ]
    assert load_video(made[-1].path, frames=16).frames.shape[0] == 16


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_a_visitor_searches_plays_and_adds(model, files, tmp_path, browser, width):  # noqa: F811
    hostile = tone(tmp_path / "<img src=x onerror=alert(1)>.wav", "yellow")
    photos = [Picture(path, path.name) for path in files if path.suffix == ".png"]
    with running(omni.build(model, photos)) as url:
        page = window_of(browser, width).new_page()
        page.goto(url)
        expect(page.locator("#found li")).to_have_count(2 + 6 + 3, **PATIENT)
        shown = page.locator("#found img").first
        shown.scroll_into_view_if_needed()
        page.wait_for_function("document.querySelector('#found img').naturalWidth > 0")
        page.locator("#title").scroll_into_view_if_needed()
        holds(page, "omni-first", page.locator("#title"))
        page.get_by_label("What are you looking for?").fill("red")
        page.get_by_role("button", name="Search").first.click()
        expect(page.locator("#found .head")).to_have_text("Most like the words", **PATIENT)
        expect(page.locator("#found li .name").first).to_have_text("red.png", **PATIENT)
        page.locator("#look-for input[type=file]").set_input_files(str(next(p for p in files if p.name == "blue.wav")))
        expect(page.locator("#found .head")).to_have_text("Most like the audio", **PATIENT)
        expect(page.locator("#found li", has_text="blue.png")).to_be_visible(**PATIENT)
        page.get_by_text("of your own").click()
        page.locator("#add input[type=file]").set_input_files(
            [str(hostile), str(next(p for p in files if p.name == "red.mp4"))]
        )
        page.get_by_role("button", name="Add them").click()
        expect(page.locator("#report")).to_contain_text("2 of 2 files were added", **PATIENT)
        expect(page.locator("#found li")).to_have_count(13, **PATIENT)
        page.get_by_label("What are you looking for?").fill("yellow")
        page.get_by_role("button", name="Search").first.click()
        first = page.locator("#found li", has_text="onerror")
        expect(first).to_be_visible(**PATIENT)
        assert page.locator("#found img[src=x]").count() == 0, "a file's name is no HTML"
        page.wait_for_function("document.querySelector('#found audio').readyState >= 0")
        played = first.locator("audio").evaluate(
            "async (one) => { one.muted = true; await one.play(); return [one.duration, one.error]; }"
        )
        assert played[0] == pytest.approx(0.5, abs=0.05)
        holds(page, "omni-found", first)


@pytest.mark.parametrize("local", [True, False])
def test_heic_of_visitors_is_decoded_as_on_every_page(model, search, tmp_path, monkeypatch, local):
    phone = tmp_path / "phone.heic"
    phone.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    made = MediaSearch(model, search.start, search.visitors, tmp_path, visitors_way(local=local, heif=False))
    decoded = []
    monkeypatch.setattr("zoo.inputs.image.open_image", lambda *given: decoded.append(given) or 1 / 0)
    monkeypatch.setattr("zoo.inputs.image.largest_size", lambda data: (8, 8))
    for ask in (lambda: made.by_file(str(phone)), lambda: made.add([str(phone)])):
        with pytest.raises(gr.Error):
            ask()
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
        page.locator("#record button", has_text="Record").click()
        expect(page.locator("#record button:visible", has_text="Stop").first).to_be_visible(**PATIENT)
        # What is recorded has a length: the device beeps once a second.
        page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 1500))")
        page.locator("#record button:visible", has_text="Stop").first.click()
        expect(page.locator("#found .head")).to_have_text("Most like the audio", **PATIENT)
        heard.close()
