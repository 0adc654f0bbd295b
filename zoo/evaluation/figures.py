"""Measured results → the tables of a card."""

from collections.abc import Sequence

from zoo.evaluation.results import BEFORE, DIFFERENCE, Result

AUTHORS = "## Published numbers"
PUBLISHED = (
    "As published, not measured by us; by the authors of the model themselves where the source says nothing else. Figures "
    "of two protocols are not comparable."
)


def figures(results: Sequence[Result]) -> str:
    """Markdown: tables of what this project measured, then apart from them what the authors state; "" of nothing."""
    parts: list[str] = []
    if ours := [result for result in results if result.ours]:
        parts += ["## Figures", *_tables(ours), _provenance(ours)]
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


def _tables(results: Sequence[Result]) -> list[str]:
    """One heading a task, under it one table for all rows that have the same figures."""
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
            parts += [_table({row: c for row, c in by_row.items() if tuple(c) == columns}) for columns in metrics]
        if any(result.low is not None for result in chosen):
            parts.append("In brackets the 95 % interval.")
    if measured := [result for result in results if result.unit]:
        rows = [
            [
                result.task,
                named(result.dataset, result.protocol, result.part),
                result.metric,
                f"{_plain(result.value)} {result.unit}",
            ]
            for result in measured
        ]
        noted = any(result.notes for result in measured)
        rows = [[*row, *([result.notes] if noted else [])] for row, result in zip(rows, measured, strict=True)]
        parts.append("### Size and speed" if {r.task for r in measured} <= {"size", "speed"} else "### Other figures")
        parts.append(_markdown(["task", "of", "figure", "value", *(["measured on"] if noted else [])], rows, {3}))
    return parts


def _table(rows: dict[tuple[str, str, str, str, str], dict[str, Result]]) -> str:
    """Rows of (data, protocol, part, direction, notes) → the same metrics each; what no row has gets no column."""
    head = ["data", "protocol", "part", "direction", "over"]
    kept = [place for place in range(len(head)) if place == 0 or any(row[place] for row in rows)]
    metrics = list(next(iter(rows.values())))
    lines = [
        [*(row[place] or ("all" if place == 2 else "") for place in kept), *map(_value, cells.values())]
        for row, cells in rows.items()
    ]
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
