"""Composed search in the demo: what the handler answers, and what a visitor does in a real browser."""

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.demos.demo_support import colour_model, colour_photos, running

gr = pytest.importorskip("gradio")

from zoo.demos import compose  # noqa: E402
from zoo.demos.chooser import Models  # noqa: E402
from zoo.demos.gallery import GalleryFile, embed_files  # noqa: E402
from zoo.demos.handlers import Search  # noqa: E402
from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium  # noqa: E402

from tests.demos.demo_support import folder_images  # noqa: E402
from zoo.evaluation.instructions import TASKS  # noqa: E402


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """One image a colour, and images of two colours."""
    folder = colour_photos(tmp_path_factory.mktemp("compose") / "photos")
    for left, right in (("red", "blue"), ("red", "green"), ("yellow", "blue")):
        halves = [np.asarray(Image.open(folder / f"{name}.png"))[:, :32] for name in (left, right)]
        Image.fromarray(np.concatenate(halves, 1)).save(folder / f"{left}-{right}.png")
    return folder


@pytest.fixture(scope="module")
def search(photos, tmp_path_factory):
    model = colour_model()
    return Search(Models(model), embed_files(model, folder_images(photos)), tmp_path_factory.mktemp("work"))


def captions(found):
    return [caption for _, caption in found]


def test_image_and_text_together_find_what_has_both(search, photos):
    found, scores = search.by_both(str(photos / "red.png"), "blue", top_k=3)
    assert captions(found)[0] == "red-blue.png"
    assert "red.png" not in captions(found), "the reference itself is no answer"
    assert len(found) == len(scores["rows"]) == 3


def test_the_weight_moves_from_words_to_image(search, photos):
    words, _ = search.by_both(str(photos / "red.png"), "blue", share=0.0, top_k=1)
    image, _ = search.by_both(str(photos / "red.png"), "blue", share=1.0, top_k=20)
    assert captions(words) == ["blue.png"]
    assert set(captions(image)[:2]) == {"red-blue.png", "red-green.png"}


def test_what_is_missing_is_said(search, photos):
    with pytest.raises(gr.Error, match="Say what is to be different"):
        search.by_both(str(photos / "red.png"), "  ")
    with pytest.raises(gr.Error, match="Add an image first"):
        search.by_both(None, "blue")


def test_a_gallery_of_nothing_but_the_reference(photos, tmp_path):
    model = colour_model()
    alone = embed_files(model, [GalleryFile(photos / "red.png", "red")])
    with pytest.raises(gr.Error, match="nothing but this image"):
        Search(Models(model), alone, tmp_path).by_both(str(photos / "red.png"), "blue")


def test_an_instruction_reaches_a_vision_language_model(photos, tmp_path):
    model = zoo.build_model("gme-test")
    search = Search(Models(model), embed_files(model, folder_images(photos)), tmp_path)
    asked = [str(photos / "red.png"), "the same but in blue"]

    def cosines(instruction):
        return [row["cosine"] for row in search.by_both(*asked, instruction, top_k=48)[1]["rows"]]

    plain, own, task = cosines(""), cosines("Find it changed."), cosines("cirr")
    assert plain != own != task
    item = zoo.Item(image=photos / "red.png", text=asked[1])
    best = model.rank(model.encode(item, prompt=TASKS["cirr"].query), search.start.vectors, k=48)
    assert all(any(abs(cosine - hit.score) < 1e-6 for hit in best) for cosine in task)


def test_every_demo_that_a_model_names_is_there():
    from importlib import import_module

    for name in zoo.list_models(tests=True):
        assert hasattr(import_module(f"zoo.demos.{zoo.get_spec(name).demo}"), "build"), name


def test_a_model_without_text_has_no_such_tab(photos, tmp_path):
    page = compose.build(colour_model(modalities=frozenset({"image"})), folder_images(photos), workspace=tmp_path)
    tabs = {block.label: block.visible for block in page.blocks.values() if isinstance(block, gr.Tab)}
    assert tabs["By both"] is False


# ---------------------------------------------------------------------------------------------------- in the browser

CHROMIUM = find_chromium()


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install Debian's `chromium`, or set CHROMIUM to its path"
)
@pytest.mark.slow
def test_a_visitor_changes_an_image(photos, tmp_path, monkeypatch):
    playwright = pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    page = compose.build(colour_model(), folder_images(photos), workspace=tmp_path / "work")
    with running(page) as url, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(60_000)
        asked = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(url)
        # The page of such a model opens here.
        change = opened.get_by_label("What is to be different?")
        change.wait_for()
        opened.locator("#reference input[type=file]").set_input_files(str(photos / "red.png"))
        opened.locator("#reference img").wait_for()
        change.fill("blue")
        change.press("Enter")
        playwright.expect(opened.locator("#both-scores li .name").first).to_have_text("red-blue.png", timeout=60_000)
        first = opened.locator("#both-results .thumbnail-lg").first
        playwright.expect(first).to_contain_text("red-blue.png")
        change.fill(" ")
        change.press("Enter")
        playwright.expect(opened.get_by_text("Say what is to be different").first).to_be_visible(timeout=60_000)
        assert all(address.startswith((url, "data:", "blob:")) for address in asked), "the page needs no network"
        browser.close()
