"""Tracks: every page, frame or second of a document, video or audio is embedded as itself, with its place beside the vector."""

import io
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import zoo
from tests.embedder.tones import Tones
from tests.inputs.pdfs import BLUE, GREEN, Sheet, pdf
from tests.inputs.test_videos import avi, numbered
from zoo import DocumentPage, Embedder, Excerpt, Item, Waveform, build_model
from zoo.embedder import Tower, documents
from zoo.errors import (
    ArgumentError,
    CorruptDocumentError,
    NotMediaError,
    UnsupportedInputError,
    UnsupportedModalityError,
)
from zoo.heads import Identity
from zoo.inputs.audio import load_audio
from zoo.inputs.frames import iter_frames
from zoo.inputs.hashing import item_key
from zoo.inputs.item import as_item
from zoo.inputs.video import load_video
from zoo.pooling import Mean

PAGES = pdf([Sheet("one"), Sheet("two", GREEN), Sheet("three", BLUE)])
VIDEO = avi(numbered(33, 20, 30), fps=10)  # 3.3 seconds


@pytest.fixture(scope="module")
def clip() -> Embedder:
    return build_model("clip-test").eval()


class Hearing(Tones):
    """Tones that are read of anything that is audio."""

    rate = 8000

    def prepare_item(self, item: Item) -> torch.Tensor:
        return super().prepare_item(replace(item, audio=load_audio(item.audio, rate=self.rate).samples))


@pytest.fixture(scope="module")
def hearing() -> Embedder:
    torch.manual_seed(0)
    mini = build_model("mini-test")
    spec = replace(mini.spec, name="hearing-test", modalities=frozenset({"audio", "text"}))
    towers = [mini.towers[1], Tower(Hearing(spec.dim), Mean(), Identity())]
    return Embedder(spec, towers).eval()


def wav(samples: np.ndarray, rate: int) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, "FLOAT", format="WAV")
    return out.getvalue()


def test_a_document_has_a_vector_for_each_page(clip, monkeypatch):
    monkeypatch.setattr(documents, "MAX_PAGES", 2)  # which is of one vector alone
    track = clip.encode_track(PAGES, "page")
    assert track.pages.tolist() == [1, 2, 3]
    assert track.starts is track.ends is None
    expected = clip.encode([DocumentPage(PAGES, number) for number in track.pages.tolist()])
    torch.testing.assert_close(track.vectors, expected, atol=1e-5, rtol=0)
    late = build_model("colpali-test").eval()
    vectors = late.encode_track(PAGES, "page", batch_size=1).vectors
    assert len(vectors) == 3
    torch.testing.assert_close(vectors[2], late.encode(DocumentPage(PAGES, 3)), atol=1e-5, rtol=0)


def test_a_video_has_a_vector_for_each_frame_at_a_rate(clip, tmp_path):
    file = tmp_path / "a.avi"
    file.write_bytes(VIDEO)
    video = load_video(file, frames=1000, fps=2)
    for source in (file, VIDEO, Item(video=file)):
        track = clip.encode_track(source, "frame", fps=2)
        torch.testing.assert_close(track.vectors, clip.encode(list(video.frames)), atol=1e-5, rtol=0)
        np.testing.assert_allclose(track.starts, video.indices / 10, atol=1e-6)
        np.testing.assert_allclose(track.ends, [*video.indices[1:] / 10, 3.3], atol=1e-6)
    frames = numbered(5, 20, 30)
    track = clip.encode_track(Item(video=frames), "frame", dim=8, precision="int8")
    assert track.vectors.dtype == torch.int8
    assert track.vectors.shape == (5, 8)
    assert track.starts.isnan().all()


def test_seconds_of_a_video_are_read_as_videos_each(tmp_path):
    model = build_model("qwen3vl-test").eval()
    file = tmp_path / "a.avi"
    file.write_bytes(VIDEO)
    track = model.encode_track(file, "second", seconds=1.5, hop=1)
    assert track.starts.tolist() == pytest.approx([0, 1, 1.8])  # the last one ends where the video does
    assert track.ends.tolist() == pytest.approx([1.5, 2.5, 3.3])
    parts = [Excerpt(file, float(start), 1.5) for start in track.starts]
    torch.testing.assert_close(track.vectors, model.encode(parts), atol=1e-5, rtol=0)
    assert load_video(parts[1], frames=99).indices.tolist() == list(range(10, 25))


