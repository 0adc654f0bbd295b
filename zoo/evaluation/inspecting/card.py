"""An inspection as the block "What it is like" of a model's card."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.evaluation.inspecting.tasks import (
    COSINE,
    LANGUAGE,
    LENGTH,
    LOST,
    RECALL,
    ROBUSTNESS,
    SPACE,
    UNCHANGED,
    WORDING,
)
from zoo.evaluation.inspecting.telling import noted, shown, sides_of
from zoo.evaluation.results import Result

if TYPE_CHECKING:
    from zoo.evaluation.inspecting.inspection import Inspection

BLOCK = "inspected"  # the name of its markers


def markdown(found: "Inspection") -> str:
    """Tables of the space and of what changes cost, a line each for wording, languages and length, and how it was measured."""
    parts = ["## What it is like", *_space(found), *_changes(found), *_lines(found)]
    if found.left_out:
        parts.append("Not measured: " + "; ".join(f"{what} ({why})" for what, why in found.left_out.items()) + ".")
    dates = [figure.date for figure in found.figures if figure.date]
    source = next((figure.source for figure in found.figures if figure.source), "")
    when = f"Measured {max(dates)}. " if dates else ""
    again = f"Again with `{source}`; " if source else ""
    return "\n\n".join([*parts, f"{when}{again}docs/inspecting.md says how to read the figures."])


def _space(found: "Inspection") -> list[str]:
    return [_rows("vectors", cells) for cells in sides_of(found.of(SPACE)) if cells]


def _changes(found: "Inspection") -> list[str]:
    """Recall@1 of each change, how much of it is lost, and the cosine to before: a row for each change."""
    cells: dict[str, dict[str, str]] = {}
    by_row: dict[tuple[str, str], dict[str, Result]] = {}
    for figure in found.of(ROBUSTNESS):
        by_row.setdefault((f"{figure.dataset}: {figure.direction}", figure.part), {})[figure.metric] = figure
    for (column, part), measured in by_row.items():
        cells.setdefault(column, {})[part] = " / ".join(
            shown(measured[metric]) for metric in (RECALL, LOST, COSINE) if metric in measured
        )
    if not cells:
        return []
    counts = "; ".join(dict.fromkeys(f"{f.dataset}: {f.notes}" for f in found.of(ROBUSTNESS)))
    note = (
        f"What a change to the input costs: recall@1 / points lower than unchanged / mean cosine to before ({counts})."
    )
    return [note, _table("change", cells)]


def _lines(found: "Inspection") -> list[str]:
    lines = []
    if said := {(f.part, f.metric): f for f in found.of(WORDING)}:
        named, free = said.get((UNCHANGED, RECALL)), said[("", RECALL)]
        against = f", by its plain name {shown(named)}" if named else ""
        lines.append(
            f"**In other words**: {shown(free)} of free-form queries find what they mean first{against} ({free.direction}; "
            f"{free.notes})."
        )
    if told := [figure for figure in found.of(LANGUAGE) if figure.metric == RECALL]:
        each = ", ".join(f"{f.part} {shown(f)}{_besides(f, 'cannot be read')}" for f in told)
        lines.append(
            f"**In other languages**, names that find their English name first, of {noted(told[0])[0]}: {each}."
        )
    if lengths := found.of(LENGTH):
        each = ", ".join(f"{f.part.removesuffix(' words')}: {shown(f)}{_besides(f, 'truncated')}" for f in lengths)
        over = f"{lengths[0].dataset}, {noted(lengths[0])[0]}"
        lines.append(f"**By length**, mean cosine of different texts ({over}) of so many words: {each}.")
    return lines


def _besides(figure: Result, word: str) -> str:
    """What a figure's notes say with this word, in brackets; "" where they do not."""
    said = [note for note in noted(figure)[1:] if word in note]
    return f" ({said[0]})" if said else ""


def _rows(corner: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    """A row for each data and side, a column for each measure."""
    names = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    turned = {name: {row: cells[name] for row, cells in rows.items() if name in cells} for name in names}
    return _table(corner, turned)


def _table(corner: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    rows = list(dict.fromkeys(row for cells in columns.values() for row in cells))
    lines = [_line([corner, *columns]), _line(["---", *["---:"] * len(columns)])]
    return "\n".join([*lines, *(_line([row, *(cells.get(row, "") for cells in columns.values())]) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    # A bar or a line break inside a cell would end it.
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
