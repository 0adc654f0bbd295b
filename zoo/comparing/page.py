"""The page of a comparison: one HTML file with everything inside, escaped, that loads nothing."""

import html
import os
import platform
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zoo._version import __version__
from zoo.comparing.budget import within
from zoo.comparing.cases import Case, apart, shown
from zoo.comparing.drawing import Point, intervals, pareto
from zoo.comparing.telling import figures, number, overview, titled, verdict
from zoo.evaluation.results import today
from zoo.html_page import html_page, safe

if TYPE_CHECKING:
    from zoo.comparing.comparison import Comparison, Entry, Key
    from zoo.inputs.item import Item

OTHERS = 3  # models that are set against the best, one query after the other
QUESTIONS = 4  # of which such queries are shown
_INTERVAL = re.compile(r"(.+) \((.+ to .+)\)")


def page(found: "Comparison") -> str:
    """The page, as text."""
    data = ", ".join(dict.fromkeys(question.source.name for question in found.questions))
    title = f"Which model for {data}?"
    models = f"{len(found.entries)} model{'s' if len(found.entries) != 1 else ''}"
    told = f"{models} compared on {today()} · {_machine()} · zoo {__version__}"
    sections = [_summary(found), *_questions(found), *_differing(found), _left_out(found), _again(found)]
    return html_page(title, f"<p>{safe(told)}</p>", "\n".join(filter(None, sections)), _STYLE)


def _machine() -> str:
    cores = os.cpu_count() or 1
    return f"{platform.system()} {platform.machine()}, {cores} core{'s' if cores > 1 else ''}"


def _summary(found: "Comparison") -> str:
    """Which one to take, the table of all, and quality against cost."""
    first, *others = verdict(found)
    said = f'<p class="verdict">{safe(first)}</p>' + "".join(f"<p>{safe(one)}</p>" for one in others)
    head, rows = overview(found)
    ranked = found.ranked
    drawn = [_plane(found, "ms", "milliseconds for one query"), _plane(found, "mb", "MB of memory while embedding")]
    if not any(drawn) and len(ranked) > 1:
        told = [(entry.name, *found.quality(entry)) for entry in ranked]
        drawn = [_figure("Quality, with 95 % intervals", intervals(told, "quality of every model"))]
    plots = f'<div class="plots">{"".join(drawn)}</div>' if any(drawn) else ""
    note = (
        "Quality is the mean of the headline figures below, in percent: nDCG@10 of retrieval (recall@1 of the packs), accuracy, Spearman's "
        "correlation, average precision. In brackets the 95 % interval; differences are paired over the same rows."
    )
    costs = [entry.cost for entry in found.entries if entry.cost is not None]
    if costs:
        note += f" Costs were measured here, in turn: one query is {costs[0].asked}, items are {costs[0].ranked}; threads: {costs[0].threads}."
    return (
        f"<section>{said}{_table(head, rows)}{plots}<p class=note>{safe(note)}</p>{_command(found.command())}</section>"
    )


def _plane(found: "Comparison", cost: str, unit: str) -> str:
    """Quality against one cost, of the models of which it is known."""
    measured = [entry for entry in found.ranked if entry.cost is not None and getattr(entry.cost, cost)]
    if len(measured) < 2:
        return ""
    inside = {entry.name for entry in within(measured, found.budget)[0]}
    points = [
        Point(entry.name, getattr(entry.cost, cost), *found.quality(entry), entry.name in inside) for entry in measured
    ]
    told = "; ".join(f"{p.name} {100 * p.value:.1f} % at {number(p.cost)}" for p in points)
    return _figure(f"Quality in percent against {unit}", pareto(points, f"quality against {unit}: {told}", unit))


