"""Measured results → a card's tables, the Hub's model-index block and its `.eval_results` files."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zoo.evaluation.results import BEFORE, DIFFERENCE, FILE, Result

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

AUTHORS = "## Published numbers"
PUBLISHED = (
    "As published, not measured by us; by the authors of the model themselves where the source says nothing else. Figures "
    "of two protocols are not comparable."
)
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# An entry of .eval_results has one value and no name for it, so the first of these that was measured is taken.
_MAIN = ("ndcg@10", "accuracy", "spearman", "v_measure", "map", "recall@1", "hit@1", "recall@5", "recall@10", "mrr")


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
            parts.append("In brackets the 95 % bootstrap interval.")
    if measured := [result for result in results if result.unit]:
        rows = [
            [
                result.task,
                _named(result.dataset, result.protocol, result.part),
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


def _named(*names: str) -> str:
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


# ------------------------------------------------------------------------------------------------ the Hub's metadata


def stated(results: Iterable[Result]) -> list[Result]:
    """What metadata repeats: our shares of whole data sets, and of parts only where a data set has no whole.

    The authors' figures were measured on other files than these and stay in the text.
    """
    ours = [result for result in results if result.ours and not result.unit and result.part not in (BEFORE, DIFFERENCE)]
    whole = {(result.dataset, result.task) for result in ours if not result.part}
    return [result for result in ours if not result.part or (result.dataset, result.task) not in whole]


def metric_names(results: Iterable[Result]) -> list[str]:
    """Metrics of `stated`, each once."""
    return list(dict.fromkeys(result.metric for result in stated(results)))


def model_index(results: Iterable[Result]) -> "list[EvalResult]":
    """The figures of `stated` for the Hub's older form, the model-index block of the front matter."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=result.task,
            # The Hub wants an identifier here; a data pack of ours has none there, and its name is taken.
            dataset_type=result.dataset if _DATASET.fullmatch(result.dataset) else _slug(result.dataset),
            dataset_name=_named(result.dataset, result.protocol, result.part)
            + ("" if _DATASET.fullmatch(result.dataset) else " (not on the Hub)"),
            dataset_config=result.part or None,
            dataset_split=result.split or None,
            metric_type=result.metric,
            metric_name=f"{result.metric}, {result.direction}" if result.direction else None,
            metric_value=round(result.value, 6),
        )
        for result in stated(results)
    ]


def eval_results(results: Sequence[Result], repo: str) -> dict[str, str]:
    """The Hub's newer form: path in the repository → YAML, one file for each data set that is on the Hub.

    A data set without an identifier there has no file: an entry would name a leaderboard that does not exist. Of several
    metrics the usual one is given, since an entry holds one value and no name for it; the notes name it.
    """
    from huggingface_hub import EvalResultEntry, constants, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    best: dict[tuple[str, str, str, str], Result] = {}
    for result in stated(results):
        key = (result.dataset, result.task, result.part, result.protocol)
        if _DATASET.fullmatch(result.dataset) and (key not in best or _rank(result) < _rank(best[key])):
            best[key] = result
    entries: dict[str, list[EvalResultEntry]] = {}
    for result in best.values():
        facts = [
            result.metric,
            result.protocol,
            result.direction,
            f"{result.split} split" if result.split else "",
            result.notes,
        ]
        again = f"again with `{result.source}`" if result.source else ""
        entry = EvalResultEntry(
            dataset_id=result.dataset,
            task_id=result.part or "default",
            value=round(result.value, 6),
            date=result.date or None,
            source_url=f"{constants.ENDPOINT}/{repo}/blob/main/{FILE}",
            source_name=f"{FILE} of this repository",
            notes=", ".join(fact for fact in (*facts, again) if fact),
        )
        entries.setdefault(result.dataset, []).append(entry)
    return {
        f".eval_results/{_slug(dataset)}.yaml": yaml_dump(eval_result_entries_to_yaml(rows), sort_keys=False)
        for dataset, rows in entries.items()
    }


def _rank(result: Result) -> int:
    return _MAIN.index(result.metric) if result.metric in _MAIN else len(_MAIN)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "data"
