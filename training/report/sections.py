"""The sections of a report: scores, examples, curves and facts as blocks of text, tables and drawings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.errors import ScoresMismatchError
from zoo.evaluation.metrics import Difference, Interval
from zoo.evaluation.pairs import WAYS, PairScores, compare
from zoo.tables.pairs import RIGHT

from ..verdict import GRADED, HOW, Line, Scores, Verdict, graded_lines, reranked_lines, way_name
from .examples import KINDS
from .page import Block, Case, Cases, Folded, Paragraph, Plots, Table, Tiles
from .plots import arrow, can_draw, curve, dumbbells, finite, planes, smooth

DIALS = {
    "temperature": "Temperature",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm before clipping",
    "items_per_s": "Items per second",
    "wait_share": "Share of time waiting for data",
}
SMOOTH = ("temperature", "lr")  # set or learned without noise
_MOST = 20  # skipped items shown
Metrics = dict[str, list[float]]  # by name, a value for each logged step, NaN where there is none


def summary(before: Scores, after: Scores, metrics: Metrics, verdict: Verdict | None, kept: str) -> list[Block]:
    tiles = []
    changes = _changes(before.retrieval, after.retrieval)
    last = after.retrieval or before.retrieval
    for way in WAYS if last is not None else ():
        ranking = getattr(last, way)
        measure, new = next(iter(ranking.intervals().items()))
        old = f"{_percent(getattr(before.retrieval, way).intervals()[measure])} → " if changes else ""
        tiles.append((f"{way_name(way, last)}, {measure}", f"{old}{_percent(new)}", f"{len(ranking):,} queries"))
    if finite(metrics["loss"]):
        soft = smooth(_finite(metrics["loss"]))
        tiles.append(("Loss, smoothed", f"{soft[0]:.3g} → {soft[-1]:.3g}", f"{metrics['step'][-1]:,.0f} steps"))
    if finite(metrics["items_per_s"]):
        waiting = _finite(metrics["wait_share"])
        waited = f"{100 * waiting.mean():.1f} % of the time waiting for data" if len(waiting) else ""
        tiles.append(("Items per second", f"{np.median(_finite(metrics['items_per_s'])):,.0f}", waited))
    graded = [scores.graded.spearman() for scores in (before, after) if scores.graded is not None]
    if graded:
        count = len(after.graded or before.graded)  # type: ignore[arg-type]
        tiles.append((GRADED, " → ".join(map(_percent, graded)), f"{count:,} graded pairs"))
    for line in reranked_lines(before, after):
        queries = f"{len(after.reranked):,} queries"  # type: ignore[arg-type]
        tiles.append((line.measure, f"{_percent(line.before)} → {_percent(line.after)}", queries))
    said = [Paragraph(verdict.text, f"verdict {verdict.kind.split()[0]}")] if verdict is not None else []
    if verdict is None or verdict.kind != "too few":  # of which nothing can be said one way either
        said += [Paragraph(told, "note") for told in _verdicts(changes, last)]
    return [
        *said,
        *([Paragraph(kept, "note")] if kept else []),
        *([Tiles(tiles)] if tiles else []),
    ]


def _verdicts(changes: Mapping[str, Mapping[str, Difference]], last: PairScores | None) -> list[str]:
    told = []
    for way, by_measure in changes.items():
        measure, change = next(iter(by_measure.items()))
        verb = "rose" if change.low > 0 else "fell" if change.high < 0 else "did not clearly change"
        points = f"{100 * change.value:+.1f} points, 95 % interval {100 * change.low:+.1f} to {100 * change.high:+.1f}"
        told.append(f"{way_name(way, last)}: {measure} {verb} ({points}).")
    return told


def held_out(before: Scores, after: Scores) -> list[Block]:
    if before == after == Scores():
        return [Paragraph(f"No pairs were held out, so nothing is known but the loss; {HOW}.")]
    rows, reranked = ([_cells(line) for line in lines(before, after)] for lines in (graded_lines, reranked_lines))
    note = (
        f"Graded pairs: Spearman's correlation, times 100, of the model's similarity with the grades. Below, a pair counts as "
        f"right from a grade of {RIGHT} on."
    )
    head = ("", "before", "after", "difference")
    table = [Table(head, rows), Paragraph(note, "note")] if rows else []
    if reranked:
        each = after.reranked.candidates  # type: ignore[union-attr]
        many = f"{each.min():,}" if each.min() == each.max() else f"{each.min():,} to {each.max():,}"
        told = (
            f"{len(each):,} queries, each with its document among {many} candidates: its hard negatives, then "
            "documents of other held-out pairs. MRR@10: 1 over the place of the right one, 0 below the tenth; ties count against "
            "it. In brackets 95 % bootstrap intervals over the queries; the differences are paired, query by query."
        )
        table += [Table(head, reranked), Paragraph(told, "note")]
    return [*table, *_retrieval(before.retrieval, after.retrieval)]


def _cells(line: Line) -> list[str]:
    return [line.measure, _with_interval(line.before), _with_interval(line.after), _points(line.difference)]


def _retrieval(before: PairScores | None, after: PairScores | None) -> list[Block]:
    runs = {name: scores for name, scores in (("before", before), ("after", after)) if scores is not None}
    if not runs:
        return []
    first = next(iter(runs.values()))
    changes = _changes(before, after)
    found = {name: {way: getattr(scores, way).intervals() for way in WAYS} for name, scores in runs.items()}
    rows, bars = [], {name: {} for name in runs}
    for way in WAYS:
        for measure in getattr(first, way).measures:
            cells = [_with_interval(found[name][way][measure]) for name in runs]
            if changes:
                change = changes[way][measure]
                cells += [_points(change), f"{change.share:.3f}" if change.share >= 0.001 else "< 0.001"]
            rows.append([way_name(way, first) if measure == getattr(first, way).measures[0] else "", measure, *cells])
        first_kind = getattr(first, way).measures[0].partition("@")[0]
        for name in runs:
            kept = {m: v for m, v in found[name][way].items() if m.startswith(f"{first_kind}@")}
            bars[name].update({f"{way_name(way, first)}, {measure}": value for measure, value in kept.items()})
    head = ["", "measure", *(f"{name}, %" for name in runs), *(["difference, points", "by chance"] if changes else [])]
    chances = ", ".join(f"{way_name(way, first)} {100 * _guess(getattr(first, way)):.1f} %" for way in WAYS)
    note = (
        f"{first.pairs:,} pairs. In brackets 95 % bootstrap intervals over the queries; the differences are paired, query "
        f"by query, and “by chance” is how often resampling alone gives the other sign, two-sided. Guessing would be right "
        f"at place 1: {chances}. hit@k: a right answer among the first k; recall@k: the share of the right ones there."
    )
    plots = [Plots([dumbbells(bars)])] if can_draw() else []
    mismatch = (
        [] if changes or len(runs) < 2 else [Paragraph("Before and after are not over the same pairs: no differences.")]
    )
    return [*plots, *mismatch, Table(head, rows, words=2), Paragraph(note, "note")]


def space(before: PairScores | None, after: PairScores | None) -> list[Block]:
    runs = {name: scores for name, scores in (("before", before), ("after", after)) if scores is not None}
    if not runs:
        return []
    known = {"alignment": "Alignment", "uniformity": "Uniformity", "gap": "Modality gap"}
    rows = [
        [title, *("" if getattr(s, name) is None else f"{getattr(s, name):.3f}" for s in runs.values())]
        for name, title in known.items()
        if any(getattr(s, name) is not None for s in runs.values())
    ]
    plots = []
    if can_draw():
        points = {n: (s.uniformity, s.alignment) for n, s in runs.items() if math.isfinite(s.uniformity)}
        plots += [arrow(points.get("before"), points.get("after"))] if points else []
        clouds = {n: s.plane for n, s in runs.items() if s.plane is not None and s.gap is not None}
        if clouds:
            gaps = {name: float(runs[name].gap or 0) for name in clouds}
            plots.append(planes(clouds, gaps, next(iter(runs.values())).sides))
    note = (
        "Alignment: mean squared distance of the pairs, lower is closer. Uniformity: how evenly the vectors fill the "
        "sphere, lower is more evenly (Wang & Isola, 2020). Modality gap: distance of the two sides' centroids (Liang et "
        "al., 2022); the image shows up to 300 pairs on their two main axes, found anew for each run."
    )
    return [*([Plots(plots, "pair")] if plots else []), Table(("", *runs), rows), Paragraph(note, "note")]


def examples(found: Mapping[str, Mapping[str, Sequence[Case]]], scores: PairScores | None) -> list[Block]:
    blocks: list[Block] = []
    for way, kinds in found.items():
        for kind, title in KINDS.items():
            if cases := kinds.get(kind):
                blocks.append(Cases(f"{way_name(way, scores)}: {title[0].lower()}{title[1:]}", cases))
    return blocks


def training(metrics: Metrics, evaluations: Sequence[Mapping[str, Any]]) -> list[Block]:
    if not metrics["step"]:
        return [Paragraph("No step was logged.")]
    return [*_judged(evaluations), *_curves(metrics)]


def _judged(evaluations: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The held-out figure over the run."""
    if len(evaluations) < 2:
        return []
    name = evaluations[-1]["measure"]
    steps, values = zip(
        *((row["step"], 100 * row["figure"]) for row in evaluations if row["measure"] == name), strict=True
    )
    if can_draw():
        return [Plots([curve("held_out", f"Held out: {name}", steps, values, noisy=False, wide=True)])]
    return [Table(("step", name), [[f"{step:,}", f"{value:.1f}"] for step, value in zip(steps, values, strict=True)])]


