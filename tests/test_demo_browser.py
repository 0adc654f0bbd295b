"""The search page in a real browser: what a visitor types, clicks and sees."""

import io
import shutil

import pytest
from PIL import Image

from .demo_support import COLOURS, colour_model, colour_photos, running
from .every import every

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
expect.set_options(timeout=60_000)  # a busy machine is slow, a broken page never answers

from zoo.demos import search  # noqa: E402
from zoo.demos.gallery import Picture, folder_pictures  # noqa: E402
from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium  # noqa: E402
from zoo.demos.serve import launch  # noqa: E402

from zoo.spec import Calibration  # noqa: E402

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.usefixtures("cache_home"),  # where vectors of folders are kept
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium here: install Debian's `chromium`, or set CHROMIUM to its path"
    ),
]
EVIL = "<img src=x onerror=document.title='owned'> ${document.title='owned'}"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_photos(tmp_path_factory.mktemp("browser") / "photos")


@pytest.fixture(scope="module")
def url(photos):
    pictures = [*folder_pictures(photos)[1:], Picture(photos / "black.png", EVIL)]
    tries = ["a red motorbike"]
    with running(search.build(colour_model(), pictures, roots=[photos.parent], queries=tries)) as address:
        yield address


@pytest.fixture(scope="module")
def window(browser):
    """One visitor's window; each test has a tab of it, which need not fetch the page's scripts again."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    yield context
    context.close()


@pytest.fixture
def page(window, url):
    opened = window.new_page()
    opened.goto(url)
    opened.get_by_label("What are you looking for?").wait_for()
    yield opened
    opened.evaluate("localStorage.clear(); sessionStorage.clear()")
    opened.close()


def ask(page, words):
    page.get_by_label("What are you looking for?").fill(words)
    page.get_by_role("button", name="Search").click()


def first_picture(page, where="#text-results"):
    return page.locator(f"{where} .thumbnail-lg img").first


def colour_shown(page, picture):
    """The colour at the centre of an <img> as the browser has it."""
    expect(picture).to_be_visible()
    answer = page.request.get(picture.get_attribute("src"))
    with Image.open(io.BytesIO(answer.body())) as opened:
        return opened.convert("RGB").getpixel((opened.width // 2, opened.height // 2))


def is_colour(found, name):
    return max(abs(a - b) for a, b in zip(found, COLOURS[name], strict=True)) < 12


@every("colour", ["red", "blue"])
def test_type_a_query_and_the_right_picture_comes_first(page, colour):
    ask(page, f"a {colour} thing")
    expect(page.locator("#text-scores li").first).to_contain_text(f"{colour}.png")
    expect(first_picture(page)).to_have_attribute("alt", f"{colour}.png")
    assert is_colour(colour_shown(page, first_picture(page)), colour)


def test_enter_searches_and_the_slider_sets_how_many(page):
    slider = page.get_by_role("slider", name="range slider for Pictures to show").first
    slider.fill("3")
    query = page.get_by_label("What are you looking for?")
    query.fill("green")
    query.press("Enter")
    expect(page.locator("#text-scores li")).to_have_count(3)
    expect(page.locator("#text-results .thumbnail-lg")).to_have_count(3)


def test_the_gallery_is_there_before_anything_is_asked(page):
    expect(page.locator("#text-results .thumbnail-lg")).to_have_count(len(COLOURS))
    expect(page.locator("#text-scores")).to_contain_text("Nothing asked yet")


def test_an_example_fills_the_query_and_searches(page):
    expect(first_picture(page)).not_to_have_attribute("alt", "red.png")
    page.get_by_role("button", name="a red motorbike").click()
    expect(page.get_by_label("What are you looking for?")).to_have_value("a red motorbike")
    expect(first_picture(page)).to_have_attribute("alt", "red.png")


def test_an_empty_query_shows_a_friendly_message(page):
    ask(page, "   ")
    expect(page.get_by_test_id("toast-body")).to_contain_text("Type a few words first")


def test_upload_a_picture_and_find_its_like(page, photos):
    page.get_by_role("tab", name="By picture").click()
    page.locator("#look-for input[type=file]").set_input_files(photos / "purple.png")
    expect(page.locator("#image-scores li").first).to_contain_text("purple.png")
    assert is_colour(colour_shown(page, first_picture(page, "#image-results")), "purple")


def test_a_bad_upload_shows_a_friendly_message(page, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    page.get_by_role("tab", name="By picture").click()
    page.locator("#look-for input[type=file]").set_input_files(tmp_path / "broken.png")
    expect(page.get_by_test_id("toast-body")).to_contain_text("damaged or cut off")


def test_own_labels_get_bars_and_are_shown_as_text(page, photos):
    page.get_by_role("tab", name="Describe").click()
    page.get_by_label("Your labels").fill(f"green, yellow, {EVIL}")
    page.locator("#describe input[type=file]").set_input_files(photos / "yellow.png")
    rows = page.locator("#label-scores li")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("yellow")
    expect(rows.first).to_contain_text("%")
    # The label is shown letter by letter and has run nowhere.
    expect(page.locator("#label-scores")).to_contain_text("<img src=x")
    assert page.locator("#label-scores img").count() == 0
    assert page.title() != "owned"


def test_a_caption_is_never_run(page):
    ask(page, "black")
    expect(page.locator("#text-scores li").first).to_contain_text("<img src=x")
    expect(first_picture(page)).to_have_attribute("alt", EVIL)
    assert page.title() != "owned"


@every("colour", ["orange", "blue"])
def test_a_click_on_the_map_shows_that_picture(page, colour):
    page.get_by_role("tab", name="Map").click()
    drawn = page.locator("#map img")
    expect(drawn).to_be_visible()
    with Image.open(io.BytesIO(page.request.get(drawn.get_attribute("src")).body())) as opened:
        pixels = opened.convert("RGB")
        places = [(x, y) for x in range(0, pixels.width, 7) for y in range(0, pixels.height, 7)]
        mine = [place for place in places if is_colour(pixels.getpixel(place), colour)]
        x, y = mine[len(mine) // 2]
        box = drawn.bounding_box()
        scale = box["width"] / pixels.width
    assert abs(box["height"] / box["width"] - 720 / 1200) < 0.01, "the map is distorted, clicks would miss"
    drawn.click(position={"x": x * scale, "y": y * scale})
    expect(page.locator("#picked-caption")).to_have_text(f"{colour}.png")
    assert is_colour(colour_shown(page, page.locator("#picked img")), colour)
    expect(page.locator("#near .thumbnail-lg")).to_have_count(4)


def test_index_a_folder_and_search_it_even_after_a_reload(browser, photos, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(photos / "green.png", own / "meadow.png")
    with running(search.build(colour_model(), folder_pictures(photos)[:4], roots=[tmp_path])) as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("tab", name="Add yours").click()
        page.get_by_label("A folder on this machine").fill(str(own))
        page.get_by_label("Keep the pictures").uncheck()
        page.get_by_role("button", name="Index this folder").click()
        expect(page.locator("#report")).to_contain_text("1 picture is searchable now")
        expect(page.locator("#status")).to_contain_text("1 picture ·")
        page.get_by_role("tab", name="By words").click()
        expect(first_picture(page)).to_have_attribute("alt", "meadow.png")
        page.reload()
        expect(page.locator("#status")).to_contain_text("1 picture ·")
        expect(first_picture(page)).to_have_attribute("alt", "meadow.png")
        page.get_by_role("tab", name="Add yours").click()
        page.get_by_label("A folder on this machine").fill("/etc")
        page.get_by_role("button", name="Index this folder").click()
        expect(page.get_by_test_id("toast-body")).to_contain_text("outside the folders")
        page.close()


def test_a_shared_page_shows_no_folder_box(browser, photos):
    with running(search.build(colour_model(), folder_pictures(photos), local=False), local=False) as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("tab", name="Add yours").click()
        expect(page.get_by_role("button", name="Index these pictures")).to_be_visible()
        assert page.get_by_label("A folder on this machine").count() == 0
        page.close()


def test_the_page_needs_nothing_from_elsewhere(browser, url):
    page, asked = browser.new_page(), []  # nothing of it is in a cache
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    ask(page, "red")
    expect(page.locator("#text-scores li").first).to_be_visible()
    assert len(asked) > 10
    assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []
    page.close()


@every("width", [390, 768, 1280])
def test_the_page_fits_its_window(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.reload()
    expect(first_picture(page)).to_be_visible()
    for tab in ("By words", "By both", "By picture", "Describe", "Map", "Add yours"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_pictures_have_alternative_texts_and_fields_have_labels(page):
    thumbnails = page.locator("#text-results .thumbnail-lg img")
    expect(thumbnails).to_have_count(len(COLOURS))
    assert all(thumbnails.nth(i).get_attribute("alt") for i in range(len(COLOURS)))
    for name in ("What are you looking for?", "Model"):
        expect(page.get_by_label(name).first).to_be_visible()
    assert page.locator("h1").count() == 1
    assert page.title() == "Embedding Zoo · search by meaning"


def test_zoo_mini_finds_the_red_motorbike_first(browser):
    served = launch("zoo-mini", block=False)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(served.local_url)
        wanted = "a red motorcycle in a garage"
        expect(first_picture(page)).not_to_have_attribute("alt", wanted)
        ask(page, "a red motorbike")
        # The scores come with the answer, so what is first from here on was put there by the search.
        expect(page.locator("#text-scores li")).to_have_count(8)
        assert first_picture(page).get_attribute("alt") == wanted
        page.close()
    finally:
        served.close(verbose=False)


@every("width", [390, 1280])
def test_what_follows_a_search_at_both_widths(browser, photos, width):
    model = colour_model()
    model.calibration = {"text>image": Calibration(0.1, 0.1, 0.9)}
    with running(search.build(model, folder_pictures(photos), roots=[photos.parent])) as address:
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.set_default_timeout(60_000)
        page.goto(address)
        ask(page, "a red thing")
        expect(page.locator("#text-scores .head")).to_contain_text("pictures searched in")
        expect(first_picture(page)).to_be_in_viewport()
        link = page.locator("#text-scores a").first
        assert link.get_attribute("href").startswith("/original/")
        with page.context.expect_page() as opened:
            link.click()
        opened.value.wait_for_load_state()
        assert opened.value.evaluate("document.images[0].naturalWidth") == 64
        opened.value.close()
        ask(page, "nothing of these")
        expect(page.locator("#text-scores .head")).to_contain_text("Nothing clearly fits")
        ask(page, " ")
        expect(page.locator("#text-scores .head")).to_have_text("No results")
        expect(page.locator("#text-results .thumbnail-lg")).to_have_count(0)
        page.get_by_role("tab", name="Map").click()
        image = page.locator("#map img")
        before = image.bounding_box()["width"]
        page.locator("#map-zoom input[type=range]").fill("3")
        page.wait_for_function(
            "before => document.querySelector('#map img').getBoundingClientRect().width > 2.5 * before", arg=before
        )
        assert image.evaluate("image => getComputedStyle(image).objectFit") == "contain", (
            "not a small one in a large frame"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()
