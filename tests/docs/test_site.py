"""The site of docs/: it builds without a warning, every link and anchor is there, and it asks no other host."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium

from tests.docs.site_support import Page, loaded_by, target_of

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built as `make docs` does."""
    pytest.importorskip("mkdocstrings", reason='the site needs pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page by its file."""
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_local_link_and_anchor_is_there(pages: dict[Path, Page], site: Path):
    lost, seen = [], 0
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for link in page.links + page.loaded:
            if link.startswith(("mailto:", "data:")) or (target := target_of(path, link)) is None:
                continue
            seen += 1
            place, anchor = target
            if not place.is_file() or (anchor and place in pages and anchor not in pages[place].ids | {"__skip"}):
                lost.append((str(path.relative_to(site)), link))
    assert seen > 1000
    assert lost == []


def test_nothing_is_loaded_from_another_host(pages: dict[Path, Page], site: Path):
    loaded = {link for page in pages.values() for link in page.loaded}
    loaded |= {link for path in site.rglob("*.css") for link in loaded_by(path.read_text("utf-8"))}
    assert len(loaded) > 10
    assert [link for link in loaded if re.match(r"(\w+:)?//", link)] == []


def test_no_list_or_table_is_read_as_a_paragraph(pages: dict[Path, Page], site: Path):
    """GitHub begins a list or table anywhere; Python's Markdown asks for an empty line before it."""
    swallowed = [
        (str(path.relative_to(site)), text[:80])
        for path, page in pages.items()
        for text in page.paragraphs
        if re.search(r"\n(?:[-*] |\d+\. |\|.*\|)", text) or "```" in text
    ]
    assert swallowed == []


def test_it_opens_from_the_disk_and_its_search_finds(site: Path):
    """In Chromium, at the width of a phone and of a desk: no request but to the disk, no page that scrolls sideways."""
    if (chromium := find_chromium()) is None:
        pytest.skip("chromium is not here")
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("request", lambda request: asked.append(request.url))
            for path in sorted(site.glob("*.html")) + sorted(site.glob("reference/*.html")):
                page.goto(path.as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, width)
        page.goto((site / "index.html").as_uri())
        page.get_by_role("textbox", name="Search").fill("load_model")
        page.locator(".md-search-result__link").first.wait_for()
        browser.close()
    assert len(asked) > 50
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
