"""What a comparison found, in words: sentences, and tables for a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.comparing.differences import is_clear
from zoo.errors import NothingFitsError

if TYPE_CHECKING:
    from zoo.comparing.comparison import Comparison, Entry, Key
    from zoo.comparing.scoring import Scores
    from zoo.evaluation.metrics import Difference, Interval

UNCLEAR = "no clear difference"
_SHOWN = 5


def percent(share: float, sign: bool = False) -> str:
    """A share as people read it: 61.5."""
    return f"{100 * share:{'+' if sign else ''}.1f}"


def with_interval(told: "Interval") -> str:
    """A share with its interval: 61.5 (58.0 to 64.9)."""
    return f"{percent(told.value)} ({percent(told.low)} to {percent(told.high)})"


def changed(told: "Difference") -> str:
    """A difference with its interval, in points of percent; or that it is none."""
    if not is_clear(told):
        return f"{UNCLEAR} ({percent(told.low, True)} to {percent(told.high, True)})"
    return f"{percent(told.value, True)} ({percent(told.low, True)} to {percent(told.high, True)})"


def titled(scores: "Scores") -> str:
    """What figures are of: "photos, image → text"."""
    split = scores.split if scores.split != "all" else ""
    return ", ".join(filter(None, (scores.dataset, scores.part, split, scores.direction or scores.task)))


def number(value: float | None, digits: int = 3) -> str:
    """A cost: 3.21, 107, 1,204; "–" for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.{digits}g}"


def weights(count: int) -> str:
    """151277313 as 151M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def verdict(found: "Comparison") -> list[str]:
    """Which model to take, a sentence each: the best, what is not clearly worse, and who is out of the budget."""
    try:
        choice = found.choice()
    except NothingFitsError as error:
        return [str(error)[0].upper() + str(error)[1:] + "."]
    entries = {entry.name: entry for entry in found.entries}
    best, budget = entries[choice.name], f" within {found.budget}" if found.budget else ""
    if len(found.entries) == 1 and not found.budget:
        return [f"{choice.name}: {with_interval(found.quality(best))}."]
    said = [f"Take {choice.name}{budget}: {with_interval(found.quality(best))}."]
    if choice.beside:
        faster = [name for name in choice.beside if _faster(entries[name], best)]
        told = f"Not clearly worse: {_listed(choice.beside)}"
        said.append(told + (f"; {_listed(faster)} answers faster." if faster else "."))
    elif len(found.ranked) > 1:
        others = [entry for entry in found.ranked if entry.name != choice.name and entry.name not in choice.refused]
        said += [f"It is clearly better than {_listed([entry.name for entry in others])}."] if others else []
    said += [
        f"Out of the budget: {name} ({why})."
        for name, why in choice.refused.items()
        if name in entries and not entries[name].unread
    ]
    return said


def _faster(entry: "Entry", other: "Entry") -> bool:
    return entry.cost is not None and other.cost is not None and entry.cost.faster(other.cost)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def overview(found: "Comparison") -> tuple[list[str], list[list[str]]]:
    """Head and a row for each model, the best first: quality, costs, size and licence."""
    head = [
        "model",
        "quality",
        "against the best",
        "ms a query",
        "items/s",
        "MB of memory",
        "weights",
        "dim",
        "licence",
    ]
    ranked = found.ranked
    rows = []
    for entry in [*ranked, *(entry for entry in found.entries if entry.unread)]:
        cost, whole = entry.cost, not entry.unread
        costs = ("–",) * 3 if cost is None else (number(cost.ms), number(cost.rate), number(cost.mb))
        against = "" if not whole or entry is ranked[0] else changed(found.difference(ranked[0], entry))
        quality = with_interval(found.quality(entry)) if whole else "not of all data"
        rows.append([entry.name, quality, against, *costs, weights(entry.params), str(entry.dim), entry.spec.license])
    kept = [place for place in range(len(head)) if place in (0, 1) or any(row[place] not in ("", "–") for row in rows)]
    return [head[place] for place in kept], [[row[place] for place in kept] for row in rows]


def figures(found: "Comparison", key: "Key") -> tuple[list[str], list[list[str]]]:
    """Head and a row for each model of one question, the best first: every figure with its interval, and how far it is apart."""
    entries = [entry for entry in (*found.ranked, *(e for e in found.entries if e.unread)) if key in entry.scores]
    first = entries[0]
    measures = first.scores[key].measures
    headline = first.scores[key].headline or measures[0]
    rows = []
    for entry in entries:
        told = [with_interval(entry.scores[key].figures[measure]) for measure in measures]
        apart = "" if entry is first else changed(found.differences(first, entry, key)[headline])
        rows.append([entry.name, *told, apart])
    head = ["model", *measures, f"{headline} against {first.name}"]
    return (head, rows) if len(rows) > 1 else (head[:-1], [row[:-1] for row in rows])


def table(found: "Comparison", *, choose: bool = True) -> str:
    """All tables, for a terminal.

    Args:
        choose: say which model to take, too.
    """
    parts = [_text(*overview(found))] if choose or len(found.entries) > 1 else []
    for key in found.keys:
        scores = next(entry.scores[key] for entry in found.entries if key in entry.scores)
        parts.append(f"{titled(scores)}: {scores.notes}\n\n{_text(*figures(found, key))}")
    told = [f"{name} is left out: {why}" for name, why in found.left_out.items()]
    told += [f"{entry.name}, {data}: {why}" for entry in found.entries for data, why in entry.unread.items()]
    told += [f"{entry.name}: {note}" for entry in found.entries for note in entry.notes]
    told += [f"left out: {row}" for row in found.bad[:_SHOWN]]
    told += [f"and {len(found.bad) - _SHOWN:,} more"] * (len(found.bad) > _SHOWN)
    said = (" ".join(verdict(found)), found.command()) if choose else ()
    return "\n\n".join(filter(None, (*parts, "\n".join(told), *said)))


def _text(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text."""
    from rich.cells import cell_len

    cells = [[_one_line(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
