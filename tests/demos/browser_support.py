"""Pages of the demo in Chromium: one browser per file, what a visitor does, and what must hold whatever he sees."""

import contextlib
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.demos.demo_support import COLOURS

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
expect.set_options(timeout=20_000)  # a busy machine is slow, a broken page never answers

from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium  # noqa: E402

CHROMIUM = find_chromium()
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install Debian's `chromium`, or set CHROMIUM to its path"
)
HEIGHTS = {390: 844, 1280: 900}  # of a phone and of a laptop, by their widths
# What is wider than the window though nothing around it scrolls, so that a visitor sees a part of it only.
_POKING_OUT = """() => {
  const scrolls = (one) => one && (/(auto|scroll|hidden|clip)/.test(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
  return [...document.querySelectorAll('body *')].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width && box.height && one.checkVisibility({visibilityProperty: true, opacityProperty: true})
      && (box.right > innerWidth + 1 || box.left < -1) && !scrolls(one.parentElement);
  }).map((one) => one.outerHTML.slice(0, 120));
}"""
# Letters that are cut off at a side, or stick out of their button.
_CUT = """() => {
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (!/[\\p{L}\\d]/u.test(text.data) || /^(SCRIPT|STYLE|OPTION)$/.test(parent.tagName)) continue;
    if (!parent.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    for (let place = parent; place && box.width; place = place.parentElement) {
      const style = getComputedStyle(place), edge = place.getBoundingClientRect();
      if (style.position === 'fixed' || /(auto|scroll)/.test(style.overflowX) || style.textOverflow === 'ellipsis'
        || style.webkitLineClamp !== 'none') break;
      const closed = /(hidden|clip)/.test(style.overflowX) || place.tagName === 'BUTTON';
      if (closed && style.display !== 'inline' && edge.width > 1 && (box.right > edge.right + 1 || box.left < edge.left - 1)) {
        found.push(text.data.slice(0, 60) + ' in ' + place.outerHTML.slice(0, 120)); break;
      }
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for all tests of a file."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield started
        started.close()


def window_of(browser: Any, width: int = 1280) -> Any:
    """One visitor's window; its tabs need not fetch the page's scripts again."""
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHTS[width]}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(60_000)
    return context


def ask(page: Any, words: str) -> None:
    """Types a query and presses Search."""
    page.get_by_label("What are you looking for?").fill(words)
    page.get_by_role("button", name="Search").first.click()


def first_image(page: Any, where: str = "#text-results") -> Any:
    """The first thumbnail of a grid."""
    return page.locator(f"{where} .thumbnail-lg img").first


def colour_shown(page: Any, image: Any) -> tuple[int, ...]:
    """The colour at the centre of an <img> as the browser has it."""
    expect(image).to_be_visible()
    answer = page.request.get(image.evaluate("(image) => image.src"))
    with Image.open(io.BytesIO(answer.body())) as opened:
        return opened.convert("RGB").getpixel((opened.width // 2, opened.height // 2))


def is_colour(found: tuple[int, ...], name: str) -> bool:
    """Whether a pixel has this colour, but for what JPEG makes of it."""
    return max(abs(a - b) for a, b in zip(found, COLOURS[name], strict=True)) < 12


def place_on_map(page: Any, colour: str) -> dict[str, float]:
    """Where, in pixels from the map's corner, the image of a colour lies on it as it is shown now."""
    drawn = page.locator("#map img")
    expect(drawn).to_be_visible()
    with Image.open(io.BytesIO(page.request.get(drawn.get_attribute("src")).body())) as opened:
        pixels = opened.convert("RGB")
        places = [(x, y) for x in range(0, pixels.width, 7) for y in range(0, pixels.height, 7)]
        mine = [place for place in places if is_colour(pixels.getpixel(place), colour)]
        middle = [sum(axis) / len(mine) for axis in zip(*mine, strict=True)]
        x, y = min(mine, key=lambda place: math.dist(place, middle))  # at its edge a click may be its neighbour's
        box = drawn.bounding_box()
        scale = box["width"] / pixels.width
    assert abs(box["height"] / box["width"] - 720 / 1200) < 0.01, "the map is distorted, clicks would miss"
    return {"x": x * scale, "y": y * scale}


def holds(page: Any, name: str, *seen: Any, patience: float = 3000) -> None:
    """What must hold in every state: these are in the window, nothing pokes out of it, no button is cut.

    With ZOO_SCREENSHOTS=DIR in the environment the state is saved there as `<name>-<width>.png`, to be looked at. `patience`:
    milliseconds for what moves.
    """
    for one in seen:
        expect(one).to_be_in_viewport()
    width = page.viewport_size["width"]
    if folder := os.environ.get("ZOO_SCREENSHOTS"):
        page.wait_for_timeout(400)  # what moves or fades
        page.screenshot(path=Path(folder) / f"{name}-{width}.png", animations="disabled")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    for wrong in (_POKING_OUT, _CUT):
        with contextlib.suppress(playwright.TimeoutError):  # what flies in from a side is cut until it is there
            page.wait_for_function(f"() => !({wrong})().length", timeout=patience)
        found = page.evaluate(wrong)
        assert not found, f"{name} at {width}: {found}"