def _figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{safe(title)}</figcaption>{svg}</figure>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{safe(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: str) -> str:
    """A figure, and its interval in small print below it."""
    match = _INTERVAL.fullmatch(cell)
    return safe(cell) if match is None else f"{safe(match[1])} <small>{safe(match[2])}</small>"


def _command(*commands: str) -> str:
    return f"<pre><code>{'&#10;'.join(safe(one) for one in commands)}</code></pre>"


def _questions(found: "Comparison") -> Iterator[str]:
    """All figures of every question, each way, with the commands that give them again."""
    for key in found.keys:
        entries = [entry for entry in (*found.ranked, *(e for e in found.entries if e.unread)) if key in entry.scores]
        scores = entries[0].scores[key]
        commands = dict.fromkeys(found.command(key, entry) for entry in entries)
        drawn = ""
        if len(entries) > 1 and scores.headline:
            rows = [(entry.name, *entry.scores[key].figures[scores.headline]) for entry in entries]
            drawn = f'<div class="plots">{_figure(scores.headline, intervals(rows, f"{scores.headline} of every model"))}</div>'
        yield (
            f"<section><h2>{safe(titled(scores))}</h2><p class=note>{safe(scores.notes)}</p>{_table(*figures(found, key))}{drawn}"
            f"<details><summary>The commands that give these figures</summary>{_command(*commands)}</details></section>"
        )


def _differing(found: "Comparison") -> Iterator[str]:
    """Queries that the best model finds and another does not, and the other way round."""
    ranked = found.ranked
    if len(ranked) < 2:
        return
    best, asked = ranked[0], 0
    for key in found.keys:
        others = [other for other in ranked[1 : 1 + OTHERS] if key in other.scores]
        parts = [_pair(found, key, best, other, place > 0) for place, other in enumerate(others)]
        parts = [part for part in parts if part]
        if parts and asked < QUESTIONS:
            asked += 1
            scores = best.scores[key]
            yield f"<section><h2>Where they differ: {safe(titled(scores))}</h2>{''.join(parts)}</section>"


def _pair(found: "Comparison", key: "Key", entry: "Entry", other: "Entry", folded: bool) -> str:
    told = apart(found, key, entry, other)
    if told is None or not told.cases:
        return ""
    counts = f"{entry.name} alone is right on {told.first:,} of {told.total:,}, {other.name} alone on {told.second:,}"
    cases = "".join(_case(case, (entry.name, other.name)) for case in told.cases)
    names = f"{safe(entry.name)} and {safe(other.name)}"
    if folded:
        return f"<details><summary>{names}: {safe(counts)}</summary>{cases}</details>"
    return f"<h3>{names}</h3><p class=note>{safe(counts)}</p>{cases}"


def _case(case: Case, names: tuple[str, str]) -> str:
    cells = [("", "Asked", case.asked)] + ([("", "Right", case.right)] if case.right is not None else [])
    for name, item, rank in zip(names, case.found, case.ranks, strict=True):
        kind, mark = ("good", "✓") if rank == 1 else ("bad", f"✗ right at place {rank:,}")
        cells.append((kind, f"First by {name} {mark}", item))
    body = "".join(f'<div class="{kind}"><h4>{safe(label)}</h4>{_item(item)}</div>' for kind, label, item in cells)
    return f"<article>{body}</article>"


def _item(item: "Item") -> str:
    parts = {
        "image": lambda value: f'<img alt="" src="{html.escape(value, quote=True)}">',
        "text": lambda value: f"<p dir=auto>{safe(value)}</p>",
        "note": lambda value: f"<p class=note>{safe(value)}</p>",
    }
    return "".join(parts[kind](value) for kind, value in shown(item))


def _left_out(found: "Comparison") -> str:
    """Models and rows that were not measured, each with its reason; and what else is to be known of those that were."""
    rows = [(name, "all data", why) for name, why in found.left_out.items()]
    rows += [(entry.name, data, why) for entry in found.entries for data, why in entry.unread.items()]
    rows += [(entry.name, "", note) for entry in found.entries for note in entry.notes]
    models = _table(("model", "data", "why"), rows) if rows else ""
    bad = "".join(f"<li>{safe(one)}</li>" for one in found.bad[:50])
    more = f"<li>and {len(found.bad) - 50:,} more</li>" if len(found.bad) > 50 else ""
    listed = (
        f"<details><summary>{len(found.bad):,} rows or items left out</summary><ul>{bad}{more}</ul></details>"
        if bad
        else ""
    )
    return f"<section><h2>What was left out, and notes</h2>{models}{listed}</section>" if models or listed else ""


def _again(found: "Comparison") -> str:
    """The models as they are, for whoever wants to know which weights these were."""
    rows = []
    for entry in found.entries:
        spec = entry.spec
        reads, languages = ", ".join(sorted(spec.modalities)), spec.language_names
        rows.append(
            [
                entry.name,
                reads,
                languages,
                spec.revision or ("in the package" if spec.packaged else "–"),
                spec.paper or "–",
            ]
        )
    return f"<section><h2>The models</h2>{_table(('model', 'reads', 'languages', 'revision', 'paper'), rows)}</section>"


_STYLE = """
:root { --mark: #2160d8; --out: #8791a3 }
@media (prefers-color-scheme: dark) { :root { --mark: #74a7ff; --out: #8d98ab } }
p { overflow-wrap: anywhere } .verdict { font-size: 1.2rem; font-weight: 600; margin: 0 0 8px }
table { width: 100% } th, td { white-space: nowrap } td small { display: block; color: var(--muted); font-size: .8rem; font-weight: 400 }
td:first-child { font-weight: 600 } td:last-child { padding-right: 0; white-space: normal; min-width: 9em }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 14px 26px; margin: 14px 0 }
figure { max-width: 520px; min-width: 0 } figcaption { margin-bottom: 4px }
svg { font-size: 12px } svg text { fill: var(--ink) } svg .tick, svg .axis { fill: var(--muted) }
svg .grid { stroke: var(--grid) } svg .whisker { stroke: var(--mark); stroke-width: 2; opacity: .55 } svg .point { fill: var(--mark) }
svg .out { fill: none; stroke: var(--out); stroke-width: 2 } svg .front { fill: none; stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 4 3 }
summary { color: var(--mark); padding: 4px 0 } ul { padding-left: 20px; overflow-wrap: anywhere }
article { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px; padding: 12px 0; border-top: 1px solid var(--grid) }
article > div { border: 1px solid var(--grid); border-radius: 8px; padding: 8px 12px; overflow-wrap: anywhere; min-width: 0 }
article .good { border-color: var(--good) } article .bad { border-color: var(--bad) } article p { margin: 0 }
article img { display: block; max-width: 100%; height: 110px; object-fit: contain; border-radius: 6px; background: #fff }
@media (max-width: 560px) { article { grid-template-columns: 1fr 1fr } }
"""