def _curves(metrics: Metrics) -> list[Block]:
    if not can_draw():
        ends = [(title, _finite(metrics[name])) for name, title in (("loss", "Loss"), *DIALS.items())]
        rows = [
            [title, f"{v[0]:.3g}", f"{v[-1]:.3g}", f"{v.min():.3g}", f"{v.max():.3g}"] for title, v in ends if len(v)
        ]
        return [Table(("", "first", "last", "lowest", "highest"), rows)]
    steps = metrics["step"]
    wide = [curve("loss", "Loss", steps, metrics["loss"], wide=True)] if finite(metrics["loss"]) else []
    small = [
        curve(name, title, steps, metrics[name], noisy=name not in SMOOTH)
        for name, title in DIALS.items()
        if finite(metrics[name])
    ]
    return [Plots(wide), Plots(small, "small")]


def recipe(stages: Sequence[Mapping[str, Any]]) -> list[Block]:
    blocks: list[Block] = []
    for number, stage in enumerate(stages, start=1):
        rows = [[name, value] for name, value in _flat(stage) if value not in ("", "None")]
        if rows:
            title = f"Stage {number}, {stage.get('name', '')}" if len(stages) > 1 else "All fields"
            blocks.append(Folded(title, Table(("field", "value"), rows, words=2)))
    return blocks


