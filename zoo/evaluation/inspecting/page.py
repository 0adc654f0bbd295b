"""An inspection as one HTML file: figures, what they mean, small drawings; light and dark, nothing loaded from anywhere."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.evaluation.inspecting import charts
from zoo.evaluation.inspecting.charts import Curve, Point
from zoo.evaluation.inspecting.tasks import (
    COSINE,
    LANGUAGE,
    LENGTH,
    LOST,
    MEASURES,
    RECALL,
    ROBUSTNESS,
    SPACE,
    UNCHANGED,
    WORDING,
)
from zoo.evaluation.inspecting.telling import rows_of, shown, sides_of
from zoo.evaluation.results import Result
from zoo.html_page import html_page, safe

if TYPE_CHECKING:
    from zoo.evaluation.inspecting.inspection import Inspection

_HEAD = ("changed", "data", "way", "recall@1", "points lost", "cosine to before")
_STYLE = """
:root { --a: #2160d8; --b: #b4530a }
@media (prefers-color-scheme: dark) { :root { --a: #74a7ff; --b: #f2a25c } }
div + h2 { margin-top: 24px } code { font-size: .92em; overflow-wrap: anywhere } figcaption small { display: block; font-weight: 400; color: var(--muted); font-size: .88rem }
dt { color: var(--muted); font-size: .85rem } dd { margin: 0 }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 18px 24px; margin: 12px 0 }
svg { max-width: 420px } svg text { font-size: 11px; fill: var(--ink) } svg .label { fill: var(--muted) }
svg .grid { stroke: var(--grid) } svg polyline { fill: none; stroke-width: 2 } svg polyline.a, svg line.a { stroke: var(--a) }
svg polyline.b, svg line.b { stroke: var(--b) } svg polyline.b { stroke-dasharray: 5 3 } svg .thin { stroke-width: 1.2 } svg .whisker { stroke: var(--ink) }
svg rect.a, svg circle.a { fill: var(--a) } svg rect.b { fill: var(--b) } svg .mark { fill-opacity: .8 }
svg polygon.a { fill: var(--a); fill-opacity: .55 } svg polygon.b { fill: var(--b); fill-opacity: .45 }
.key { color: var(--muted); font-size: .88rem } .key b { font-weight: 600 } .key .a { color: var(--a) } .key .b { color: var(--b) }
th { vertical-align: bottom } .rows td:first-child { white-space: nowrap } th.n { white-space: normal } summary { color: var(--a) }
.meaning div { padding: 6px 0; border-top: 1px solid var(--grid) } .meaning dt { color: var(--ink); font-weight: 600; font-size: .92rem }
"""


def page(found: "Inspection") -> str:
    """The whole page; texts of others are escaped."""
    sections = [_space(found), _robustness(found), _wording(found), _length(found), _left_out(found)]
    about = f"<p>reads {safe(', '.join(found.reads))} · {found.dim:,} dimensions{_when(found)}</p>"
    body = "\n".join([_tiles(found), *(section for section in sections if section)])
    return html_page(f"What {found.model} is like", about, body, _STYLE)


def _when(found: "Inspection") -> str:
    first = found.figures[0] if found.figures else None
    said = [first.date, f"<code>{safe(first.source)}</code>" if first.source else ""] if first else []
    return "".join(f" · {part}" for part in said if part)


def _tiles(found: "Inspection") -> str:
    """What to see first: one figure of each question, those of the space of the first data."""
    tiles = []
    first = next((figure.dataset for figure in found.of(SPACE)), "")
    for metric in ("modality gap", "isoscore", "hubness"):
        same = [figure for figure in found.of(SPACE) if (figure.metric, figure.dataset) == (metric, first)]
        if same:
            worst = min(same, key=lambda f: f.value) if metric == "isoscore" else max(same, key=lambda f: f.value)
            tiles.append((metric, shown(worst), _place(worst)))
    if lost := [figure for figure in found.of(ROBUSTNESS) if figure.metric == LOST]:
        worst = max(lost, key=lambda f: f.value)
        tiles.append(("most is lost by", worst.part, f"{shown(worst)} points of recall@1, {_place(worst, part=False)}"))
    if told := [figure for figure in found.of(LANGUAGE) if figure.metric == RECALL]:
        read = sum(figure.value >= 0.5 for figure in told)
        tiles.append(
            ("languages", f"{read} of {len(told)}", "whose names find their English name first in half the cases")
        )
    cells = (f"<div><dt>{safe(a)}</dt><dd>{safe(b)}<small>{safe(c)}</small></dd></div>" for a, b, c in tiles)
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _space(found: "Inspection") -> str:
    if not (figures := found.of(SPACE)):
        return ""
    over = "; ".join(dict.fromkeys(f"{f.dataset}: {f.notes}" for f in figures if f.direction)) or figures[0].notes
    drawn = [_figure(one.name, "each on the two main axes of both", _plane(one)) for one in found.planes]
    drawn += [
        _figure(one.name, "cosines of pairs that belong together, and of all others", _spread(one))
        for one in found.spreads
    ]
    measured = dict.fromkeys(figure.metric for figure in figures)
    meanings = "".join(
        f"<div><dt>{safe(m)}</dt><dd>{safe(MEASURES[m].meaning)}</dd></div>" for m in measured if m in MEASURES
    )
    parts = [
        "<h2>The space</h2>",
        f'<div class="plots">{"".join(drawn)}</div>' if drawn else "",
        *(_pivot(cells) for cells in sides_of(figures) if cells),
        f'<p class="note">{safe(over)}</p>',
        f'<details><summary>How to read the measures</summary><dl class="meaning">{meanings}</dl></details>',
    ]
    return _section(parts)


def _plane(one) -> str:  # of zoo.evaluation.inspecting.space
    (left, _), (right, _) = one.sides
    return charts.plane(f"{left} and {right} of {one.name}, seen from where they differ most", one.sides) + _key(
        left, right
    )


def _spread(one) -> str:  # of zoo.evaluation.inspecting.space
    return charts.spread(f"cosines in {one.name}", one.edges, one.right, one.wrong) + _key(
        "belong together", "all others"
    )


def _robustness(found: "Inspection") -> str:
    figures = found.of(ROBUSTNESS)
    if not figures:
        return ""
    drawn = []
    for data, way in dict.fromkeys((figure.dataset, figure.direction) for figure in figures):
        mine = [figure for figure in figures if (figure.dataset, figure.direction) == (data, way)]
        for name in dict.fromkeys(f.part.split(", ")[0] for f in mine if f.part != UNCHANGED):
            some = [f for f in mine if f.part == UNCHANGED or f.part.startswith(f"{name}, ")]
            recall = [_point(f) for f in some if f.metric == RECALL]
            cosine = [Point("as it is", 1.0), *(_point(f) for f in some if f.metric == COSINE)]
            lines = [Curve("recall@1", "a", recall), Curve("cosine to before", "b", cosine)]
            drawn.append(
                _figure(
                    f"{name}: {data}, {way}",
                    mine[0].notes,
                    charts.curves(f"{name} of {data}, {way}", lines, percent=True),
                )
            )
    parts = [
        "<h2>What changes to an input cost</h2>",
        _key("recall@1", "mean cosine to the input before it was changed"),
        f'<div class="plots">{"".join(drawn)}</div>',
        f"<details><summary>All figures</summary>{_table(_HEAD, rows_of(figures), {3, 4, 5})}</details>",
    ]
    return _section(parts)


def _wording(found: "Inspection") -> str:
    said, told = found.of(WORDING), [figure for figure in found.of(LANGUAGE) if figure.metric == RECALL]
    parts = []
    if said:
        rows = [(row[0] or "in other words", *row[1:]) for row in rows_of(said)]
        rows = [("by name" if row[0] == UNCHANGED else row[0], *row[1:]) for row in rows]
        parts += [
            "<h2>In other words</h2>",
            f"<p>{safe(said[0].notes)}.</p>",
            _table(("asked", *_HEAD[1:-1], "cosine to the name"), rows, {3, 4, 5}),
        ]
    if told:
        drawn = charts.bars("recall@1 by language", [_point(figure) for figure in told])
        rows = [(f.part, shown(f), f.notes) for f in told]
        parts += [
            "<h2>In other languages</h2>",
            "<p>How often the name of a thing in another language finds its English name first.</p>",
            _figure("recall@1 by language", "with its 95 % interval", drawn),
            f"<details><summary>All figures</summary>{_table(('language', 'recall@1', 'over'), rows, {1})}</details>",
        ]
    return _section(parts) if parts else ""


def _length(found: "Inspection") -> str:
    if not (figures := found.of(LENGTH)):
        return ""
    points = [Point(figure.part.removesuffix(" words"), figure.value) for figure in figures]
    drawn = charts.curves("mean cosine by length", [Curve("mean cosine", "a", points)])
    rows = [(figure.part, shown(figure), figure.notes) for figure in figures]
    parts = [
        "<h2>By length</h2>",
        "<p>Mean cosine of different texts, the same ones cut to so many words. Where it climbs, long texts are all alike.</p>",
        _figure("mean cosine by length", f"{figures[0].dataset}; words", drawn),
        f"<details><summary>All figures</summary>{_table(('length', 'mean cosine', 'over'), rows, {1})}</details>",
    ]
    return _section(parts)


def _left_out(found: "Inspection") -> str:
    if not found.left_out:
        return ""
    rows = list(found.left_out.items())
    return _section(["<h2>Not measured</h2>", _table(("what", "why"), rows, set())])


def _point(figure: Result) -> Point:
    label = "as it is" if figure.part == UNCHANGED else figure.part.split(", ")[-1]
    return Point(label, figure.value, figure.low, figure.high)


def _place(figure: Result, part: bool = True) -> str:
    return ", ".join(filter(None, (figure.dataset, figure.part if part else "", figure.direction)))


def _key(first: str, second: str) -> str:
    return f'<p class="key"><b class="a">●</b> {safe(first)} &nbsp; <b class="b">■</b> {safe(second)}</p>'


def _figure(title: str, note: str, drawn: str) -> str:
    return f"<figure><figcaption>{safe(title)}<small>{safe(note)}</small></figcaption>{drawn}</figure>"


def _section(parts: Iterable[str]) -> str:
    return "<section>" + "\n".join(part for part in parts if part) + "</section>"


def _pivot(rows: Mapping[str, Mapping[str, str]]) -> str:
    """A row for each data and side, a column for each measure."""
    names = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    listed = [(row, *(cells.get(name, "") for name in names)) for row, cells in rows.items()]
    return _table(("vectors", *names), listed, set(range(1, len(names) + 1)), "rows")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int], kind: str = "") -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = (' class="n"' if place in numbers else "" for place in range(len(cells)))
        return (
            "<tr>" + "".join(f"<{tag}{kind}>{safe(c)}</{tag}>" for c, kind in zip(cells, kinds, strict=True)) + "</tr>"
        )

    body = "\n".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll" tabindex="0"><table class="{kind}"><thead>{row(head, "th")}</thead><tbody>\n{body}\n</tbody></table></div>'
