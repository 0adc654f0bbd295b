"""What a report is made of, and the two ways to write it: one HTML file with everything inside, and Markdown."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from zoo.html_page import html_page, safe
from zoo.strangers.folders import Place
from zoo.strangers.schema import Like

LONGEST = 240  # characters of a user's text
IMAGES = "report/images"
IMAGE = re.compile(rf"{IMAGES}/[0-9a-f]{{16}}\.jpg")
_MOST_BYTES = 2**20  # of an image; thumbnails have 20,000
_JOINERS = "\u200c\u200d"  # not printable, and part of many scripts and emoji


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `kind` "verdict" for the sentence that matters ("verdict worse" in red), "note" for small print."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Tiles:
    """Figures to see first: (label, figure, small print)."""

    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of texts; columns after the first `words` ones hold numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


@dataclass(frozen=True)
class Plot:
    """A drawing, twice; `alt` says in words what is to be seen."""

    name: str
    title: str
    alt: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class Plots:
    """Drawings side by side where there is room: "wide" ones alone, "pair" two in the ratio of their widths, "small" by three."""

    plots: Sequence[Plot]
    size: str = "wide"


@dataclass(frozen=True)
class Shown:
    """One item: its words, its image (a path under the run folder), or a note where it has neither."""

    text: str = ""
    image: Annotated[str, Like(f"|{IMAGE.pattern}", f"an image in {IMAGES}")] = ""
    alt: str = ""
    note: str = ""


@dataclass(frozen=True)
class Case:
    """A query, its right answer and what came first; places are those of the right answer, None where not measured."""

    asked: Shown
    right: Shown
    before: Shown | None
    after: Shown | None
    place_before: int | None
    place_after: int | None


@dataclass(frozen=True)
class Cases:
    """Examples under a heading."""

    title: str
    cases: Sequence[Case]


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True)
class Folded:
    """A table that is opened on demand."""

    title: str
    table: Table


Block = Paragraph | Tiles | Table | Plots | Cases | Code | Folded
Section = tuple[str, Sequence[Block]]  # a heading and what stands below it


def clean(text: object) -> str:
    """A text on one line, without control characters."""
    return " ".join(_visible(str(text)).split())


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in _JOINERS or c == "\n" else " " for c in text)


def shorten(text: object) -> str:
    """`clean`, cut at a readable length."""
    line = clean(text)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def to_html(title: str, subtitle: str, sections: Sequence[Section], folder: Path) -> str:
    """The page; images are read from `folder` and put inside, nothing is loaded from elsewhere."""
    body = "\n".join(
        f"<section>\n<h2>{safe(heading)}</h2>\n" + "\n".join(_html(block, folder) for block in blocks) + "\n</section>"
        if heading
        else "\n".join(_html(block, folder) for block in blocks)
        for heading, blocks in sections
    )
    return html_page(title, f"<p>{safe(subtitle)}</p>", body, _STYLE)


def to_markdown(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The same facts; images and plots are linked where they lie below the run folder."""
    parts = [f"# {_escaped(title)}", _escaped(subtitle)]
    for heading, blocks in sections:
        parts += [f"## {_escaped(heading)}"] if heading else []
        parts += [_markdown(block) for block in blocks]
    return "\n\n".join(parts) + "\n"


