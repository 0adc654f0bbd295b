"""Videos, audio and PDFs as queries of the page of images (test_demo_omni.py has the page of models that hear or watch)."""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.demos.demo_support import COLOURS, PATIENT, ColourImages, ColourWords, colour_model, colour_photos, running

gr = pytest.importorskip("gradio")

from gradio_client import Client, handle_file  # noqa: E402
from zoo.demos import search  # noqa: E402
from zoo.demos.chooser import Models  # noqa: E402
from zoo.demos.gallery import embed_files  # noqa: E402
from zoo.demos.handlers import Search  # noqa: E402

from tests.demos.demo_support import folder_images  # noqa: E402
from zoo import Embedder  # noqa: E402
from zoo.embedder import Tower  # noqa: E402
from zoo.heads import Identity  # noqa: E402
from zoo.inputs.item import Item  # noqa: E402
from zoo.inputs.video import load_video  # noqa: E402
from zoo.pooling import Cls  # noqa: E402
from zoo.spec import ModelSpec  # noqa: E402


class ColourVideos(ColourImages):
    """The colours of a video's first frame."""

    modalities = frozenset({"video"})

    def prepare_item(self, item: Item) -> torch.Tensor:
        return super().prepare_item(Item(image=load_video(item.video, frames=1).frames[0]))


def model_of(*encoders: type) -> Embedder:
    """One tower for each encoder."""
    reads = frozenset().union(*(encoder.modalities for encoder in encoders))
    spec = ModelSpec(name="colours", modalities=reads, dim=ColourImages.width, license="apache-2.0")
    return Embedder(spec, [Tower(encoder(), Cls(), Identity()) for encoder in encoders]).eval()


def written(path: Path, colour: str) -> Path:
    """A short video of one colour: two seconds of MJPEG in AVI, by PyAV."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="avi") as out:
        stream = out.add_stream("mjpeg", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), COLOURS[colour], np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def pdf(path: Path, colour: str) -> Path:
    Image.new("RGB", (60, 80), COLOURS[colour]).save(path, "PDF")
    return path


def tone(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes((np.sin(np.arange(8_000)) * 9_000).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name in ("red", "green", "blue"):
        written(folder / f"{name}.avi", name)
    pdf(folder / "purple.pdf", "purple")
    tone(folder / "tone.wav")
    (folder / "notes.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_photos(tmp_path_factory.mktemp("media") / "photos")


def first(found: object) -> str:
    return found[0][1]


def test_a_file_finds_images_where_the_model_reads_it(photos: Path, clips: Path, tmp_path: Path) -> None:
    model = model_of(ColourImages, ColourWords, ColourVideos)
    page = Search(Models(model), embed_files(model, folder_images(photos)), tmp_path)
    for name, wanted in (("red.avi", "red.png"), ("blue.avi", "blue.png"), ("purple.pdf", "purple.png")):
        found, scores = page.by_file(str(clips / name), 2)
        assert first(found) == wanted, name
        assert scores["rows"][0]["cosine"] > 0.9
    found, _ = page.by_file(str(photos / "green.png"), 1)
    assert first(found) == "green.png"
    for name, said in (("tone.wav", "not audio"), ("notes.mp4", "no video, audio, PDF or image"), (None, "Add a file")):
        with pytest.raises(gr.Error, match=said):
            page.by_file(name and str(clips / name))
    (tmp_path / "broken.pdf").write_bytes((clips / "purple.pdf").read_bytes()[:300])
    with pytest.raises(gr.Error, match="PDF is damaged"):
        page.by_file(str(tmp_path / "broken.pdf"))


def test_a_model_that_reads_no_videos_says_so_and_names_no_place(photos: Path, clips: Path, tmp_path: Path) -> None:
    model = colour_model()
    page = Search(Models(model), embed_files(model, folder_images(photos)), tmp_path)
    with pytest.raises(gr.Error, match=r"colours reads image or text or image\+text, not video\. Choose another"):
        page.by_file(str(clips / "red.avi"))


def test_the_page_of_images_takes_a_pdf_over_http(photos: Path, clips: Path) -> None:
    page = search.build(colour_model(), folder_images(photos), local=False)
    with running(page, local=False) as url:
        client = Client(url, verbose=False, httpx_kwargs=PATIENT)
        found, _ = client.predict(handle_file(clips / "purple.pdf"), 1, api_name="/search_by_file")
        assert found[0]["caption"] == "purple.png"
