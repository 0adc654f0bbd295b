"""The report of a run: report.html and report.md, made from the files in the run's folder and from nothing else."""

import argparse
import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from zoo._version import __version__
from zoo.bulk.shards import write_atomically
from zoo.errors import ZooError
from zoo.evaluation.metrics import Difference, Interval
from zoo.evaluation.pairs import WAYS, PairScores, ScoresMismatchError, compare

from .report_examples import KINDS, keep_examples, kept_examples
from .report_page import Block, Cases, Code, Folded, Plots, Section, Table, Tiles, Words, to_html, to_markdown
from .report_plots import arrow, can_draw, curve, dumbbells, finite, planes, smooth

__all__ = ["keep_examples", "write_report"]

_DIALS = {
    "temperature": "Temperature",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm before clipping",
    "items_per_s": "Items per second",
    "wait_share": "Share of time waiting for data",
}
_HEADLINES = ("loss", "steps", "epochs", "batch_size", "lr", "seed")
_PACKAGES = ("torch", "transformers", "timm", "accelerate", "peft", "numpy")
_MOST = 20  # skipped items shown
Metrics = dict[str, list[float]]


class NoRunError(ZooError):
    """A folder holds no run that a report could be about."""


def write_report(out: Path) -> Path:
    """Writes report.html (one file, everything inside), report.md and the plots in `out/report`; returns the first.

    Reads, where they are there: recipe.json, data.json, scores.json, the metrics.jsonl and skipped.jsonl of all stages,
    and what `keep_examples` wrote. What is missing is left out. Without matplotlib there are no plots.

    Raises:
        NoRunError: none of these files is in `out`.
    """
    out = Path(out)
    recipe, data, scores = (_json(out / name) for name in ("recipe.json", "data.json", "scores.json"))
    stages, metrics = recipe.get("stages") or [recipe], read_metrics(out)
    if not (recipe or scores or metrics["step"]):
        raise NoRunError(f"{out} holds no recipe.json, scores.json or metrics.jsonl; name the folder given to --out")
    before, after = (PairScores.from_dict(scores[when]) if scores.get(when) else None for when in ("before", "after"))
    sections: list[Section] = [
        ("", _summary(before, after, metrics)),
        ("Retrieval on held-out pairs", _retrieval(before, after)),
        ("The space of the vectors", _space(before, after)),
        ("Examples", _examples(out, before or after)),
        ("Training", _training(metrics)),
        ("Recipe", _recipe(stages)),
        ("Data", _data(data, _skipped(out, before or after))),
        ("Versions", [Table(("package", "version"), list(_versions(out).items()), words=2)]),
    ]
    if data.get("command"):
        sections.append(("Run it again", [Code(str(data["command"]))]))
    if not can_draw():
        sections[0][1].append(
            Words('There are no plots: install matplotlib (pip install "embedding-zoo[train]").', "note")
        )
    sections = [(heading, blocks) for heading, blocks in sections if blocks]
    plots = [plot for _, blocks in sections for block in blocks if isinstance(block, Plots) for plot in block.plots]
    names = list(dict.fromkeys(str(stage["model"]) for stage in stages if stage.get("model")))
    title = f"Training {', '.join(names)}" if names else f"Training in {out.resolve().name}"
    subtitle = " · ".join(f"{name} {stages[0][name]}" for name in _HEADLINES if stages[0].get(name) is not None)
    (out / "report").mkdir(exist_ok=True)
    for plot in plots:
        (out / "report" / f"{plot.name}.png").write_bytes(plot.png)
    write_atomically(out / "report.md", to_markdown(title, subtitle, sections).encode("utf-8", "replace"))
    write_atomically(out / "report.html", to_html(title, subtitle, sections, out).encode("utf-8", "replace"))
    return out / "report.html"


def read_metrics(out: Path) -> Metrics:
    """Columns of all stages' metrics.jsonl by name, NaN where absent; "step" goes on from stage to stage.

    A step logged twice, as by a run that was killed and resumed, counts as it was logged last; half lines do not count.
    """
    rows: list[dict[str, Any]] = []
    for path in (out / "metrics.jsonl", *sorted(out.glob("stage-*/metrics.jsonl"), key=_stage_number)):
        offset, mine = rows[-1]["step"] if rows else 0, {}
        for row in _json_lines(path):
            if isinstance(row.get("step"), int):
                mine[row["step"]] = {**row, "step": row["step"] + offset}
        rows += [mine[step] for step in sorted(mine)]
    names = ("step", "loss", *_DIALS)
    return {name: [value if _is_number(value := row.get(name)) else math.nan for row in rows] for name in names}


