"""Every state of the demo's pages, on a phone and on a laptop: what it shows is in the window, and nothing is cut."""

import re
import shutil
import threading
from types import SimpleNamespace

import pytest
from zoo.demos import chooser, compose, search, text, visitors
from zoo.demos.gallery import GalleryFile
from zoo.demos.stored import folder_gallery, vectors_gallery

from tests.demos.browser_support import (
    HEIGHTS,
    ask,
    browser,
    colour_shown,
    expect,
    first_image,
    holds,
    is_colour,
    needs_chromium,
    place_on_map,
    window_of,
)
from tests.demos.demo_support import COLOURS, colour_model, colour_photos, folder_images, running
from tests.every import standing_for
from zoo import build_model
from zoo.bulk import embed_dataset
from zoo.errors import HubError
from zoo.spec import Calibration, ModelSpec

__all__ = ["browser"]
pytestmark = [pytest.mark.usefixtures("cache_home"), needs_chromium]
widths = pytest.mark.parametrize("width", standing_for(HEIGHTS, [390]))  # what is cut is cut on a phone first
both_widths = pytest.mark.parametrize("width", HEIGHTS)
LONG = "a very long name of a file that nobody would type but that some camera or some program gave it.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_photos(tmp_path_factory.mktemp("states") / "photos")


@pytest.fixture(scope="module")
def served(photos):
    """A local page whose model is calibrated, reads ASCII only, waits at a gate, and has neighbours in the chooser."""
    model = colour_model()
    model.calibration = {"text>image": Calibration(0.1, 0.1, 0.9)}
    gate, encode_query = threading.Event(), model.encode_query
    gate.set()

    def waiting(*inputs, **options):
        gate.wait(60)
        return encode_query(*inputs, **options)

    model.encode_query = waiting
    images = [*folder_images(photos)[1:], GalleryFile(photos / "black.png", LONG)]
    with pytest.MonkeyPatch.context() as patch:
        _offer_others(patch)
        page = search.build(
            model,
            images,
            roots=[photos.parent],
            queries=["a red thing", "something green"],
            models=chooser.Models(model, downloads=True),
        )
        with running(page) as url:
            yield SimpleNamespace(url=url, gate=gate)


def _offer_others(patch):
    """One model at hand, one that has to be fetched and cannot be."""
    from huggingface_hub import constants

    facts = {"modalities": frozenset({"image", "text"}), "dim": 10, "license": "apache-2.0"}
    far = ModelSpec(name="siglip-far-away-b16-256", hub_id="org/far", params=4 * 10**8, languages=("en",), **facts)
    near = ModelSpec(name="other", packaged=True, **facts)

    def load(name):
        if name == "other":
            return colour_model("other")
        raise HubError("the Hub cannot be reached; connect, or choose a model that is here")

    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(chooser, "list_models", lambda **_: [far.name, near.name])
    patch.setattr(chooser, "get_spec", {one.name: one for one in (far, near)}.__getitem__)
    patch.setattr(chooser, "load_model", load)


@pytest.fixture(scope="module")
def windows(browser):
    opened = {width: window_of(browser, width) for width in HEIGHTS}
    yield opened
    for one in opened.values():
        one.close()


@pytest.fixture
def visit(windows):
    """Opens an address in a new tab of the window of a width."""
    tabs = []

    def opened(width, url):
        tabs.append(windows[width].new_page())
        tabs[-1].goto(url)
        expect(tabs[-1].get_by_role("heading", level=1)).to_be_visible()
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.close()


