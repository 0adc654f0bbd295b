"""Figures as people read them: values, rows of changes, and sides with their measures."""

from collections.abc import Sequence

from zoo.evaluation.inspecting.tasks import COSINE, LOST, RECALL
from zoo.evaluation.results import Result


def rows_of(figures: Sequence[Result]) -> list[tuple[str, ...]]:
    """What was changed, of which data, which way, recall@1, how much is lost of it, mean cosine: a row for each change."""
    cells: dict[tuple[str, str, str], dict[str, Result]] = {}
    for figure in figures:
        cells.setdefault((figure.part, figure.dataset, figure.direction), {})[figure.metric] = figure
    return [
        (*row, *(_with_interval(found[metric]) if metric in found else "-" for metric in (RECALL, LOST, COSINE)))
        for row, found in cells.items()
    ]


def _with_interval(figure: Result) -> str:
    """A value, and of what is lost its 95 % interval: whether anything is lost at all."""
    if figure.metric != LOST or figure.low is None or figure.high is None:
        return shown(figure)
    return f"{shown(figure)} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def sides_of(figures: Sequence[Result]) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Figures of the space: data and side → measure → value; apart from them those that two sides have to do with each other."""
    alone: dict[str, dict[str, str]] = {}
    together: dict[str, dict[str, str]] = {}
    for figure in figures:
        column = f"{figure.dataset}: {figure.direction or figure.part}"
        unit = f" ({figure.unit})" if figure.unit and figure.unit != "cosine" else ""
        (together if figure.direction else alone).setdefault(column, {})[figure.metric + unit] = shown(figure)
    return alone, together


def noted(figure: Result) -> list[str]:
    """What the notes of a figure say: first over what it is, then what is to be known besides."""
    return figure.notes.split(", ") if figure.notes else [""]


def shown(figure: Result) -> str:
    """A value for people: shares in percent, what is lost of them in points, all else to two or three digits."""
    if figure.metric == LOST:
        return f"{100 * figure.value:.1f}"
    if not figure.unit:
        return f"{100 * figure.value:.1f} %"
    digits = 1 if figure.unit in ("dimensions", "skewness") else 3
    return f"{round(figure.value, digits) + 0.0:.{digits}f}"  # no -0.0