def _summary(before: PairScores | None, after: PairScores | None, metrics: Metrics) -> list[Block]:
    tiles = []
    changes = _changes(before, after)
    last = after or before
    for way in WAYS if last is not None else ():
        ranking = getattr(last, way)
        measure, new = next(iter(ranking.intervals().items()))
        old = f"{_percent(getattr(before, way).intervals()[measure])} → " if changes else ""
        tiles.append((f"{_way(way, last)}, {measure}", f"{old}{_percent(new)}", f"{len(ranking):,} queries"))
    if finite(metrics["loss"]):
        soft = smooth(_finite(metrics["loss"]))
        tiles.append(("Loss, smoothed", f"{soft[0]:.3g} → {soft[-1]:.3g}", f"{metrics['step'][-1]:,} steps"))
    if finite(metrics["items_per_s"]):
        waiting = _finite(metrics["wait_share"])
        waited = f"{waiting.mean():.1%} of the time waiting for data" if len(waiting) else ""
        tiles.append(("Items per second", f"{np.median(_finite(metrics['items_per_s'])):,.0f}", waited))
    return [*([Words(_verdict(changes, last), "verdict")] if changes else []), *([Tiles(tiles)] if tiles else [])]


def _verdict(changes: Mapping[str, Mapping[str, Difference]], last: PairScores) -> str:
    told = []
    for way in WAYS:
        measure, change = next(iter(changes[way].items()))
        verb = "rose" if change.low > 0 else "fell" if change.high < 0 else "did not clearly change"
        told.append(
            f"{_way(way, last)} {measure} {verb} ({100 * change.value:+.1f} points, 95 % interval "
            f"{100 * change.low:+.1f} to {100 * change.high:+.1f})"
        )
    return "; ".join(told) + "."


def _retrieval(before: PairScores | None, after: PairScores | None) -> list[Block]:
    runs = {name: scores for name, scores in (("before", before), ("after", after)) if scores is not None}
    if not runs:
        return [Words("No pairs were held out, so nothing is known but the loss. Hold some out: holdout=0.1.")]
    first = next(iter(runs.values()))
    changes = _changes(before, after)
    found = {name: {way: getattr(scores, way).intervals() for way in WAYS} for name, scores in runs.items()}
    rows, bars = [], {name: {} for name in runs}
    for way in WAYS:
        for measure in getattr(first, way).measures:
            cells = [_with_interval(found[name][way][measure]) for name in runs]
            if changes:
                change = changes[way][measure]
                points = f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
                cells += [points, f"{change.share:.3f}" if change.share >= 0.001 else "< 0.001"]
            rows.append([_way(way, first), measure, *cells])
        first_kind = getattr(first, way).measures[0].partition("@")[0]
        for name in runs:
            kept = {m: v for m, v in found[name][way].items() if m.startswith(f"{first_kind}@")}
            bars[name].update({f"{_way(way, first)}, {measure}": value for measure, value in kept.items()})
    head = ["", "measure", *(f"{name}, %" for name in runs), *(["difference, points", "chance"] if changes else [])]
    chances = ", ".join(f"{_way(way, first)} {_guess(getattr(first, way)):.1%}" for way in WAYS)
    note = (
        f"{first.pairs:,} pairs. In brackets 95 % bootstrap intervals over the queries; the differences are paired, query "
        f"by query, and “chance” is how often resampling alone gives the other sign, two-sided. Guessing would be right "
        f"at place 1: {chances}. hit@k: a right answer among the first k; recall@k: the share of the right ones there."
    )
    plots = [Plots([dumbbells(bars)])] if can_draw() else []
    mismatch = (
        [] if changes or len(runs) < 2 else [Words("Before and after are not over the same pairs: no differences.")]
    )
    return [*plots, *mismatch, Table(head, rows, words=2), Words(note, "note")]


def _space(before: PairScores | None, after: PairScores | None) -> list[Block]:
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
        "al., 2022); the picture shows up to 300 pairs on their two main axes, found anew for each run."
    )
    return [*([Plots(plots, "pair")] if plots else []), Table(("", *runs), rows), Words(note, "note")]