def data(data: Mapping[str, Any], skipped: list[str]) -> list[Block]:
    rows = [[name, value] for name, value in _flat(data) if name != "command"]
    blocks: list[Block] = [Table(("", ""), rows, words=2)] if rows else []
    if skipped:
        more = f" (the first {_MOST} are shown)" if len(skipped) > _MOST else ""
        shown = Table(("what and why",), [[text] for text in skipped[:_MOST]])
        blocks.append(Folded(f"Skipped items: {len(skipped):,}{more}", shown))
    return blocks or [Paragraph("Nothing was noted about the data.")]


def _changes(before: PairScores | None, after: PairScores | None) -> dict[str, dict[str, Difference]]:
    """The paired differences; empty where there is nothing to compare."""
    if before is None or after is None:
        return {}
    try:
        return compare(before, after)
    except ScoresMismatchError:
        return {}


def _guess(ranking: Any) -> float:
    return float(ranking.right.mean() / ranking.candidates)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} %"


def _points(change: Difference) -> str:
    return f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def _with_interval(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _flat(facts: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as (dotted name, text); lists of plain values on one line."""
    if isinstance(facts, Mapping):
        return [
            row for name, value in facts.items() for row in _flat(value, f"{prefix}.{name}" if prefix else str(name))
        ]
    if isinstance(facts, list) and any(isinstance(value, Mapping) for value in facts):
        return [row for place, value in enumerate(facts, start=1) for row in _flat(value, f"{prefix}.{place}")]
    return [(prefix, ", ".join(map(str, facts)) if isinstance(facts, list) else str(facts))]


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return array[np.isfinite(array)]
