"""The board: figures of many models on one task, as their cards state them, with filters."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from zoo.errors import UnknownModelError
from zoo.evaluation.cards import CARDS
from zoo.evaluation.results import Result, read_results
from zoo.modalities import MODALITIES
from zoo.registry import get_spec
from zoo.spec import ModelSpec

from .widgets import TABLE_CSS, user_error

HEAD = ("model", "measured here", "by its authors", "weights", "licence", "reads")
_NUMBERS = HEAD[1:4]
NOTE = (
    "Figures stand on the models' cards, each with its source. What was measured here and what authors state have a column "
    "each: they come from other code and are not compared with each other."
)


class Line(NamedTuple):
    """A model on the board: its facts, and the two figures, of which one may be missing."""

    spec: ModelSpec
    ours: Result | None
    theirs: Result | None


def task_of(result: Result) -> str:
    """What a figure is of, as the board lists it: "COCO · text → image · recall@1"."""
    parts = (result.dataset, result.direction, result.metric, result.protocol)
    return " · ".join(part for part in parts if part)


@cache
def tasks() -> dict[str, list[Line]]:
    """Task → a line for each registered model that has a figure of it; those of most models first."""
    found: dict[str, dict[str, dict[bool, Result]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted((CARDS / "results").glob("*.json")):
        for result in read_results(path):
            if not result.part and not result.unit:  # of the whole data, and a share
                found[task_of(result)][path.stem][result.ours] = result
    board = {task: list(_lines(models)) for task, models in found.items()}
    several = {task: lines for task, lines in board.items() if len(lines) > 1}
    return dict(sorted(several.items(), key=lambda one: (-len(one[1]), one[0])))


def _lines(models: dict[str, dict[bool, Result]]) -> Iterator[Line]:
    for name, figures in models.items():
        try:
            yield Line(get_spec(name), figures.get(True), figures.get(False))
        except UnknownModelError:
            continue  # the card of a reranker, or of a model that is no longer registered


def rows(
    task: str, name: str = "", reads: str = "anything", most_millions: float = 0, commercial: bool = False
) -> list[list[str]]:
    """The board of a task: what was measured here, best first, then the others, best first.

    Args:
        task: one of the list. name: a part of the model's name. reads: a modality that it must read, or "anything".
        most_millions: the most weights, in millions; 0 for any number. commercial: whether models go whose licence forbids commercial use.
    """
    if task not in tasks():
        raise user_error("Choose one of the listed tasks.")
    lines = [
        line
        for line in tasks()[task]
        if (name or "").strip().lower() in line.spec.name
        and (reads in ("", "anything") or reads in line.spec.modalities)
        and (not most_millions or line.spec.params <= most_millions * 1e6)
        and not (commercial and line.spec.non_commercial)
    ]
    # What was measured here first, the rest after it: the two are not compared.
    lines.sort(key=lambda line: (line.ours is None, -(line.ours or line.theirs).value, line.spec.name))
    return [_row(line) for line in lines]


def _row(line: Line) -> list[str]:
    spec = line.spec
    reads = ", ".join(one for one in MODALITIES if one in spec.modalities)
    return [spec.name, _figure(line.ours), _figure(line.theirs), f"{spec.params / 1e6:,.0f} M", spec.license, reads]


def _figure(result: Result | None) -> str:
    if result is None:
        return ""
    interval = (
        "" if result.low is None or result.high is None else f" ({100 * result.low:.1f} to {100 * result.high:.1f})"
    )
    return f"{100 * result.value:.1f}{interval}"


def table(*filters: Any) -> str:
    """`rows` as an HTML table."""
    kinds = ["n" if name in _NUMBERS else "t" for name in HEAD]
    head = "".join(f"<th class='{kind}'>{name}</th>" for kind, name in zip(kinds, HEAD, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td class='{kind}'>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows(*filters)
    )
    none = "" if body else "<p class='note'>No model on this board fits these filters.</p>"
    return (
        f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{none}<p class='note'>{NOTE}</p>"
    )


def tab() -> None:
    """Task, filters and the table."""
    names = list(tasks())
    with gr.Row():
        task = gr.Dropdown(names, value=names[0], label="Task", elem_id="board-task", scale=2, min_width=260)
        name = gr.Textbox(label="Name", placeholder="clip", max_length=100, min_width=140)
        reads = gr.Dropdown(["anything", *MODALITIES], value="anything", label="Reads", min_width=140)
        most = gr.Number(value=0, label="Million weights, at most (0: any)", minimum=0, min_width=180)
    commercial = gr.Checkbox(label="Only licences that do not forbid commercial use", elem_id="board-commercial")
    filters = [task, name, reads, most, commercial]
    board = gr.HTML(table(names[0]), css_template=TABLE_CSS, elem_id="board", padding=True)
    call: dict[str, Any] = {"fn": table, "inputs": filters, "outputs": board, "show_progress": "hidden"}
    task.change(**call, api_name="board", api_description="The figures of many models on one task, best first.")
    for field in filters[1:]:
        field.change(**call, api_visibility="private")
