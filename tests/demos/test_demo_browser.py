"""The search page in a real browser: what a visitor types and sees, nothing that others wrote run (its states: test_demo_states)."""

import pytest
from zoo.demos import search
from zoo.demos.gallery import GalleryFile
from zoo.demos.serve import launch

from tests.demos.browser_support import (
    ask,
    browser,
    colour_shown,
    expect,
    first_image,
    is_colour,
    needs_chromium,
    window_of,
)
from tests.demos.demo_support import COLOURS, colour_model, colour_photos, folder_images, running
from tests.every import every

__all__ = ["browser"]
pytestmark = [pytest.mark.usefixtures("cache_home"), needs_chromium]  # where vectors of folders are kept
EVIL = "<img src=x onerror=document.title='owned'> ${document.title='owned'}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_photos(tmp_path_factory.mktemp("browser") / "photos")


@pytest.fixture(scope="module")
def url(photos):
    images = [*folder_images(photos)[1:], GalleryFile(photos / "black.png", EVIL)]
    tries = ["a red motorbike"]
    with running(search.build(colour_model(), images, roots=[photos.parent], queries=tries)) as address:
        yield address


@pytest.fixture(scope="module")
def window(browser):
    """One visitor's window; each test has a tab of it, which need not fetch the page's scripts again."""
    context = window_of(browser)
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


@every("colour", ["red", "blue"])
def test_type_a_query_and_the_right_image_comes_first(page, colour):
    ask(page, f"a {colour} thing")
    expect(page.locator("#text-scores li").first).to_contain_text(f"{colour}.png")
    expect(first_image(page)).to_have_attribute("alt", f"{colour}.png")
    assert is_colour(colour_shown(page, first_image(page)), colour)


def test_enter_searches_and_the_slider_sets_how_many(page):
    slider = page.get_by_role("slider", name="range slider for Images to show").first
    slider.fill("3")
    query = page.get_by_label("What are you looking for?")
    query.fill("green")
    query.press("Enter")
    expect(page.locator("#text-scores li")).to_have_count(3)
    expect(page.locator("#text-results .thumbnail-lg")).to_have_count(3)


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
    expect(first_image(page)).to_have_attribute("alt", EVIL)
    assert page.title() != "owned"


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
    expect(first_image(page)).to_be_visible()
    for tab in ("By text", "By both", "By image", "Describe", "Map", "Add yours"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_images_have_alternative_texts_and_fields_have_labels(page):
    thumbnails = page.locator("#text-results .thumbnail-lg img")
    expect(thumbnails).to_have_count(len(COLOURS))
    assert all(thumbnails.nth(i).get_attribute("alt") for i in range(len(COLOURS)))
    for name in ("What are you looking for?", "Model"):
        expect(page.get_by_label(name).first).to_be_visible()
    assert page.locator("h1").count() == 1
    assert page.title() == "Embedding Zoo · search by meaning"


def test_zoo_mini_brings_the_pagoda_to_the_front(browser):
    served = launch("zoo-mini", block=False)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(served.local_url)
        wanted, front = "a Chinese pagoda by a lake", page.locator("#text-results .thumbnail-lg img")
        expect(front.first).to_be_visible()
        assert wanted not in [front.nth(place).get_attribute("alt") for place in range(3)]
        ask(page, "a pagoda")
        # The scores come with the answer, so what is in front from here on was put there by the search.
        expect(page.locator("#text-scores li")).to_have_count(8)
        assert front.first.get_attribute("alt") == wanted
        page.close()
    finally:
        served.close(verbose=False)
