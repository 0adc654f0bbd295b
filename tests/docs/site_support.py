"""What a built page holds, read with the standard library: anchors, links, and what a browser loads by itself."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches without being asked; a link of `a` is followed by people alone.
_LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("video", "src"), ("audio", "src"), ("iframe", "src")}
_FOLLOWED_RELS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"}


class Page(HTMLParser):
    """One file of the site.

    Attributes:
        ids: what a link may point at after "#".
        links: targets of `a`.
        loaded: what a browser asks for when it shows the page.
        paragraphs: their text, lines kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.ids, self.links, self.loaded, self.paragraphs = path, set(), [], [], []
        self._paragraph = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what the tag points at."""
        of = {name: value or "" for name, value in attrs}
        self.ids |= {of[name] for name in ("id", "name") if name in of}
        if tag == "a" and "href" in of:
            self.links.append(of["href"])
        if tag == "link" and _FOLLOWED_RELS & set(of.get("rel", "").split()):
            self.loaded.append(of["href"])
        self.loaded += [of[name] for kind, name in _LOADED if kind == tag and name in of]
        self.loaded += [part.split()[0] for part in of.get("srcset", "").split(",") if part.strip()]
        if tag == "p":
            self._paragraph = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        """Ends a paragraph."""
        self._paragraph &= tag != "p"

    def handle_data(self, data: str) -> None:
        """Adds to a paragraph."""
        if self._paragraph:
            self.paragraphs[-1] += data


def target_of(page: Path, link: str) -> tuple[Path, str] | None:
    """(file, anchor) that a link of a page means; None for another host."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    place = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
    return place / "index.html" if place.is_dir() else place, unquote(parts.fragment)


def loaded_by(stylesheet: str) -> list[str]:
    """What a stylesheet makes a browser fetch."""
    return [
        target.strip("'\" ")
        for target in re.findall(r"url\(([^)]*)\)|@import\s+([^;]+);", stylesheet)
        for target in target
        if target
    ]