def _examples(out: Path, scores: PairScores | None) -> list[Block]:
    found = kept_examples(out)
    blocks: list[Block] = []
    for way, kinds in found.items():
        for kind, title in KINDS.items():
            if cases := kinds.get(kind):
                blocks.append(Cases(f"{_way(way, scores)}: {title[0].lower()}{title[1:]}", cases))
    return blocks


def _training(metrics: Metrics) -> list[Block]:
    if not metrics["step"]:
        return [Words("No step was logged.")]
    if not can_draw():
        ends = [(title, _finite(metrics[name])) for name, title in (("loss", "Loss"), *_DIALS.items())]
        rows = [
            [title, f"{v[0]:.3g}", f"{v[-1]:.3g}", f"{v.min():.3g}", f"{v.max():.3g}"] for title, v in ends if len(v)
        ]
        return [Table(("", "first", "last", "lowest", "highest"), rows)]
    steps = metrics["step"]
    wide = [curve("loss", "Loss", steps, metrics["loss"], wide=True)] if finite(metrics["loss"]) else []
    small = [curve(name, title, steps, metrics[name]) for name, title in _DIALS.items() if finite(metrics[name])]
    return [Plots(wide), Plots(small, "small")]


def _recipe(stages: Sequence[Mapping[str, Any]]) -> list[Block]:
    blocks: list[Block] = []
    for number, stage in enumerate(stages, start=1):
        rows = [[name, value] for name, value in _flat(stage) if value not in ("", "None")]
        if rows:
            title = f"Stage {number}, {stage.get('name', '')}" if len(stages) > 1 else "All fields"
            blocks.append(Folded(title, Table(("field", "value"), rows, words=2)))
    return blocks


def _data(data: Mapping[str, Any], skipped: list[str]) -> list[Block]:
    rows = [[name, value] for name, value in _flat(data) if name != "command"]
    blocks: list[Block] = [Table(("", ""), rows, words=2)] if rows else []
    if skipped:
        more = f" (the first {_MOST} are shown)" if len(skipped) > _MOST else ""
        shown = Table(("what and why",), [[text] for text in skipped[:_MOST]])
        blocks.append(Folded(f"{len(skipped):,} items were skipped{more}", shown))
    return blocks or [Words("Nothing was noted about the data.")]


def _skipped(out: Path, scores: PairScores | None) -> list[str]:
    """What training and evaluation left out, a line each."""
    files = [*sorted(out.glob("skipped*.jsonl")), *sorted(out.glob("stage-*/skipped*.jsonl"), key=_stage_number)]
    lines = [": ".join(map(str, entry.values())) for path in files for entry in _json_lines(path)]
    return [*dict.fromkeys(lines), *(f"held out, {text}" for text in (scores.skipped if scores is not None else ()))]


def _versions(out: Path) -> dict[str, str]:
    """Those of the run: noted when its first report is written, and read afterwards."""
    path = out / "report" / "versions.json"
    if path.is_file():
        return _json(path)
    found = {"embedding-zoo": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(found, indent=2).encode())
    return found


def _changes(before: PairScores | None, after: PairScores | None) -> dict[str, dict[str, Difference]]:
    """The paired differences; empty where there is nothing to compare."""
    if before is None or after is None:
        return {}
    try:
        return compare(before, after)
    except ScoresMismatchError:
        return {}


def _way(way: str, scores: PairScores | None) -> str:
    sides = scores.sides if scores is not None else ("", "")
    left, right = sides if sides[0] != sides[1] else ("query", "target")
    return f"{left} → {right}" if way == "forward" else f"{right} → {left}"


def _guess(ranking: Any) -> float:
    return float(ranking.right.mean() / ranking.candidates)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} %"


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _stage_number(path: Path) -> tuple[int, str]:
    number = path.parent.name.split("-")[1]
    return (int(number) if number.isdecimal() else 0), str(path)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NoRunError(f"{path} is no whole JSON file ({error}); delete it to make the report without it") from error
    return facts if isinstance(facts, dict) else {}


def _json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.training.report",
        description="Makes the report of a run again, from the files in its folder.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what was given to --out")
    options = parser.parse_args(arguments)
    try:
        print(write_report(options.folder))
    except (ZooError, OSError) as error:
        print(f"zoo.training.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