def _html(block: Block, folder: Path) -> str:
    match block:
        case Paragraph(text, kind):
            return f'<p class="{kind}">{safe(text)}</p>' if kind else f"<p>{safe(text)}</p>"
        case Tiles(tiles):
            cells = (f"<div><dt>{safe(a)}</dt><dd>{safe(b)}<small>{safe(c)}</small></dd></div>" for a, b, c in tiles)
            return f'<dl class="tiles">{"".join(cells)}</dl>'
        case Table():
            return _html_table(block)
        case Plots(plots, size):
            figures = (f"<figure><figcaption>{safe(plot.title)}</figcaption>{plot.svg}</figure>" for plot in plots)
            return f'<div class="plots {size}">{"".join(figures)}</div>'
        case Cases(title, cases):
            return f"<h3>{safe(title)}</h3>\n" + "\n".join(_html_case(case, folder) for case in cases)
        case Code(text):
            return f"<pre><code>{html.escape(_visible(text))}</code></pre>"
        case Folded(title, table):
            return f"<details><summary>{safe(title)}</summary>{_html_table(table)}</details>"


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        shown = (
            f"<{tag}{' class=n' if place >= table.words else ''}>{safe(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(shown)}</tr>"

    rows = "\n".join(row(cells, "td") for cells in table.rows)
    return f'<div class="scroll" tabindex="0"><table{" class=full" if len(table.head) > 4 else ""}><thead>{row(table.head, "th")}</thead><tbody>\n{rows}\n</tbody></table></div>'


def _html_case(case: Case, folder: Path) -> str:
    cells = [("asked", "Asked", case.asked), ("right", "Right answer", case.right)]
    for name, shown, place in (("before", case.before, case.place_before), ("after", case.after, case.place_after)):
        if shown is not None:
            kind = "good" if place == 1 else "bad"
            cells.append((kind, f"First {name}{' ✓' if place == 1 else ' ✗'}", shown))
    body = "".join(
        f'<div class="{kind}"><h4>{label}</h4>{_html_item(shown, folder)}</div>' for kind, label, shown in cells
    )
    return f'<article class="case">{body}<p class="place">right answer at place <b>{_places(case)}</b></p></article>'


def _html_item(shown: Shown, folder: Path) -> str:
    out = ""
    if shown.image:
        data = base64.b64encode((Place.of(folder) / shown.image).read(_MOST_BYTES)).decode()
        out += f'<img alt="{safe(shown.alt)}" src="data:image/jpeg;base64,{data}">'
    if shown.text:
        out += f"<p dir=auto>{safe(shown.text)}</p>"
    return out + (f'<p class="note">{safe(shown.note)}</p>' if shown.note else "")


def _places(case: Case) -> str:
    return " → ".join(str(place) for place in (case.place_before, case.place_after) if place is not None)


def _escaped(text: object) -> str:
    """A text that Markdown shows as it is, in a table too."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(clean(text), quote=False))


def _markdown(block: Block) -> str:
    match block:
        case Paragraph(text, kind):
            return f"**{_escaped(text)}**" if kind.startswith("verdict") else _escaped(text)
        case Tiles(tiles):
            return _markdown_table(Table(("", "", ""), tiles))
        case Table():
            return _markdown_table(block)
        case Plots(plots):
            return "\n".join(
                f"![{_escaped(plot.title)}: {_escaped(plot.alt)}](report/{plot.name}.png)" for plot in plots
            )
        case Cases(title, cases):
            head = ["asked", "right answer", "first before", "first after", "place before", "place after"]
            rows = [_markdown_case(case) for case in cases]
            used = [place for place in range(len(head)) if any(row[place] for row in rows)]
            lines = [[head[place] for place in used], ["---"] * len(used), *([row[p] for p in used] for row in rows)]
            return f"### {_escaped(title)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
        case Code(text):
            return "\n".join(f"    {line}" for line in _visible(text).splitlines())
        case Folded(title, table):
            return f"{_escaped(title)}:\n\n{_markdown_table(table)}"


def _markdown_table(table: Table) -> str:
    rules = ["---" if place < table.words else "---:" for place in range(len(table.head))]
    lines = [map(_escaped, table.head), rules, *(map(_escaped, row) for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_case(case: Case) -> list[str]:
    def item(shown: Shown | None) -> str:
        if shown is None:
            return ""
        image = f"![{_escaped(shown.alt)}]({shown.image})" if shown.image else ""
        return " ".join(filter(None, (image, _escaped(shown.text), _escaped(shown.note))))

    places = ["" if place is None else str(place) for place in (case.place_before, case.place_after)]
    return [*map(item, (case.asked, case.right, case.before, case.after)), *places]


# The names of colours are those of plots.COLOURS, whose drawings refer to them.
_STYLE = """
:root { --before: #8791a3; --after: #2160d8; --queries: #c2570c; --targets: #0b7f78 }
@media (prefers-color-scheme: dark) { :root { --before: #8d98ab; --after: #74a7ff; --queries: #f2a25c; --targets: #4fd1c5 } }
.verdict { font-size: 1.12rem; font-weight: 600; margin: 16px 0 0 } .verdict.worse { color: var(--bad) } .verdict.better { color: var(--good) }
.plots { display: grid; gap: 14px 22px; margin: 12px 0 } .plots.small { grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)) }
.plots.wide { grid-template-columns: 1fr } .plots.pair { grid-template-columns: 46fr 72fr }
@media (max-width: 720px) { .plots.pair { grid-template-columns: 1fr } }
figure { overflow-x: auto } .wide svg { min-width: 600px } .pair figure + figure svg { min-width: 440px }
table { min-width: 50% } td { overflow-wrap: break-word } th { white-space: nowrap }
.full { width: 100% } .full td:first-child { white-space: nowrap } summary { color: var(--after) }
.case { display: flex; flex-wrap: wrap; gap: 10px; padding: 12px 0; border-top: 1px solid var(--grid) }
.case > div { flex: 1 1 150px; border: 1px solid var(--grid); border-radius: 8px; padding: 8px 12px; overflow-wrap: anywhere }
.case > .good { border-color: var(--good) } .case > .bad { border-color: var(--bad) } .case p { margin: 0 }
.case img { display: block; max-width: 100%; height: 92px; object-fit: contain; background: #fff; border-radius: 6px }
.case .place { flex: 0 0 96px; align-self: center; color: var(--muted); font-size: .85rem }
.place b { display: block; color: var(--ink); font-size: 1.05rem; font-variant-numeric: tabular-nums }
"""