def test_seconds_of_audio_are_the_windows_of_it(hearing):
    samples = np.sin(np.arange(40_000) ** 1.2 / 50).astype(np.float32)  # five seconds at 8 kHz
    track = hearing.encode_track(Waveform(samples, 8000), "second", seconds=2, hop=2)
    assert track.starts.tolist() == [0, 2, 3]
    assert track.ends.tolist() == [2, 4, 5]
    parts = [Waveform(samples[start : start + 16_000], 8000) for start in (0, 16_000, 24_000)]
    torch.testing.assert_close(track.vectors, hearing.encode(parts), atol=1e-5, rtol=0)
    file = hearing.encode_track(wav(samples, 8000), "second", seconds=2)
    torch.testing.assert_close(file.vectors, track.vectors, atol=1e-5, rtol=0)
    other = hearing.encode_track(wav(samples[:16_000], 16_000), "second", seconds=4)
    assert (other.starts.tolist(), other.ends.tolist()) == ([0], [1])


def test_parts_of_an_excerpt_have_the_times_of_the_whole(clip, hearing):
    model = build_model("qwen3vl-test").eval()
    track = model.encode_track(Excerpt(VIDEO, 1, 2), "second")
    assert track.starts.tolist() == [1, 2]
    torch.testing.assert_close(
        track.vectors, model.encode([Excerpt(VIDEO, 1, 1), Excerpt(VIDEO, 2, 1)]), atol=1e-5, rtol=0
    )
    assert model.encode_track(Excerpt(VIDEO, 2.5, 99), "second").ends.tolist() == pytest.approx([3.3])
    assert clip.encode_track(Excerpt(VIDEO, 1, 1), "frame", fps=10).starts.tolist() == pytest.approx(
        [n / 10 for n in range(10, 20)]
    )
    content = wav(np.sin(np.arange(24_000) ** 1.3 / 90).astype(np.float32), 8000)
    track = hearing.encode_track(Excerpt(content, 0.5, 2), "second")
    assert track.starts.tolist() == [0.5, 1.5]
    torch.testing.assert_close(track.vectors[1], hearing.encode(Excerpt(content, 1.5, 1)), atol=1e-5, rtol=0)
    with pytest.raises(UnsupportedInputError, match="after the end"):
        model.encode_track(Excerpt(VIDEO, 4, 1), "second")


def test_a_text_goes_with_every_part():
    model = build_model("qwen3vl-test").eval()
    item = Item(text="a green page", document=PAGES, instruction="Find it.")
    expected = model.encode(
        [Item(text=item.text, image=DocumentPage(PAGES, n), instruction="Find it.") for n in (1, 2, 3)]
    )
    torch.testing.assert_close(model.encode_track(item, "page").vectors, expected, atol=1e-5, rtol=0)


def test_what_there_is_no_track_of_is_told_with_what_works(clip, hearing):
    with pytest.raises(UnsupportedModalityError, match=r"does not read video, .* per='frame' works"):
        clip.encode_track(VIDEO, "second")
    with pytest.raises(ArgumentError, match=r"per='page' is not of video; per='frame' works"):
        clip.encode_track(VIDEO, "page")
    with pytest.raises(ArgumentError, match="per='frame' is not of document; per='page' works"):
        clip.encode_track(PAGES, "frame")
    with pytest.raises(UnsupportedModalityError, match="does not read audio"):
        clip.encode_track(Waveform(np.zeros(9000, np.float32), 8000), "second")
    with pytest.raises(UnsupportedModalityError, match="does not read image"):
        hearing.encode_track(PAGES, "page")
    with pytest.raises(ArgumentError, match="per must be"):
        clip.encode_track(PAGES, "word")
    for value in ("a text", numbered(1)[0], Item(parts=["a", PAGES]), Item(document=PAGES, video=VIDEO)):
        with pytest.raises(UnsupportedInputError, match="one document, video or audio"):
            clip.encode_track(value, "page")
    with pytest.raises(ArgumentError, match=r"fps is of per=.frame., not of per=.page."):
        clip.encode_track(PAGES, "page", fps=2)
    with pytest.raises(ArgumentError, match="on_error"):
        clip.encode_track(PAGES, "page", on_error="skip")
    with pytest.raises(ArgumentError, match="hop"):
        hearing.encode_track(Waveform(np.zeros(9000, np.float32), 8000), "second", hop=2.0)
    with pytest.raises(UnsupportedInputError, match="no times"):
        build_model("qwen3vl-test").encode_track(Item(video=numbered(5)), "second")
    with pytest.raises(CorruptDocumentError, match="page 2"):
        clip.encode_track(pdf([Sheet("one"), Sheet(lost=True)]), "page")


