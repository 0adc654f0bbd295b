"""Measured results → the tables of a card."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.evaluation.results import BEFORE, DIFFERENCE, Result

Beside = Mapping[str, Mapping[tuple[Any, ...], Result]]  # name → key of a result → the result

AUTHORS = "## Published numbers"
PUBLISHED = (
    "As published, not measured by us; by the authors of the model themselves where the source says nothing else. Figures "
    "of two protocols are not comparable."
)


def figures(results: Sequence[Result], beside: Mapping[str, Sequence[Result]] | None = None) -> str:
    """Markdown: tables of what this project measured, then apart from them what the authors state; "" of nothing.

    Args:
        beside: figures of other models by their names: a column of each stands beside the model's own where both have
            measured the same.
    """
    parts: list[str] = []
    if ours := [result for result in results if result.ours]:
        others = {name: {one.key: one for one in theirs if one.ours} for name, theirs in (beside or {}).items()}
        parts += ["## Figures", *_tables(ours, others), _provenance(ours)]
        parts += [_other(name, list(theirs.values())) for name, theirs in others.items()]
    if theirs := [result for result in results if not result.ours]:
        parts += [AUTHORS, PUBLISHED]
        # One table a source: what was not measured in one way is not comparable.
        for source in dict.fromkeys(result.source for result in theirs):
            same = [result for result in theirs if result.source == source]
            parts += [f"Not run by us: {source or 'the source was not noted'}", *_tables(same)]
    return "\n\n".join(part for part in parts if part)


def _provenance(results: Sequence[Result]) -> str:
    dates = sorted({result.date for result in results if result.date})
    when = f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}. " if dates else ""
    commands = list(dict.fromkeys(result.source for result in results if result.source))
    again = "Again with " + ", ".join(f"`{command}`" for command in commands) + "." if commands else ""
    return (when + again).strip()


def _other(name: str, results: Sequence[Result]) -> str:
    return f"Of {name}, all of whose figures stand on [its card]({name}.md): {_provenance(results)}" if results else ""


def _tables(results: Sequence[Result], beside: Beside | None = None) -> list[str]:
    """One heading a task, under it one table for all rows that have the same figures."""
    beside = beside or {}
    parts: list[str] = []
    shares = [result for result in results if not result.unit]
    for task, split in dict.fromkeys((result.task, result.split) for result in shares):
        chosen = [result for result in shares if (result.task, result.split) == (task, split)]
        parts.append(f"### {task}{f', {split} split' if split else ''} (percent)")
        # Rows that have the same figures share a table.
        by_row: dict[tuple[str, str, str, str, str], dict[str, Result]] = {}
        for result in chosen:
            row = (result.dataset, result.protocol, result.part, result.direction, result.notes)
            by_row.setdefault(row, {})[result.metric] = result
        if any(result.part == BEFORE for result in chosen):
            parts.append(_compared(chosen))
        else:
            metrics = dict.fromkeys(tuple(cells) for cells in by_row.values())
            parts += [
                _table({row: c for row, c in by_row.items() if tuple(c) == columns}, beside) for columns in metrics
            ]
        if any(result.low is not None for result in chosen):
            parts.append("In brackets the 95 % interval.")
    if measured := [result for result in results if result.unit]:
        parts.append("### Size and speed" if {r.task for r in measured} <= {"size", "speed"} else "### Other figures")
        parts.append(_plain_table(measured, beside))
    return parts


def _plain_table(results: Sequence[Result], beside: Beside) -> str:
    """A row for each figure that has a unit."""
    others = [name for name, theirs in beside.items() if any(result.key in theirs for result in results)]
    noted = any(result.notes for result in results)
    rows = []
    for result in results:
        same = [beside[name].get(result.key) for name in others]
        values = [f"{_plain(one.value)} {one.unit}" if one else "" for one in (result, *same)]
        row = [result.task, named(result.dataset, result.protocol, result.part), result.metric, *values]
        rows.append([*row, *([result.notes] if noted else [])])
    head = ["task", "of", "figure", "value", *(f"of {name}" for name in others), *(["measured on"] if noted else [])]
    return _markdown(head, rows, set(range(3, 4 + len(others))))


def _table(rows: dict[tuple[str, str, str, str, str], dict[str, Result]], beside: Beside) -> str:
    """Rows of (data, protocol, part, direction, notes) → the same metrics each; what no row has gets no column."""
    found = [result for cells in rows.values() for result in cells.values()]
    others = {name: theirs for name, theirs in beside.items() if any(result.key in theirs for result in found)}
    head = ["data", "protocol", "part", "direction", "over"]
    kept = [place for place in range(len(head)) if place == 0 or any(row[place] for row in rows)]
    metrics = [title for metric in next(iter(rows.values())) for title in (metric, *(f"of {name}" for name in others))]
    lines = []
    for row, cells in rows.items():
        values = [one for cell in cells.values() for one in (cell, *(them.get(cell.key) for them in others.values()))]
        first = [row[place] or ("all" if place == 2 else "") for place in kept]
        lines.append([*first, *(_value(one) if one else "" for one in values)])
    first = [head[place] for place in kept]
    return _markdown([*first, *metrics], lines, set(range(len(first), len(first) + len(metrics))))


def _compared(results: Sequence[Result]) -> str:
    """A row for each figure, side by side before and after training, and how much it changed."""
    parts = dict.fromkeys((BEFORE, "", DIFFERENCE))
    parts |= dict.fromkeys(result.part for result in results)
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for result in results:
        rows.setdefault((result.direction, result.metric, result.dataset), {})[result.part] = _value(result)
    several = len({data for *_, data in rows}) > 1
    head = [*(["data"] if several else []), "direction", "metric"]
    lines = [
        [*([data] if several else []), way, metric, *(cells.get(part, "") for part in parts)]
        for (way, metric, data), cells in rows.items()
    ]
    over = "; ".join(dict.fromkeys(result.notes for result in results if result.notes))
    table = _markdown(
        [*head, *(part or "after training" for part in parts)], lines, set(range(len(head), len(head) + len(parts)))
    )
    return table + (f"\n\nOver {over}." if over else "")


def named(*names: str) -> str:
    """Names that are not empty, as one."""
    return ", ".join(name for name in names if name)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> str:
    rule = ["---:" if place in numbers else "---" for place in range(len(head))]
    # A bar or a line break inside a cell would end it.
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in (list(head), rule, *cells))


def _value(result: Result) -> str:
    """A share in percent: ours to one decimal, the authors' to as many as they print."""
    sign = "+" if result.part == DIFFERENCE else ""

    def percent(share: float) -> str:
        if result.ours:
            return f"{100 * share:{sign}.1f}"
        printed = f"{round(100 * share, 6):{sign}.10g}"
        return printed if "." in printed else f"{printed}.0"

    if result.low is None or result.high is None:
        return percent(result.value)
    return f"{percent(result.value)} ({percent(result.low)} to {percent(result.high)})"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1000 else f"{value:,.1f}"
