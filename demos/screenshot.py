"""`python -m zoo.demos.screenshot docs/demo.png`: opens the demo in Chromium, asks one question, saves what is seen.

With `--point 0.5,0.3` it opens at pointing, and clicks there, in parts of the image's sides.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import ZooError

from .serve import launch

DESKTOP = (1280, 900)
# Nothing here talks to the network or to a GPU.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE = 300_000  # milliseconds in which the regions of the gallery are embedded, on a busy machine
_LOADED = """[...document.images].every(image => {
  const box = image.getBoundingClientRect();
  return image.complete || !image.offsetParent || box.top > innerHeight || box.bottom < 0;
})"""


def find_chromium() -> str | None:
    """The system's Chromium: $CHROMIUM, else the first one on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def take(
    target: Path,
    model: str = "zoo-mini",
    query: str = "a pagoda",
    size: tuple[int, int] = DESKTOP,
    *,
    point: tuple[float, float] | None = None,
) -> Path:
    """Saves the page's answer to `query`, or to a click at `point` of the image to point at, as an image.

    Raises:
        ZooError: Chromium or Playwright is missing.
    """
    try:
        from playwright.sync_api import expect, sync_playwright
    except ModuleNotFoundError as error:
        raise ZooError('the screenshot needs Playwright: pip install "embedding-zoo[dev]"') from error
    chromium = find_chromium()
    if chromium is None:
        raise ZooError("the screenshot needs Chromium: install the package `chromium`, or set CHROMIUM to its path")
    page = launch(model, page="regions" if point else None, block=False)
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
            tab = browser.new_page(viewport={"width": size[0], "height": size[1]})
            tab.goto(page.local_url)
            tab.locator("#ask, #query").first.wait_for()
            if point is None and tab.locator("#ask").count():  # the page of models that hear or watch
                tab.locator("#ask textarea").fill(query)
                tab.locator("#ask .submit-button").click()
                expect(tab.locator("#found .head")).to_contain_text(query)
                tab.locator("#found ol[aria-busy=false]").wait_for(timeout=_PATIENCE)  # moments follow
            elif point is None:
                tab.get_by_label("What are you looking for?").fill(query)
                tab.get_by_role("button", name="Search").click()
                expect(tab.locator("#text-scores li").first).to_be_visible()
            else:
                stage = tab.locator("#region-canvas .stage")
                stage.locator("img[src]").wait_for()
                box = stage.bounding_box() or {}
                stage.click(position={"x": point[0] * box["width"], "y": point[1] * box["height"]})
                expect(tab.locator("#region-results img").first).to_be_visible(timeout=_PATIENCE)
            tab.get_by_role("heading", level=1).hover()
            tab.wait_for_function(_LOADED)
            target.parent.mkdir(parents=True, exist_ok=True)
            tab.screenshot(path=target, animations="disabled")
            browser.close()
    finally:
        page.close(verbose=False)
    return target


def _place(words: str) -> tuple[float, float]:
    x, y = (float(number) for number in words.split(","))
    return x, y


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m zoo.demos.screenshot", description=__doc__)
    parser.add_argument("target", nargs="?", type=Path, default=Path("docs/demo.png"))
    parser.add_argument("--model", default="zoo-mini")
    parser.add_argument("--query", default="a pagoda")
    parser.add_argument("--point", type=_place, metavar="X,Y", help="click there, 0 to 1, in place of a query")
    parser.add_argument("--size", default="1280x900", help="width and height of the window (default: 1280x900)")
    chosen = parser.parse_args(arguments)
    width, _, height = chosen.size.partition("x")
    try:
        print(take(chosen.target, chosen.model, chosen.query, (int(width), int(height)), point=chosen.point))
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