def test_frames_come_one_by_one_and_are_those_of_load_video():
    for fps in (1, 4, 100):
        video = load_video(VIDEO, frames=1000, fps=fps)
        frames = list(iter_frames(VIDEO, fps=fps))
        assert [frame.index for frame in frames] == video.indices.tolist()
        assert [frame.seconds for frame in frames] == video.seconds.tolist()
        assert all((frame.pixels == pixels).all() for frame, pixels in zip(frames, video.frames, strict=True))
    part = list(iter_frames(Excerpt(VIDEO, 1, 1), fps=10))
    assert [frame.index for frame in part] == list(range(10, 20))
    stream = iter_frames(VIDEO, fps=10)
    assert next(stream).index == 0
    stream.close()  # which ends its process
    for wrong in (0, -1, float("inf"), True, "1"):
        with pytest.raises(ValueError, match="fps"):
            iter_frames(VIDEO, fps=wrong)
    with pytest.raises(NotMediaError, match="holds document"):
        iter_frames(PAGES)


def test_an_excerpt_stands_where_the_whole_does(tmp_path):
    samples = np.arange(16_000, dtype=np.float32) / 16_000
    file = Path(tmp_path / "a.wav")
    file.write_bytes(wav(samples, 8000))
    part = Excerpt(file, 0.5, 0.25)
    assert as_item(part).audio is part
    assert as_item(Excerpt(VIDEO, 0, 1)).modalities == {"video"}
    np.testing.assert_allclose(load_audio(part, rate=8000).samples, samples[4000:6000], atol=1e-6)
    np.testing.assert_allclose(load_audio(part, rate=8000, start=0.1).samples, samples[4800:6000], atol=1e-6)
    keys = {item_key(Item(audio=one)) for one in (file, part, Excerpt(file, 0.5, 0.5), Excerpt(file, 0, 0.25))}
    assert len(keys) == 4
    assert item_key(Item(audio=Excerpt(file, 0.5, 0.25))) in keys
    for wrong in ((-1, 1), (0, 0), (float("nan"), 1), ("0", 1)):
        with pytest.raises(ValueError, match="number of seconds"):
            zoo.Excerpt(file, *wrong)
    with pytest.raises(UnsupportedInputError, match="audio or a video, not of document"):
        as_item(Excerpt(PAGES, 0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models("*-test"))
def test_every_model_embeds_the_parts_that_it_reads(name):
    model = build_model(name).eval()
    reads = model.spec.modalities
    tracks: list[tuple] = []
    if "image" in reads:
        tracks.append((model.encode_track(PAGES, "page"), [DocumentPage(PAGES, n) for n in (1, 2, 3)]))
        tracks.append((model.encode_track(VIDEO, "frame"), list(load_video(VIDEO, frames=99, fps=1).frames)))
    if "video" in reads:
        parts = [Excerpt(VIDEO, 0, 2), Excerpt(VIDEO, 1.3, 2)]
        tracks.append((model.encode_track(VIDEO, "second", seconds=2), parts))
    if "audio" in reads:
        content = wav(np.sin(np.arange(24_000) ** 1.3 / 90).astype(np.float32), 8000)
        tracks.append((model.encode_track(content, "second"), [Excerpt(content, start, 1) for start in (0, 1, 2)]))
    assert tracks or reads == {"text"}
    for track, parts in tracks:
        for vector, expected in zip(track.vectors, model.encode(parts), strict=True):
            torch.testing.assert_close(vector, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_long_video_takes_no_more_memory_than_a_short_one():
    peaks = []
    for count in (100, 600):
        video = avi(numbered(count, 40, 60), fps=10)
        tracemalloc.start()
        assert sum(1 for _ in iter_frames(video, fps=10)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10 * 40 * 60 * 3