def test_what_must_hold_in_every_state_is_missed_where_it_does_not(windows):
    page = windows[390].new_page()
    wrongs = {
        "is wider than the window": "<div style='width: 500px'>wide</div>",
        "sticks out of its fixed frame": "<div style='position: fixed; left: 300px; width: 200px'>wide</div>",
        "is cut off": "<div style='width: 60px; overflow: hidden; white-space: nowrap'>a long name of something</div>",
        "sticks out of its button": "<button style='width: 60px; white-space: nowrap'>a long name of something</button>",
    }
    fine = "<p>text</p><div style='width: 60px; overflow: auto; white-space: nowrap'>a long name of something</div>"
    for wrong, html in wrongs.items():
        page.set_content(fine + html)
        with pytest.raises(AssertionError, match=re.escape(wrong)):
            holds(page, wrong, patience=50)
    page.set_content(fine)
    holds(page, "fine", page.locator("p"))
    page.close()


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def said(page, words):
    """The message that appears in a corner."""
    message = page.get_by_test_id("toast-body").last
    expect(message).to_contain_text(words)
    return message


@both_widths
def test_search_by_text(visit, served, width):
    page = visit(width, served.url)
    expect(page.locator("#text-results .thumbnail-lg")).to_have_count(len(COLOURS))
    holds(page, "words-start", first_image(page), page.get_by_label("What are you looking for?"))
    expect(page.locator("#text-scores .head")).to_have_text("Nothing asked yet")
    expect(page.get_by_label("What are you looking for?")).to_have_attribute("placeholder", "a red thing")

    ask(page, "a red thing")
    head = page.locator("#text-scores .head")
    expect(head).to_contain_text("images searched in")
    holds(page, "words-found", first_image(page))
    assert is_colour(colour_shown(page, first_image(page)), "red")
    full = page.locator("#text-scores li .track span").first
    assert _share(full) == pytest.approx(1, abs=0.01), "of an answer that fits the bar is full"
    # The names stand above their bars, on one line with them.
    left = page.locator("#text-scores li").first.bounding_box()["x"]
    assert page.locator("#text-scores li a").first.bounding_box()["x"] == pytest.approx(left, abs=1)

    ask(page, "nothing of these")
    expect(head).to_contain_text("Nothing clearly fits")
    head.scroll_into_view_if_needed()
    holds(page, "words-nothing-fits", head)
    assert _share(full) < 0.9, "a full bar would say that it fits"


def _share(bar):
    """How full a bar is at last."""
    bar.evaluate("bar => Promise.all(bar.getAnimations().map((one) => one.finished))")
    return bar.evaluate("bar => bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width")


@widths
def test_mistakes_in_a_search_by_text(visit, served, width):
    page = visit(width, served.url)
    ask(page, "red")
    expect(page.locator("#text-scores li")).to_have_count(8)
    for words, message, name in ((" ", "Type a few words first", "empty"), ("黑色的猫", "knows no part", "unreadable")):
        ask(page, words)
        holds(page, f"words-{name}", said(page, message))
        expect(page.locator("#text-scores .head")).to_have_text("No results")
        expect(page.locator("#text-results .thumbnail-lg")).to_have_count(0)
    page.get_by_test_id("toast-close").last.click()
    expect(page.get_by_test_id("toast-body")).to_have_count(0)
    ask(page, "red")
    expect(first_image(page)).to_be_in_viewport()


@widths
def test_an_example_is_clicked_and_the_search_takes_its_time(visit, served, width):
    page = visit(width, served.url)
    served.gate.clear()
    try:
        page.get_by_role("button", name="something green").click()
        expect(page.get_by_label("What are you looking for?")).to_have_value("something green")
        waiting = page.locator("#text-results").get_by_test_id("status-tracker")
        expect(waiting).not_to_have_class(re.compile(r"\bhide\b"))
        expect(waiting.locator("svg").first).to_be_in_viewport()
        page.wait_for_function(
            "getComputedStyle(document.querySelector('#text-results [data-testid=status-tracker]')).opacity === '1'"
        )
        holds(page, "words-waiting", waiting)
    finally:
        served.gate.set()
    expect(page.locator("#text-scores .head")).to_contain_text("images searched in")
    expect(waiting).to_have_class(re.compile(r"\bhide\b"))
    assert is_colour(colour_shown(page, first_image(page)), "green")
    holds(page, "words-example", first_image(page))


@widths
def test_a_result_leads_to_its_file(visit, served, photos, width):
    page = visit(width, served.url)
    ask(page, "black")
    row = page.locator("#text-scores li").first
    expect(row).to_contain_text("a very long name")
    row.scroll_into_view_if_needed()
    copy = row.get_by_role("button", name="copy path")
    assert copy.bounding_box()["y"] < row.locator(".track").bounding_box()["y"], "it is not cut off with a long name"
    copy.click()
    expect(row.get_by_role("button")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == str(photos / "black.png")
    holds(page, "words-copied", row.get_by_role("button"), row.get_by_role("link"))
    with page.context.expect_page() as opened:
        row.get_by_role("link").click()
    opened.value.wait_for_load_state()
    assert opened.value.evaluate("document.images[0].naturalWidth") == 64
    opened.value.close()

    first_image(page).click()  # seen large, and closed again
    large = page.locator("#text-results").get_by_test_id("detailed-image")
    holds(page, "words-large", large)
    page.locator("#text-results").get_by_role("button", name="Close").click()
    expect(large).to_have_count(0)
    expect(first_image(page)).to_be_visible()


@widths
def test_search_by_an_image(visit, served, photos, tmp_path, width):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    page = visit(width, served.url)
    open_tab(page, "By image")
    go = page.get_by_role("button", name="Find similar images")
    expect(page.locator("#image-scores .head")).to_have_text("Nothing asked yet")
    holds(page, "image-start", go)
    go.click()
    holds(page, "image-none", said(page, "Add an image first"))
    expect(page.locator("#image-scores .head")).to_have_text("No results")
    page.locator("#look-for input[type=file]").set_input_files(photos / "purple.png")
    expect(page.locator("#image-scores li").first).to_contain_text("purple.png")
    holds(page, "image-found", first_image(page, "#image-results"))
    assert is_colour(colour_shown(page, first_image(page, "#image-results")), "purple")
    page.get_by_role("button", name="Remove").or_(page.get_by_label("Clear")).first.click()
    page.locator("#look-for input[type=file]").set_input_files(tmp_path / "broken.png")
    holds(page, "image-broken", said(page, "damaged or cut off"))
    expect(page.locator("#image-results .thumbnail-lg")).to_have_count(0)


@widths
def test_an_example_image_is_clicked(visit, served, width):
    page = visit(width, served.url)
    open_tab(page, "By image")
    page.locator(".gallery-item:visible").first.click()
    expect(page.locator("#look-for img")).to_be_visible()
    expect(page.locator("#image-scores li")).to_have_count(8)
    holds(page, "image-example", first_image(page, "#image-results"))


@widths
def test_search_by_both(visit, served, photos, width):
    page = visit(width, served.url)
    open_tab(page, "By both")
    words = page.get_by_label("What is to be different?")
    expect(page.locator("#both-scores .head")).to_have_text("Nothing asked yet")
    holds(page, "both-start", words)
    words.fill(" ")
    words.press("Enter")
    holds(page, "both-mistake", said(page, "Say what is to be different"))
    page.locator("#reference input[type=file]").set_input_files(photos / "red.png")
    expect(page.locator("#reference img")).to_be_visible()
    words.fill("blue")
    words.press("Enter")
    expect(page.locator("#both-scores li").first).to_contain_text("blue.png")
    holds(page, "both-found", first_image(page, "#both-results"))
    assert is_colour(colour_shown(page, first_image(page, "#both-results")), "blue")
    page.get_by_role("button", name="Instruction, and how").click()
    weight = page.get_by_label("Weight of the image").first
    weight.scroll_into_view_if_needed()
    holds(page, "both-instruction", weight, page.locator("#instruction"))
    page.locator("tr.tr-body:visible").first.click()
    expect(words).to_have_value(compose.EXAMPLES[0][1])
    expect(page.locator("#both-scores .head")).to_contain_text("images searched in")
    holds(page, "both-example", first_image(page, "#both-results"))


@widths
def test_describe_an_image(visit, served, photos, width):
    page = visit(width, served.url)
    open_tab(page, "Describe")
    go, labels = page.get_by_role("button", name="Choose the best label"), page.get_by_label("Your labels")
    expect(page.locator("#label-scores .head")).to_have_text("No image yet")
    holds(page, "describe-start", page.locator("#describe"))
    labels.fill("green, yellow, " + 30 * "long" + ", a phrase of several words that goes on")
    page.locator("#describe input[type=file]").set_input_files(photos / "yellow.png")
    expect(page.locator("#label-scores .head")).to_have_text("Looks most like: yellow")
    holds(page, "describe-found", page.locator("#label-scores .head"), page.locator("#label-scores li").first)
    labels.fill("one")
    go.click()
    holds(page, "describe-mistake", said(page, "at least two labels"))
    expect(page.locator("#label-scores li")).to_have_count(0)
    expect(page.locator("#label-scores .head")).to_have_text("No results")


@both_widths
def test_the_map(visit, served, width):
    page = visit(width, served.url)
    open_tab(page, "Map")
    drawn, caption = page.locator("#map img"), page.locator("#picked-caption")
    expect(drawn).to_be_visible()
    holds(page, "map-start", drawn)
    drawn.click(position=place_on_map(page, "orange"))
    expect(caption).to_have_text("orange.png")
    assert is_colour(colour_shown(page, page.locator("#picked img")), "orange")
    expect(page.locator("#near .thumbnail-lg")).to_have_count(4)
    holds(page, "map-picked", page.locator("#picked img"), caption)

    page.get_by_label("t-SNE").or_(page.get_by_label("UMAP")).first.click()
    expect(page.locator("#map-note")).to_contain_text("needs at least 12 images")
    page.locator("#map-note").scroll_into_view_if_needed()
    holds(page, "map-other", page.locator("#map-note"))


@widths
def test_the_map_zoomed(visit, served, width):
    page = visit(width, served.url)
    open_tab(page, "Map")
    drawn, caption = page.locator("#map img"), page.locator("#picked-caption")
    expect(drawn).to_be_visible()
    before = drawn.bounding_box()["width"]
    page.locator("#map-zoom input[type=range]").fill("3")
    page.wait_for_function(
        "before => document.querySelector('#map img').getBoundingClientRect().width > 2.5 * before", arg=before
    )
    drawn.click(position=place_on_map(page, "blue"))  # which scrolls there, inside the frame
    expect(caption).to_have_text("blue.png")
    page.locator("#map").scroll_into_view_if_needed()
    holds(page, "map-zoomed", page.locator("#map"))


@widths
def test_the_chooser(visit, served, width):
    page = visit(width, served.url)
    ask(page, "red")
    expect(page.locator("#text-scores li")).to_have_count(8)
    model = page.get_by_role("listbox", name="Model").or_(page.get_by_label("Model", exact=True)).first
    options = page.get_by_role("option")

    def choose(name):
        model.click()
        expect(options).to_have_count(3)
        options.filter(has_text=name).click()

    model.click()
    expect(options.nth(1)).to_contain_text("other · apache-2.0")
    expect(options.nth(2)).to_contain_text("download of 1,600 MB · apache-2.0 · English")
    holds(page, "chooser-open", options.nth(2))
    options.filter(has_text="far-away").click()
    question = page.locator("#question")
    expect(question).to_contain_text("has to be fetched first: about 1,600 MB, licence apache-2.0")
    fetch, leave = page.get_by_role("button", name="Fetch it"), page.get_by_role("button", name="Not now")
    holds(page, "chooser-question", question, fetch, leave)
    expect(model).to_have_value("colours")
    leave.click()
    expect(question).to_be_hidden()
    expect(fetch).to_be_hidden()
    # A question changes nothing, so what was found stays; nor does a model that cannot be had.
    expect(page.locator("#text-scores li")).to_have_count(8)
    choose("far-away")
    fetch.click()
    holds(page, "chooser-failed", said(page, "the Hub cannot be reached"))
    expect(model).to_have_value("colours")
    expect(page.locator("#text-scores li")).to_have_count(8)
    expect(question).to_be_hidden()


@widths
def test_a_local_page_gets_more_images_and_another_model(visit, photos, tmp_path, monkeypatch, width):
    own = tmp_path / "own"
    own.mkdir()
    for name in ("green", "blue", "white"):
        shutil.copy(photos / f"{name}.png", own / f"my {name}.png")
    (own / f"broken {LONG}").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    _offer_others(monkeypatch)
    model, gate = colour_model(), threading.Event()
    gate.set()
    encode_stream = model.encode_stream
    model.encode_stream = lambda *some, **options: (gate.wait(60), encode_stream(*some, **options))[1]
    built = search.build(model, folder_images(photos)[:4], roots=[tmp_path])
    with running(built) as url:
        page = visit(width, url)
        report, status = page.locator("#report"), page.locator("#status")
        files, folder = page.get_by_role("button", name="Index these"), page.get_by_role("button", name="Index this")
        open_tab(page, "Add yours")
        holds(page, "add-start", folder)
        files.click()
        holds(page, "add-nothing", said(page, "Choose some images first"))
        page.get_by_label("A folder on this machine").fill("/etc")
        folder.click()
        holds(page, "add-outside", said(page, "outside the folders"))
        page.get_by_label("A folder on this machine").fill(str(own))
        folder.click()
        expect(report).to_contain_text("5 images are searchable now")
        expect(report).to_contain_text("2 were there already")
        expect(report).to_contain_text("1 file could not be read")
        report.scroll_into_view_if_needed()
        holds(page, "add-folder", report)
        expect(status).to_contain_text("5 images")

        several = [photos / f"{name}.png" for name in ("purple", "red", "black")]
        page.locator("input[type=file]:not([accept^='video'])").last.set_input_files(several)
        rows = page.locator(".file-preview tr")
        expect(rows).to_have_count(3)
        page.get_by_label("Remove this file").last.click()
        expect(rows).to_have_count(2)
        holds(page, "add-chosen", rows.first)
        gate.clear()
        try:
            files.click()
            waiting = report.get_by_test_id("status-tracker")
            expect(waiting).to_contain_text("processing")
            waiting.scroll_into_view_if_needed()
            holds(page, "add-waiting", waiting)
        finally:
            gate.set()
        expect(report).to_contain_text("7 images are searchable now")
        files.click()
        expect(report).to_contain_text("2 were there already")
        report.scroll_into_view_if_needed()
        holds(page, "add-again", report)

        open_tab(page, "By text")
        ask(page, "purple")
        expect(page.locator("#text-scores li").first).to_contain_text("purple.png")
        page.reload()
        expect(page.get_by_label("Model", exact=True).first).to_be_visible()
        expect(status).to_contain_text("7 images")
        expect(page.locator("#text-results .thumbnail-lg")).to_have_count(7)
        holds(page, "add-reloaded", first_image(page))

        ask(page, "white")
        expect(page.locator("#text-scores li").first).to_contain_text("my white.png")
        page.get_by_role("listbox", name="Model").or_(page.get_by_label("Model", exact=True)).first.click()
        page.get_by_role("option").filter(has_text="other").click()
        expect(page.get_by_label("Model", exact=True).first).to_have_value(re.compile("^other"))
        expect(page.locator("#text-scores .head")).to_have_text("Nothing asked yet")
        ask(page, "white")
        expect(page.locator("#text-scores li").first).to_contain_text("my white.png")
        holds(page, "add-other-model", first_image(page))


@pytest.mark.slow
@both_widths
def test_images_whose_vectors_lie_on_disk(visit, photos, tmp_path, width):
    model = colour_model()
    embed_dataset(model, photos, tmp_path / "vectors", progress=False)
    folder_gallery(model, photos)
    kept = folder_gallery(model, photos)
    assert kept.embedded == 0
    for name, gallery in (("vectors", vectors_gallery(model, tmp_path / "vectors")), ("kept", kept)):
        with running(search.build(model, gallery, roots=[tmp_path])) as url:
            page = visit(width, url)
            expect(page.locator("#text-results .thumbnail-lg")).to_have_count(len(COLOURS))
            expect(page.locator("#status")).to_contain_text(f"{len(COLOURS)} images")
            ask(page, "orange")
            expect(page.locator("#text-scores li").first).to_contain_text("orange.png")
            holds(page, f"stored-{name}", first_image(page))


@widths
def test_a_page_for_others_has_quotas(visit, photos, monkeypatch, width):
    built = search.build(colour_model(), folder_images(photos)[:4], local=False)
    with running(built, local=False) as url:
        page = visit(width, url)
        ask(page, "red")
        expect(page.locator("#text-scores li").first).to_be_visible()
        expect(page.locator("#text-scores li a")).to_have_count(0)
        open_tab(page, "Add yours")
        index = page.get_by_role("button", name="Index these images")
        assert page.get_by_label("A folder on this machine").count() == 0
        holds(page, "shared-start", index)
        page.locator("input[type=file]").last.set_input_files(photos / "purple.png")
        expect(page.locator(".file-preview tr")).to_have_count(1)
        index.click()
        expect(page.locator("#report")).to_contain_text("5 images are searchable now")
        page.locator("#report").scroll_into_view_if_needed()
        holds(page, "shared-added", page.locator("#report"))
        monkeypatch.setattr(visitors, "PER_VISITOR", 100)
        page.get_by_label("Clear").or_(page.get_by_label("Remove this file")).first.click()
        page.locator("input[type=file]").last.set_input_files(photos / "black.png")
        holds(page, "shared-quota", said(page, "one visitor may upload"))


@widths
def test_the_page_of_a_text_model(visit, width):
    with running(text.build(build_model("text-test"))) as url:
        page = visit(width, url)
        scores, passages = page.locator("#text-scores"), page.get_by_label("Passages, one on each line")
        expect(scores.locator(".head")).to_have_text("Nothing asked yet")
        holds(page, "text-start", page.get_by_label("What are you looking for?"))
        passages.fill("a cat\nthe museum is closed\n" + 60 * "long" + "\na dog")
        ask(page, "the museum is closed")
        expect(scores.locator("li").first).to_contain_text("the museum is closed")
        holds(page, "text-found", scores.locator("li").first)
        ask(page, " ")
        holds(page, "text-empty", said(page, "Type a few words first"))
        expect(scores.locator("li")).to_have_count(0)
        passages.fill("")
        ask(page, "a cat")
        holds(page, "text-no-passages", said(page, "write some passages"))
        passages.fill("a cat\na dog")
        page.get_by_role("button", name="bad weather").click()
        expect(scores.locator("li")).to_have_count(2)
        holds(page, "text-example", scores.locator("li").first)


@widths
def test_the_page_of_an_image_model(visit, photos, width):
    model = colour_model(modalities=frozenset({"image"}))
    with running(search.build(model, folder_images(photos))) as url:
        page = visit(width, url)
        go = page.get_by_role("button", name="Find similar images")
        holds(page, "image-start", go)
        for name in ("By text", "By both", "Describe"):
            expect(page.get_by_role("tab", name=name)).to_have_count(0)
        page.locator("#look-for input[type=file]").set_input_files(photos / "grey.png")
        expect(page.locator("#image-scores li").first).to_contain_text("grey.png")
        holds(page, "image-found", first_image(page, "#image-results"))
